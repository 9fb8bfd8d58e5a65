"""`persyn relabel` and `route` on a calibrated store: numbers worked out by hand."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from engine.config import run_file
from engine.job import scorer_ids
from engine.job.identity import prompt_set_sha
from engine.pipeline.run_view import reader
from engine.registry import models
from engine.router.model import Router
from storage import jobs, prompts, responses, routing, schema, scores
from storage import registry as stored_models
from storage.records import NewPlan, NewResponse, NewRouter, Prompt, Response, Score
from storage.store import Store

Persyn = Callable[..., Any]

RUN = """
student: {name: s, model: "zoo:student"}
teachers: [{name: brief, model: "zoo:brief"}, {name: spell, model: "zoo:speller"}]
prompts: [{source: jsonl, path: p.jsonl, split: calibration}]
split: {calibration: 0, validation: 0}
router: {backbone: "zoo:student"}
"""
QUALITY = [(1, 0), (0, 1), (1, 1), (0, 0)]
LEARNABILITY = [(-1.0, -0.2), (-0.2, -1.0), (-0.5, -0.9), (-0.1, -0.2)]
# Quality first: best are brief, spell, brief (by learnability), and the last prompt is left out: all wrong.


@dataclass(frozen=True)
class Calibrated:
    """A store with 4 prompts answered by two teachers, all scored."""

    file: Path
    prompts: list[int]
    answers: dict[tuple[int, str], int]


@pytest.fixture
def calibrated(tmp_path: Path) -> Calibrated:
    questions = [f"question number {i}" for i in range(4)]
    (tmp_path / "p.jsonl").write_text("".join(f'{{"prompt": "{text}"}}\n' for text in questions))
    file = tmp_path / "run.yaml"
    file.write_text(RUN)
    run = run_file.load(file)
    with Store.open(tmp_path / "store.db") as store:
        for model in [*(models.teacher(c, run.generation) for c in run.teachers), models.student(run)]:
            stored_models.put(store, model, models.identity_sha(model))
        prompt_set = prompts.open_set(store, prompt_set_sha(run), run.name)
        members = [Prompt(({"role": "user", "content": text},), split="calibration") for text in questions]
        prompts.add(store, None, prompt_set.id, members, 0)
        prompts.finish_set(store, None, prompt_set.id, {})
        numbers = [prompt.id or 0 for _, prompt in prompts.page(store, prompt_set.id)]
        context = reader(store, run)
        rows = [
            NewResponse(
                number, g.teacher_id, g.generation_sha, Response(number, "x", "ok", "stop", 1, 1, 0.1)
            )
            for number in numbers
            for g in context.generations
        ]
        responses.add(store, None, rows)
        found = responses.of_prompts(store, numbers, context.generations)
        names = [teacher.name for teacher in context.teachers]
        answers = {
            (place, name): found[number][g.teacher_id].id
            for place, number in enumerate(numbers)
            for name, g in zip(names, context.generations, strict=True)
        }
        for kind, values in (("exact_answer", QUALITY), ("learnability", LEARNABILITY)):
            verdicts = [
                (answers[place, name], Score(float(values[place][column])))
                for place in range(4)
                for column, name in enumerate(names)
            ]
            scores.add(store, None, scorer_ids.scorer_id(context, kind), verdicts)
    return Calibrated(file, numbers, answers)


def test_learnability_alone_turns_two_prompts_round(persyn: Persyn, calibrated: Calibrated) -> None:
    data = persyn("relabel", "run.yaml", "--alpha", "1", "--json").json
    assert (data["prompts"], data["best_changed"]) == (3, 2)
    assert (data["pairs"], data["pairs_changed"]) == (3, 2)
    assert data["before"] == {"brief": 2, "spell": 1}
    assert data["after"] == {"brief": 2, "spell": 1}
    assert "`reward: {alpha: 1.0, normalization: zscore}`" in data["advice"]


def test_responses_that_have_no_score_yet_are_told(persyn: Persyn, calibrated: Calibrated) -> None:
    assert persyn("relabel", "run.yaml", "--alpha", "1", "--json").json["incomplete"] == {}
    with Store.open(calibrated.file.with_name("store.db")) as store:
        unscored = schema.ScoreRow.response_id == calibrated.answers[0, "brief"]
        assert store.execute(delete(schema.ScoreRow).where(unscored)) == 2
    ran = persyn("relabel", "run.yaml", "--alpha", "1", "--json")
    assert ran.json["incomplete"] == {
        name: {"scores": 7, "responses": 8} for name in ("exact_answer", "learnability")
    }
    assert "learnability has scored 7 of 8 responses" in ran.err
    assert "`persyn run run.yaml --until score`" in ran.err


def test_without_a_file_the_newest_job_is_relabelled(persyn: Persyn, calibrated: Calibrated) -> None:
    ran = persyn("relabel", "--alpha", "1")
    assert ran.code == 2
    assert "store.db has no jobs" in ran.err
    with Store.open(calibrated.file.with_name("store.db")) as store:
        jobs.submit(store, run_file.load(calibrated.file).model_dump(mode="json"), "sha", "mine")
    ran = persyn("relabel", "--alpha", "1", "--json")
    assert ran.json["best_changed"] == 2
    assert "job 1 (mine)" in ran.err


def test_out_has_a_line_per_prompt_and_overwrites_nothing(
    persyn: Persyn, calibrated: Calibrated, tmp_path: Path
) -> None:
    command = ("relabel", "run.yaml", "--alpha", "1", "--out", "labels.jsonl")
    assert persyn(*command).code == 0
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert [row["prompt_id"] for row in rows] == calibrated.prompts
    assert [(row["best_before"], row["best_after"]) for row in rows] == [
        ("brief", "spell"),
        ("spell", "brief"),
        ("brief", "brief"),
        (None, None),
    ]
    first = rows[0]
    assert first["prompt_sha"] == prompts.prompt_sha(
        Prompt(({"role": "user", "content": "question number 0"},))
    )
    assert {name: (each["quality"], each["learnability"]) for name, each in first["teachers"].items()} == {
        "brief": (1.0, -1.0),
        "spell": (0.0, -0.2),
    }
    assert first["teachers"]["spell"]["reward"] > first["teachers"]["brief"]["reward"]

    (tmp_path / "labels.jsonl").write_text("mine")
    ran = persyn(*command)
    assert ran.code == 2
    assert "is there already" in ran.err
    assert (tmp_path / "labels.jsonl").read_text() == "mine"


def test_quality_alone_loses_the_pair_that_learnability_decided(
    persyn: Persyn, calibrated: Calibrated
) -> None:
    ran = persyn("relabel", "run.yaml", "--alpha", "0")
    assert "0 of 3 prompts get another best teacher; 1 of 3 training pairs change" in ran.out


def test_it_says_when_alpha_is_idle(persyn: Persyn, calibrated: Calibrated) -> None:
    data = persyn("relabel", "run.yaml", "--alpha", "0.3", "--normalization", "minmax", "--json").json
    assert (data["best_changed"], data["pairs_changed"]) == (0, 0)
    assert data["idle"].startswith("alpha is idle: quality is 0/1 and labels are hard")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing to try"),
        (["--alpha", "1.5"], "--alpha 1.5"),
        (["--alpha", "nan"], "--alpha nan"),
        (["--normalization", "softmax"], "--normalization softmax"),
    ],
)
def test_wrong_settings_are_refused(
    options: list[str], words: str, persyn: Persyn, calibrated: Calibrated
) -> None:
    ran = persyn("relabel", "run.yaml", *options)
    assert ran.code == 2
    assert words in ran.err


def test_other_settings_than_those_that_were_run_are_told(persyn: Persyn, calibrated: Calibrated) -> None:
    calibrated.file.write_text(RUN.replace("name: brief, ", "name: brief, system: Be quick., "))
    ran = persyn("relabel", "run.yaml", "--alpha", "1")
    assert ran.code == 2
    assert "holds no responses of the teacher `brief` with these settings" in ran.err


def test_relabelling_loads_no_torch_and_writes_nothing(tmp_path: Path, calibrated: Calibrated) -> None:
    program = (
        "import sys\n"
        "from persyn_tui.cli import app\n"
        "try:\n    app(['relabel', 'run.yaml', '--alpha', '1', '--json'])\n"
        "finally:\n    print([m for m in ('torch', 'transformers') if m in sys.modules], file=sys.stderr)\n"
    )
    before = (tmp_path / "store.db").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PERSYN_STORE": str(tmp_path / "store.db")},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    assert (tmp_path / "store.db").read_bytes() == before


@pytest.fixture
def router(tmp_path: Path, calibrated: Calibrated) -> int:
    """Number of a stored router that gives every prompt the strengths 0 and 1, and has routed the fixture's prompts."""
    import torch

    from engine.router.backbone import load_backbone
    from engine.router.manifest import Labelling, Teacher

    with Store.open(tmp_path / "store.db") as store:
        context = reader(store, run_file.load(calibrated.file))
        teachers = [
            Teacher(teacher.name, generation.generation_sha)
            for teacher, generation in zip(context.teachers, context.generations, strict=True)
        ]
        made = Router(load_backbone("zoo:student"), teachers)
        with torch.no_grad():
            made.head.bias.copy_(torch.tensor([0.0, 1.0]))
        made.save(store.folder / "routers" / "r", Labelling())
        record = routing.put_router(
            store, None, NewRouter("r", context.student_id, "routers/r", {}, {"hit_at_1": 0.5})
        )
        routing.open_plan(store, None, NewPlan("p", "persyn", context.prompt_set, record.id, {}))
        return record.id


def test_route_says_choice_margin_and_the_nearest_calibration_prompts(
    persyn: Persyn, calibrated: Calibrated, router: int, tmp_path: Path
) -> None:
    (tmp_path / "more.jsonl").write_text('{"prompt": "-- a dash \\u001b[31m"}\n')
    data = persyn("route", "question number 2", "--file", "more.jsonl", "--json").json
    assert data["router"] == {"id": router, "alpha": 0.4, "hit_at_1": 0.5, "calibration_prompts": 4}
    first, second = data["prompts"]
    assert (first["choice"], first["strengths"]) == ("spell", {"spell": 1.0, "brief": 0.0})
    assert first["margin"] == pytest.approx(1.0)
    nearest = first["nearest"][0]
    assert nearest["prompt_id"] == calibrated.prompts[2]
    assert nearest["cosine"] == pytest.approx(1.0, abs=1e-5)
    assert nearest["answers"]["spell"] == {
        "id": calibrated.answers[2, "spell"],
        "status": "ok",
        "scores": {"exact_answer": 1.0, "learnability": -0.9},
    }
    assert len(first["nearest"]) == 3
    assert second["prompt"] == "-- a dash \ufffd[31m"


def test_route_shows_people_why(persyn: Persyn, calibrated: Calibrated, router: int) -> None:
    ran = persyn("route", "question number 0")
    assert ran.code == 0, ran.err
    assert "→ spell, margin 1.000 (73% to beat the next)" in ran.out
    assert "exact_answer 1.00  learnability -1.00" in ran.out
    assert f"response {calibrated.answers[0, 'brief']}" in ran.out


def test_a_prompt_unlike_all_that_was_calibrated_is_marked(
    persyn: Persyn, calibrated: Calibrated, router: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.tools import route

    with Store.open(calibrated.file.with_name("store.db")) as store:
        (record,) = [one for one in routing.routers(store) if one.id == router]
        assert record is not None
        live = Router.load(Path(store.folder) / record.path)
        near = route._Neighbours(store, record, live, 3)
        asked = near.normalised(
            [({"role": "user", "content": text},) for text in ("question number 2", "Ω≠≠≠ zzz")]
        )
        assert near.usual is None  # four calibration prompts tell nothing
        assert not near.unlike(asked[1])
        monkeypatch.setattr(route, "USUAL_COUNT", 4)
        del near.usual
        assert [near.unlike(vector) for vector in asked] == [False, True]


def test_an_unknown_router_is_told_with_those_there_are(
    persyn: Persyn, calibrated: Calibrated, router: int
) -> None:
    ran = persyn("route", "x", "--router", "77")
    assert ran.code == 2
    assert "there is no router 77" in ran.err
    assert f"use one of: {router}" in ran.err
