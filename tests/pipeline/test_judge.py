"""Whole runs whose quality a judge says, by the real engine (processes that are killed) and a real local server."""

import json
import re
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import func, select
from support import RUN, Workspace, wait_until
from teachers.endpoint import Endpoint, Reply, answer, error

from engine.job import scorer_ids
from engine.pipeline.run_view import reader, run_of
from storage import jobs, schema
from storage.errors import PersynError

JUDGE = (
    "{scorer: judge, model: m, base_url: %s, price: {output: 100}, "
    "endpoint: {retry: {cooldown: 0.01, probes: 2}}%s}"
)
MORE = "".join(f"  - {{name: {name}, model: 'zoo:{name}'}}\n" for name in ("lister", "adder"))


def rating(body: dict[str, Any], number: int) -> Reply:
    """The shorter the answer, the better; as a rating, or of two."""
    text = body["messages"][-1]["content"]
    lengths = [len(found) for found in re.findall(r"<<answer.*?>>\n(.*?)\n<<end of answer", text, re.DOTALL)]
    if len(lengths) == 2:
        return answer(f"Winner: [[{'A' if lengths[0] < lengths[1] else 'B'}]]")
    return answer(f"Rating: [[{max(1, 10 - lengths[0] // 4)}]]")


@pytest.fixture
def server():
    with Endpoint(rating) as made:
        yield made


def verdicts(workspace: Workspace) -> list[Any]:
    """(prompt, value, status, detail) of all that the judge has said."""
    row = schema.ScoreRow
    with workspace.open() as store, store.read() as connection:
        return connection.execute(
            select(schema.ResponseRow.prompt_id, row.value, row.status, row.detail)
            .join(schema.ResponseRow, schema.ResponseRow.id == row.response_id)
            .join(schema.ScorerRow, schema.ScorerRow.id == row.scorer_id)
            .where(schema.ScorerRow.kind == "judge")
        ).all()


def paid(workspace: Workspace) -> int:
    """Replies whose verdicts do not all stand yet."""
    with workspace.open() as store, store.read() as connection:
        return connection.execute(select(func.count()).select_from(schema.VerdictRow)).scalar_one()


def job(workspace: Workspace) -> Any:
    with workspace.open() as store:
        return jobs.recent(store)[0]


def test_a_judge_beside_exact_answers_to_the_end_through_kill_9(workspace, server) -> None:
    release = threading.Event()
    server.script = lambda body, number: (
        rating(body, number) if number < 12 else Reply(body=rating(body, number).body, hold=release)
    )
    weighed = f"[{{scorer: exact_answer, weight: 0.6}}, {JUDGE % (server.url, ', weight: 0.4')}]"
    workspace.write(RUN + f"quality: {{scorers: {weighed}}}\n")
    process = workspace.start("run", workspace.folder / "run.yaml")

    def stuck() -> bool:
        try:
            return workspace.database.exists() and len(verdicts(workspace)) == 12
        except PersynError:
            return False

    wait_until(process, stuck)
    assert job(workspace).progress["rows"]["judge"]["done"] <= 12
    process.kill()
    process.communicate()
    release.set()
    before = len(server.requests)
    report = workspace.finish()
    assert report["strategies"][0]["accuracy_after"] is not None
    found = verdicts(workspace)
    assert {row.status for row in found} == {"ok"}
    assert len({row.value for row in found}) > 2
    assert len(server.requests) - before == len(found) - 12


def test_pairs_are_a_score_of_the_prompts_that_all_teachers_answered(workspace, server) -> None:
    workspace.write(
        RUN.replace("prompts:", MORE + "prompts:") + f"quality: {JUDGE % (server.url, ', mode: pairs')}\n"
    )
    workspace.finish("build_dataset")
    found = verdicts(workspace)
    by_prompt = Counter(row.prompt_id for row in found)
    assert len(by_prompt) <= 28
    assert max(by_prompt.values()) == 4
    for prompt in by_prompt:
        values = [row.value for row in found if row.prompt_id == prompt and row.value is not None]
        # What one answer wins another loses.
        assert sum(values) == pytest.approx(len(values) / 2)
    sent = len(server.requests)
    workspace.finish("build_dataset")
    assert len(server.requests) == sent
    # Another teacher to win against is another score.
    text = (workspace.folder / "run.yaml").read_text()
    workspace.write(text.replace("prompts:", "  - {name: scholar, model: 'zoo:scholar'}\nprompts:"))
    workspace.finish("score")
    assert len(verdicts(workspace)) >= 2 * len(found)


def test_the_budget_counts_the_judge_and_a_larger_one_goes_on(workspace, server) -> None:
    text = RUN + f"quality: {JUDGE % (server.url, ', max_tokens: 20')}\n"
    workspace.write(text.replace("generation: {", "generation: {budget_usd: 0.0102, "))
    code, paused, _ = workspace.work("score")
    assert (code, paused.state) == (3, "paused")
    assert "the judge `m`" in paused.error
    paid = verdicts(workspace)
    assert sum(row.detail["cost"] for row in paid) == pytest.approx(len(server.requests) * 5e-4)
    assert 0.007 < len(paid) * 5e-4 <= 0.0102
    # A program is told as much as a person.
    told = workspace.call("run", workspace.folder / "run.yaml", "--until", "score", "--json")
    said = json.loads(told.stdout)
    assert (told.returncode, said["state"], said["stage"]) == (3, "paused", "score")
    assert "the judge `m`" in said["error"]
    assert said["cost"]["verdicts"] == {"judge": pytest.approx(len(paid) * 5e-4)}
    # Nothing more is spent by another try, and a larger budget asks only for what is missing.
    assert workspace.work("score")[0] == 3
    assert len(server.requests) == len(paid)
    workspace.write(text.replace("generation: {", "generation: {budget_usd: 1, "))
    workspace.finish("score")
    assert len(verdicts(workspace)) == len(server.requests)


def test_comparisons_that_were_paid_for_survive_a_kill_and_the_report_says_what_all_cost(
    workspace, server
) -> None:
    release, answered = threading.Event(), 9
    server.script = lambda body, number: (
        rating(body, number) if number < answered else Reply(body=rating(body, number).body, hold=release)
    )
    workspace.write(
        RUN.replace("prompts:", MORE + "prompts:") + f"quality: {JUDGE % (server.url, ', mode: pairs')}\n"
    )
    process = workspace.start("run", workspace.folder / "run.yaml", "--until", "route")

    def stuck() -> bool:
        with suppress(PersynError, LookupError):
            if workspace.database.exists() and paid(workspace) == answered:
                shown = job(workspace).progress["rows"]["judge"]["in_flight"]
                return 0 < shown == len(server.requests) - answered
        return False

    wait_until(process, stuck)
    process.kill()
    process.communicate()
    lost = len(server.requests) - answered
    release.set()
    report = workspace.run("--until", "route")
    questions = [text for row in verdicts(workspace) for text in row.detail.get("texts", ())]
    assert len(server.requests) == len(questions) + lost
    assert report["cost"]["verdicts"]["judge"] == pytest.approx(len(questions) * 5e-4)
    assert paid(workspace) == 0  # nothing is kept twice
    shown = workspace.call("run", workspace.folder / "run.yaml", "--until", "route")
    assert f"${len(questions) * 5e-4:,.4f} for judge" in " ".join((shown.stdout + shown.stderr).split())


def test_a_verdict_that_the_endpoint_fails_is_typed_stops_nothing_and_can_be_asked_for_again(
    workspace, server
) -> None:
    poison: list[str] = []

    def script(body: dict[str, Any], number: int) -> Reply:
        text = body["messages"][-1]["content"]
        said = re.search(r"<<answer .*?>>\n(.*?)\n<<end", text, re.DOTALL)[1]
        if not poison:
            poison.append(said)
        return error(400, "cannot digest it") if said == poison[0] else rating(body, number)

    server.script = script
    text = RUN + f"quality: {JUDGE % (server.url, '')}\n"
    workspace.write(text.replace("generation: {", "generation: {max_attempts: 2, "))
    workspace.run("--until", "score")
    bad = [row for row in verdicts(workspace) if row.status != "ok"]
    assert {row.status for row in bad} == {"error"}
    assert {row.detail["attempts"] for row in bad} == {2}
    assert "cannot digest it" in bad[0].detail["reason"]
    with workspace.open() as store:
        assert scorer_ids.failed(reader(store, run_of(jobs.recent(store)[0]))) == len(bad)
    sent = len(server.requests)
    workspace.run("--until", "score")
    assert len(server.requests) == sent
    server.script = rating
    workspace.write(text.replace("generation: {", "generation: {max_attempts: 3, "))
    workspace.run("--until", "score")
    assert {row.status for row in verdicts(workspace)} == {"ok"}
    assert len(server.requests) == sent + len(bad)


def test_what_a_judge_could_not_say_is_asked_again_once_more_attempts_are_allowed(workspace, server) -> None:
    server.script = lambda body, number: rating(body, number) if number >= 6 else answer("hm")
    text = RUN + f"quality: {JUDGE % (server.url, ', tries: 1')}\n"
    workspace.write(text)
    workspace.finish("score")
    assert sum(row.status == "unreadable" for row in verdicts(workspace)) == 6
    with workspace.open() as store:
        said = [event.message for event in jobs.events(store, jobs.recent(store)[0].id)]
    assert "score: 56 responses by judge; without a score: 6 unreadable" in said
    asked = len(server.requests)
    workspace.finish("score")
    assert len(server.requests) == asked
    workspace.write(text.replace("generation: {", "generation: {max_attempts: 4, "))
    workspace.finish("score")
    assert len(server.requests) == asked + 6
    found = verdicts(workspace)
    assert {row.status for row in found} == {"ok"}
    assert sum(row.detail["cost"] for row in found) == pytest.approx(len(server.requests) * 5e-4)


def test_a_dead_judge_needs_attention_and_blames_no_answer(workspace, server) -> None:
    server.script = lambda body, number: rating(body, number) if number < 10 else error(500, "out of order")
    workspace.write(RUN + f"quality: {JUDGE % (server.url, '')}\n")
    code, ill, _ = workspace.work("score")
    assert (code, ill.state) == (3, "needs_attention")
    assert "judge `m` cannot be asked" in ill.error
    assert "out of order" in ill.error
    assert {row.status for row in verdicts(workspace)} == {"ok"}
    server.script = rating
    workspace.finish("score")
    assert {row.status for row in verdicts(workspace)} == {"ok"}


def test_a_cancelled_job_does_not_wait_for_the_judge(workspace, server) -> None:
    server.script = lambda body, number: error(429, "later", retry_after="300")
    # One request at a time: while others are in flight there is no telling yet that all wait.
    one = JUDGE.replace("endpoint: {", "endpoint: {concurrency: {start: 1, max: 1}, ")
    workspace.write(RUN + f"quality: {one % (server.url, '')}\n")
    process = workspace.start("run", workspace.folder / "run.yaml", "--until", "score")

    def waits() -> bool:
        try:
            return workspace.database.exists() and "waits" in job(workspace).progress["rows"]["judge"]["note"]
        except (PersynError, KeyError, IndexError):
            return False

    wait_until(process, waits)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.search(r"▲ judge: waits \d+ s: http://\S+: HTTP 429: later", err)


def test_verdicts_in_flight_at_a_cancel_are_waited_for_and_stored(workspace, server) -> None:
    release = threading.Event()
    server.script = lambda body, number: (
        rating(body, number) if number < 8 else Reply(body=rating(body, number).body, hold=release)
    )
    workspace.write(RUN + f"quality: {JUDGE % (server.url, '')}\n")
    process = workspace.start("run", workspace.folder / "run.yaml", "--until", "score")
    wait_until(process, lambda: server.in_flight > 0 and len(verdicts_or_none(workspace)) == 8)
    with workspace.open() as store:
        jobs.command(store, 1, "pause")
        wait_until(process, lambda: any(e.message.startswith("pausing") for e in jobs.events(store, 1)))
    release.set()
    process.communicate(timeout=60)
    assert (process.returncode, job(workspace).state) == (3, "paused")
    sent = len(server.requests)
    assert sent > 8
    assert len(verdicts(workspace)) == sent
    workspace.finish("score")
    assert len(server.requests) == len(verdicts(workspace))


def verdicts_or_none(workspace: Workspace) -> list[Any]:
    """What the judge has said, while the store is being made too."""
    try:
        return verdicts(workspace)
    except PersynError:
        return []


def test_the_dry_run_says_what_a_judge_would_cost_and_a_missing_key_is_named(workspace, server) -> None:
    path = workspace.write(
        RUN + f"quality: {JUDGE % (server.url, ', mode: pairs, api_key_env: NO_SUCH_KEY')}\n"
    )
    done = workspace.call("run", "--dry-run", path, "--json")
    assert done.returncode == 2, done.stderr
    assert "NO_SUCH_KEY is not set" in json.loads(done.stdout)["problems"][0]["message"]
    (row,) = json.loads(done.stdout)["judges"]
    # 56 comparisons, each with 300 tokens in reply at $100 a million.
    assert (row["name"], row["model"], row["requests"]) == ("judge", "m", 56)
    assert row["cost"] == pytest.approx(56 * 300 * 100 / 1e6)
    shown = workspace.call("run", "--dry-run", path).stdout
    assert "at most 56 requests" in " ".join(shown.split())
    done = workspace.call("run", path)
    assert done.returncode == 2
    assert "NO_SUCH_KEY is not set" in done.stderr
    assert not server.requests
