"""Answers that are not whole, and reasoning: stored as what they are, counted, never scored and never trained on."""

import json
from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import select, update
from support import RUN, Workspace, good
from teachers.endpoint import Endpoint, Reply, answer, error

from engine.config import run_file
from engine.models.chat_template import encode
from engine.models.loading import load_tokenizer
from engine.pipeline.run_view import reader
from engine.pipeline.stages import distill, evaluate
from engine.report import export
from engine.scorers.kinds import exact_answer
from storage import datasets, schema, scores
from storage.records import Prompt, Response, Status

REFUSAL = "I'm sorry, I can't help with that."
THOUGHT = "Letter by letter."
FAULTS: tuple[Reply | None, ...] = (
    None,
    answer("a right answer that is cut", "length"),
    answer("  "),
    answer(REFUSAL),
    error(400, "this request is broken"),
)
STATUSES = ("ok", "truncated", "empty", "refused", "error")
FINISH = {"truncated": "length", "error": "error"}


def mixed(body: dict[str, Any], number: int) -> Reply:
    """By the prompt: the right answer after some reasoning, or one of the faults."""
    fault = FAULTS[sum(body["messages"][-1]["content"].encode()) % len(FAULTS)]
    if fault is not None:
        return fault
    right = good(body, number)
    return Reply(body=right.body.replace(b'"role"', f'"reasoning_content": "{THOUGHT}", "role"'.encode()))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run of one such teacher, to its dataset."""
    start, end = RUN.index("  - {name: brief"), RUN.index("prompts:")
    workspace = Workspace(tmp_path_factory.mktemp("run"))
    with Endpoint(mixed) as server:
        teacher = f"  - {{name: far, backend: openai, model: m, base_url: {server.url}}}\n"
        text = RUN[:start] + teacher + RUN[end:]
        workspace.write(
            text.replace("generation: {", "generation: {max_attempts: 1, ") + "strategies: [random]\n"
        )
        workspace.finish("build_dataset")
    return workspace


def test_only_whole_answers_are_scored_and_trained_on_and_the_others_are_counted(ran: Workspace) -> None:
    response, score = schema.ResponseRow, schema.ScoreRow
    with ran.open() as store:
        with store.read() as connection:
            stored = connection.execute(response.__table__.select()).mappings().all()
            scored = connection.execute(select(score.response_id)).scalars().all()
        (dataset,) = datasets.newest_first(store)
        kept = [row.response.id for row in datasets.rows(store, dataset.id, limit=1000)]
    found = Counter(row["status"] for row in stored)
    assert set(found) == set(STATUSES)
    for row in stored:
        assert row["finish_reason"] == FINISH.get(row["status"], "stop")
        assert row["error"] == ("HTTP 400: this request is broken" if row["status"] == "error" else "")
        assert "broken" not in row["text"]  # an error message is never an answer
    whole = {row["id"] for row in stored if row["status"] == "ok"}
    assert Counter(scored) == dict.fromkeys(whole, 2)  # right or wrong, and learnability
    assert set(kept) == whole
    assert dataset.manifest["left_out"] == {status: found[status] for status in STATUSES[1:]}


def test_reasoning_is_kept_apart_and_neither_scored_nor_learned(ran: Workspace) -> None:
    response, score, scorer = schema.ResponseRow, schema.ScoreRow, schema.ScorerRow
    tokenizer = load_tokenizer("zoo:student")
    with ran.open() as store:
        context = reader(store, run_file.load(ran.folder / "run.yaml"))
        (dataset,) = datasets.newest_first(store)
        learned = list(distill._rows(context, "random", dataset))
        with store.read() as connection:
            counted = connection.execute(
                select(response.text, response.reasoning, score.count)
                .join(score, score.response_id == response.id)
                .join(scorer, scorer.id == score.scorer_id)
                .where(scorer.kind == "learnability")
            ).all()
    texts = [text for _, text in learned]
    assert sorted(texts) == sorted(text for text, _, _ in counted)
    assert not any(THOUGHT in text for text in texts)
    for text, reasoning, count in counted:
        assert reasoning == THOUGHT
        encoded = encode(tokenizer, ({"role": "user", "content": "x"},), text)
        assert count == len(encoded.ids) - encoded.boundary


def test_reasoning_is_shown_where_the_run_file_says_so_and_asks_no_teacher_again(ran: Workspace) -> None:
    text = (ran.folder / "run.yaml").read_text()
    before = ran.counts()["responses"]
    with ran.open() as store, store.write(None) as connection:
        # One answer was given without thinking: its score stays valid.
        plain = connection.execute(
            select(schema.ResponseRow.id).where(schema.ResponseRow.status == "ok").limit(1)
        ).scalar_one()
        connection.execute(
            update(schema.ResponseRow).where(schema.ResponseRow.id == plain).values(reasoning="")
        )
        connection.execute(
            update(schema.ScoreRow)
            .where(
                schema.ScoreRow.response_id == plain,
                schema.ScoreRow.scorer_id
                == select(schema.ScorerRow.id)
                .where(schema.ScorerRow.kind == "learnability")
                .scalar_subquery(),
            )
            .values(value=-123.0)
        )
    ran.write(text + "reasoning: {learnability: true, dataset: true}\n", "open.yaml")
    ran.finish("build_dataset", "open.yaml")
    assert ran.counts()["responses"] == before
    tokenizer = load_tokenizer("zoo:student")
    with ran.open() as store:
        context = reader(store, run_file.load(ran.folder / "open.yaml"))
        dataset = datasets.find(store, context.identity.dataset_sha("random"))
        assert dataset is not None
        learned = [text for _, text in distill._rows(context, "random", dataset)]
        export.export(store, dataset, "messages", ran.folder / "open.jsonl")
        scored = scores.find_scorer(
            store, "learnability", context.identity.scorer("learnability").identity, context.student_id
        )
        with store.read() as connection:
            rows = connection.execute(
                select(schema.ScoreRow.response_id, schema.ScoreRow.value, schema.ScoreRow.count).where(
                    schema.ScoreRow.scorer_id == scored
                )
            ).all()
            found = sorted(row.count for row in rows)
        assert [row.value for row in rows if row.response_id == plain] == [-123.0]
    exported = [json.loads(line)["messages"][-1]["content"] for line in (ran.folder / "open.jsonl").open()]
    assert sorted(exported) == sorted(learned)
    assert sum(not text.startswith(f"<think>\n{THOUGHT}\n</think>\n\n") for text in learned) == 1
    question = ({"role": "user", "content": "x"},)
    encoded = [encode(tokenizer, question, text) for text in learned]
    assert found == sorted(len(row.ids) - row.boundary for row in encoded)


def said(key: int, text: str, status: Status) -> Response:
    finish = "length" if status == "truncated" else "stop"
    return Response(key, text, status, finish, prompt_tokens=1, completion_tokens=4, latency_s=0.0)


def test_a_student_that_does_not_stop_is_wrong_and_seen() -> None:
    asked = {key: Prompt(({"role": "user", "content": "x"},), "sun", {"kind": "text"}) for key in range(4)}
    with closing(exact_answer.create({})) as scorer:
        given = [
            said(0, "sun", "ok"),
            said(1, "moon", "ok"),
            said(2, "sun", "truncated"),
            said(3, " ", "empty"),
        ]
        rows = [evaluate._judge(scorer, asked[one.key], one) for one in given]
    summary = evaluate.summarise(rows)
    assert (summary["n"], summary["accuracy"], summary["stops"]) == (4, 0.25, 0.75)
