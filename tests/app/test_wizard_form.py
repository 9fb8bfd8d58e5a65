"""The settings of the new-job wizard: wrong fields are told at once, and what it writes is a run file."""

import json
import threading
from pathlib import Path

import plugin_package
import pytest
from app.support import put, running, until
from app.wizards import open_store, said, teacher, to_settings

from engine.base.plugins import STRATEGIES
from engine.config import run_file
from engine.config.stages import EstimateConfig
from engine.registry import candidates, models
from engine.report import estimate
from persyn_tui.app.screens.wizard import form as wizard_form
from persyn_tui.app.screens.wizard import questions
from persyn_tui.app.widgets import setting_fields
from persyn_tui.app.widgets.confirm import Confirm
from storage import jobs
from storage.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return open_store(tmp_path, monkeypatch)


async def test_the_form_writes_a_run_file_that_uses_stored_answers(store: Store, tmp_path: Path) -> None:
    model = teacher(store)
    async with running(store.location, size=(80, 24)) as (app, pilot):
        form = await to_settings(app, pilot)
        await put(pilot, form, "prompts.task", "chain_sum, gcd")
        await put(pilot, form, "reward.alpha", "0.25")
        assert form["file"].value == "run.yaml"
        await put(pilot, form, "name", "gsm 8k/small")
        await until(pilot, lambda: form["file"].value == "gsm-8k-small.yaml")
        await put(pilot, form, "file", "made.yaml")
        await put(pilot, form, "name", "other")
        assert form["file"].value == "made.yaml", "what was typed stays"
        await until(pilot, lambda: "times fewer" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        run = run_file.load(tmp_path / "made.yaml")
        assert [source.task for source in run.prompts] == ["chain_sum", "gcd"]  # type: ignore[union-attr]
        assert run.reward.alpha == 0.25
        assert run.generation.max_tokens == 160  # the zoo's context holds no more
        assert run.student.model == "zoo:student"
        mine = next(one for one in run.teachers if one.name == "terse")
        written = models.teacher(mine, run.generation)
        assert models.identity_sha(written) == models.identity_sha(model)
        assert jobs.recent(store) == []


async def test_the_wizard_opens_before_the_names_of_tasks_are_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = threading.Event()
    names = wizard_form._tasks
    monkeypatch.setattr(wizard_form, "_tasks", lambda: names() if read.wait(60) else ())
    teacher(store)
    async with running(store.location, size=(80, 24)) as (app, pilot):
        try:
            form = await to_settings(app, pilot)
            assert form["name"].value
        finally:
            read.set()


async def test_a_max_tokens_holds_for_every_teacher_and_says_whose_own_it_replaces(
    store: Store, tmp_path: Path
) -> None:
    terse = teacher(store)
    own = terse.sampling.max_tokens
    async with running(store.location, size=(80, 24)) as (app, pilot):
        form = await to_settings(app, pilot)
        assert form["generation.max_tokens"].value == ""
        assert f"terse {own:,}" in form["generation.max_tokens"].said
        await put(pilot, form, "prompts.task", "gcd")
        await until(pilot, lambda: "times fewer" in said(app))
        assert "max tokens" not in said(app)
        await put(pilot, form, "generation.max_tokens", "64")
        assert f"replaces terse's {own:,}" in form["generation.max_tokens"].said
        assert not form["generation.max_tokens"].wrong
        await until(pilot, lambda: "responses stored with that are not used again" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        run = run_file.load(tmp_path / "run.yaml")
        made = {one.name: models.teacher(one, run.generation) for one in run.teachers}
        assert [one.sampling.max_tokens for one in made.values()] == [64, 64]
        assert made["terse"].sampling.temperature == terse.sampling.temperature
        assert models.identity_sha(made["terse"]) != models.identity_sha(terse)
        assert run.estimate.completion_tokens == EstimateConfig().completion_tokens
        found = estimate.estimate(run)
        assert found.all.completion_tokens == found.all.generations * 64
        await pilot.press("escape")
        await until(pilot, lambda: "settings" in said(app, "#title"))
        await put(pilot, form, "generation.max_tokens", "6x")
        assert "not a whole number" in form["generation.max_tokens"].said
        await put(pilot, form, "generation.max_tokens", str(own))
        await until(pilot, lambda: "times fewer" in said(app) and "max tokens" not in said(app))
        await put(pilot, form, "generation.max_tokens", "")
        assert not form["generation.max_tokens"].wrong
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        run = run_file.load(tmp_path / "run.yaml")
        made = {one.name: models.teacher(one, run.generation) for one in run.teachers}
        assert made["terse"].sampling.max_tokens == own
        found = estimate.estimate(run)
        assert found.all.completion_tokens == sum(
            row.all.generations * min(made[row.name].sampling.max_tokens, run.estimate.completion_tokens)
            for row in found.teachers
        ), "what each is asked for, no less"


def test_a_run_files_own_max_tokens_is_that_of_teachers_without_one() -> None:
    zoo = candidates.Candidate({"name": "z", "model": "zoo:brief"}, "zoo", 1e5, 256)
    far = {"name": "f", "model": "m", "backend": "openai", "base_url": "http://127.0.0.1:9/v1"}
    keeps = candidates.Candidate(
        far | {"sampling": {"max_tokens": 2048, "top_p": 0.5}}, "registered", None, None
    )
    taken = candidates.Candidate(
        {"name": "i", "model": "m", "backend": "imported", "sampling": {"max_tokens": 9}},
        "registered",
        1,
        None,
    )
    known = questions.asked("reasoning_gym", [], ["exact_answer"])
    values = {key: setting_fields.text(questions.begun(one)) or one.nothing for key, one in known.items()} | {
        "prompts.source": "reasoning_gym",
        "prompts.task": "gcd",
    }

    def made(longest: str) -> list[object]:
        data = questions.run_file(
            values | {"generation.max_tokens": longest}, known, [zoo, keeps, taken], zoo
        )
        assert "estimate" not in data
        return [data["generation"]["max_tokens"], *(one.get("sampling") for one in data["teachers"])]

    own = {"max_tokens": 2048, "top_p": 0.5}
    assert made("") == [160, None, own, {"max_tokens": 9}]
    assert made("64") == [64, None, own | {"max_tokens": 64}, {"max_tokens": 9}]
    assert made("4096") == [4096, None, own | {"max_tokens": 4096}, {"max_tokens": 9}]
    assert keeps.entry["sampling"] == own


async def test_wrong_fields_are_told_beside_them_and_nothing_is_written(store: Store, tmp_path: Path) -> None:
    async with running(store.location, size=(80, 24)) as (app, pilot):
        form = await to_settings(app, pilot)
        await until(pilot, lambda: "needed" in form["prompts.task"].said)
        await put(pilot, form, "prompts.task", "chain_sun")
        await until(pilot, lambda: "did you mean `chain_sum`?" in form["prompts.task"].said)
        await pilot.press("backspace", "m")
        await until(pilot, lambda: "✗" not in form["prompts.task"].said)
        await put(pilot, form, "reward.alpha", "1.5")
        assert "at most 1" in form["reward.alpha"].said
        await put(pilot, form, "reward.alpha", "0.5")
        await put(pilot, form, "strategies", "persin")
        assert "did you mean `persyn`?" in form["strategies"].said
        await put(pilot, form, "strategies", "persyn")
        await put(pilot, form, "split.calibration", "many")
        assert "not a whole number" in form["split.calibration"].said
        await put(pilot, form, "prompts.task", "")
        await put(pilot, form, "prompts.size", "5x")
        assert "✗" in form["prompts.size"].said
        await until(pilot, lambda: said(app).startswith("size: "))
        await put(pilot, form, "prompts.size", "500")
        await put(pilot, form, "prompts.task", "chain_sum")
        await put(pilot, form, "split.calibration", "9000")
        await until(pilot, lambda: "split" in form["split.calibration"].said)
        await put(pilot, form, "file", "nowhere/run.yaml")
        assert "no such folder" in form["file"].said
        await pilot.press("enter")
        assert "settings" in said(app, "#title")
        assert not list(tmp_path.glob("*.yaml"))


NEEDED = (
    *("prompts.task", "prompts.size", "prompts.seed", "strategies", "split.calibration", "split.validation"),
    *("split.evaluation", "reward.alpha", "distill.epochs", "name", "file"),
)
"""Fields of prompts from reasoning_gym that may not be empty."""


async def test_every_emptied_field_shows_its_own_error_and_no_others(store: Store) -> None:
    async with running(store.location, size=(100, 30)) as (app, pilot):
        form = await to_settings(app, pilot)
        await put(pilot, form, "prompts.task", "gcd")
        await until(pilot, lambda: "times fewer" in said(app))
        for key in NEEDED:
            value = form[key].value
            await put(pilot, form, key, "")
            await until(pilot, lambda key=key: form[key].said.startswith("✗ "))  # type: ignore[misc]
            assert [other for other, entry in form.entries.items() if entry.wrong] == [key]
            await until(pilot, lambda key=key: said(app).startswith(form[key].title))  # type: ignore[misc]
            await put(pilot, form, key, value)
            assert not form[key].wrong
        await put(pilot, form, "split.calibration", "9000")
        await put(pilot, form, "prompts.size", "")
        await until(pilot, lambda: form["prompts.size"].wrong and not form["split.calibration"].wrong)
        await put(pilot, form, "split.calibration", "100")
        await put(pilot, form, "prompts.size", "500")
        await until(pilot, lambda: "times fewer" in said(app))


async def test_prompts_may_come_from_a_file(store: Store, tmp_path: Path) -> None:
    rows = "".join(f'{{"prompt": "What is {n} + 1?", "answer": "{n + 1}"}}\n' for n in range(60))
    (tmp_path / "asked.jsonl").write_text(rows)
    async with running(store.location) as (app, pilot):
        form = await to_settings(app, pilot)
        form["prompts.source"].control.focus()
        while form["prompts.source"].value != "jsonl":
            await pilot.press("space")
        assert not form["prompts.task"].display
        for missing in ("missing.jsonl", "~nobody-of-this-name/x", "x" * 300):
            await put(pilot, form, "prompts.path", missing)
            assert "no such file" in form["prompts.path"].said
        await put(pilot, form, "prompts.path", "asked.jsonl")
        await put(pilot, form, "prompts.size", "")
        for key, value in (("calibration", "10"), ("validation", "5"), ("evaluation", "5")):
            await put(pilot, form, f"split.{key}", value)
        await until(pilot, lambda: "55 prompts" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        (source,) = run_file.load(tmp_path / "run.yaml").prompts
        assert (source.source, source.path) == ("jsonl", str(tmp_path / "asked.jsonl"))  # type: ignore[union-attr]


async def test_the_verifier_is_that_of_the_files_answers_and_said(store: Store, tmp_path: Path) -> None:
    def write(name: str, answers: list[str]) -> None:
        rows = (json.dumps({"prompt": f"what {n}?", "answer": answer}) for n, answer in enumerate(answers))
        (tmp_path / name).write_text("\n".join(rows) + "\n")

    write("sums.jsonl", ["1", "-2.5", "1,000", "3/4", "so it is\n#### 42"])
    write("towns.jsonl", ["1", "Paris", "5 apples"])
    (tmp_path / "open.jsonl").write_text('{"prompt": "why?"}\n')
    async with running(store.location, size=(80, 24)) as (app, pilot):
        form = await to_settings(app, pilot)
        assert form["prompts.source"].control.has_focus
        assert "← →" in form["prompts.source"].said
        while form["prompts.source"].value != "jsonl":
            await pilot.press("right")
        await put(pilot, form, "prompts.path", "sums.jsonl")
        await until(pilot, lambda: form["prompts.verifier"].value == "math")
        assert "all of 5 answers looked at are numbers" in form["prompts.verifier"].said
        await put(pilot, form, "prompts.path", "towns.jsonl")
        await until(pilot, lambda: form["prompts.verifier"].value == "text")
        assert "1 of 3 answers looked at are numbers" in form["prompts.verifier"].said
        await put(pilot, form, "prompts.path", "open.jsonl")
        await until(pilot, lambda: form["prompts.verifier"].value == "none")
        await put(pilot, form, "prompts.path", "towns.jsonl")
        await until(pilot, lambda: form["prompts.verifier"].value == "text")
        form["prompts.verifier"].control.focus()
        while form["prompts.verifier"].value != "math":
            await pilot.press("left")
        await until(pilot, lambda: "2 of 3 answers looked at are no numbers" in form["prompts.verifier"].said)
        await put(pilot, form, "prompts.path", "sums.jsonl")
        await until(pilot, lambda: "all of 5 answers" in form["prompts.verifier"].said)
        assert form["prompts.verifier"].value == "math", "what the operator chose stays"


async def test_a_run_file_is_not_overwritten_without_asking(store: Store, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("precious\n")
    async with running(store.location) as (app, pilot):
        form = await to_settings(app, pilot)
        await put(pilot, form, "prompts.task", "gcd")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await until(pilot, lambda: "exists" in form["file"].said)
        assert (tmp_path / "run.yaml").read_text() == "precious\n"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        await pilot.press("escape")
        await until(pilot, lambda: "settings" in said(app, "#title"))
        await put(pilot, form, "distill.epochs", "3")
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))  # its own file it may replace
        assert run_file.load(tmp_path / "run.yaml").distill.epochs == 3


FIRST = '''
"""The first teacher responds to everything."""

from engine.methods.strategy import Strategy, one_teacher

STRATEGY = Strategy("The first teacher.", lambda evidence, count: one_teacher(0, count, "the first"))
'''


async def test_strategies_of_another_package_and_the_settings_of_those_named_are_asked_for(
    store: Store, tmp_path: Path
) -> None:
    with plugin_package.installed(tmp_path, STRATEGIES, "first", FIRST):
        async with running(store.location, size=(80, 24)) as (app, pilot):
            form = await to_settings(app, pilot)
            await put(pilot, form, "prompts.task", "gcd")
            await put(pilot, form, "strategies", "fir")
            line = form["strategies"].control
            await until(pilot, lambda: line._suggestion == "first")  # type: ignore[union-attr]
            await pilot.press("tab")
            assert not form["strategies"].wrong
            assert "strong_share" not in form.entries
            await put(pilot, form, "strategies", "first, mix")
            assert form["strong_share"].display
            await put(pilot, form, "strong_share", "1.5")
            assert form["strong_share"].wrong
            await put(pilot, form, "strong_share", "0.5")
            await until(pilot, lambda: "generations" in said(app))
            await pilot.press("enter")
            await until(pilot, lambda: "dry run" in said(app, "#title"))
            run = run_file.load(tmp_path / "run.yaml")
            assert (run.strategies, run.strong_share) == (("first", "mix"), 0.5)  # type: ignore[attr-defined]


async def test_the_settings_of_the_chosen_scorer_are_asked_for(store: Store, tmp_path: Path) -> None:
    async with running(store.location, size=(80, 24)) as (app, pilot):
        form = await to_settings(app, pilot)
        await put(pilot, form, "prompts.task", "gcd")
        await put(pilot, form, "quality.timeout_s", "3")
        assert "quality.overlong" not in form.entries
        form["quality.scorer"].control.focus()
        while form["quality.scorer"].value != "reward_model":
            await pilot.press("right")
        assert form["quality.overlong"].display
        assert not form["quality.timeout_s"].display
        await put(pilot, form, "quality.model", "zoo:reward")
        await until(pilot, lambda: "generations" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        quality = run_file.load(tmp_path / "run.yaml").quality
        assert (quality.scorer, quality.settings) == ("reward_model", {"model": "zoo:reward"})
