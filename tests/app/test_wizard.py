"""The new-job wizard: wrong run files and wrong fields are told at once, and what it writes is a run file."""

import json
import shutil
import threading
from pathlib import Path

import psutil
import pytest
import yaml
from app.support import running, until
from support import RUN
from textual.pilot import Pilot
from textual.widgets import Static
from textual.worker import WorkerState

import engine
from engine import config
from engine.models import registering, registry
from engine.reporting import dryrun, estimate
from persyn_tui.app.app import PersynApp
from persyn_tui.app.confirm import Confirm
from persyn_tui.app.forms import Form
from persyn_tui.app.settings import Settings
from persyn_tui.app.sheet import Sheet
from persyn_tui.app.wizard import draft, dry_run
from persyn_tui.app.wizard.screen import Wizard
from persyn_tui.app.wizard.steps import TeachersStep
from storage import jobs
from storage import registry as models
from storage.records import Model
from storage.store import Store

HOSTILE = "\x1b[2J\x07 [red]text[/red] \u202etxt.exe"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Store.open(tmp_path / "app.db")


def teacher(store: Store, name: str = "terse") -> Model:
    given = {"name": name, "model": "zoo:brief", "system": "Short.", "sampling": {"temperature": "0.3"}}
    wanted = registering.settings(given, "teacher", Path.cwd())
    return registering.put(store, registering.record(registering.fill(wanted)[0], "teacher"))


def said(app: PersynApp, selector: str = "#says") -> str:
    return str(app.screen.query_one(selector, Static).render())


def text(sheet: Sheet) -> str:
    return "\n".join(sheet.render_line(y).text for y in range(len(sheet.rows) + 1))


async def wizard(app: PersynApp, pilot: Pilot[None]) -> Wizard:
    await pilot.press("n")
    await until(pilot, lambda: isinstance(app.screen, Wizard))
    shown = app.screen
    assert isinstance(shown, Wizard)
    await until(pilot, lambda: len(shown.query_one("#teacher-list", Sheet).rows) > 0)
    return shown


async def put(pilot: Pilot[None], form: Form, key: str, value: str) -> None:
    form[key].focus_control()
    await until(pilot, lambda: form.at is form[key])
    await pilot.press("end", "ctrl+u", *value)


async def to_settings(app: PersynApp, pilot: Pilot[None]) -> Form:
    """Through the form's first steps: two teachers, the first student."""
    shown = await wizard(app, pilot)
    await pilot.press("down", "enter")
    await until(pilot, lambda: "teachers" in said(app, "#title"))
    await pilot.press("space", "down", "space", "enter")
    await until(pilot, lambda: "student" in said(app, "#title"))
    await pilot.press("enter")
    await until(pilot, lambda: "settings" in said(app, "#title"))
    return shown.query_one("#form", Form)


async def test_a_wrong_run_file_names_file_line_and_nearest_key(store: Store, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN.replace("strategies", "x") + "quallity: {scorer: exact_answer}\n")
    async with running(store.location, size=(80, 24)) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("enter", *"~nobody-of-this-name/x")
        await until(
            pilot, lambda: "no such" in said(app, "#verdict").lower() or "cannot" in said(app, "#verdict")
        )
        await pilot.press("end", "ctrl+u", *"run.yaml")
        await until(pilot, lambda: "did you mean `quality`?" in said(app, "#verdict"))
        assert "run.yaml:" in said(app, "#verdict")
        await pilot.press("enter")
        await until(pilot, lambda: "cannot be used yet" in shown.query_one("#file Form", Form)["path"].said)
        assert "run file" in said(app, "#title")
        (tmp_path / "run.yaml").write_text(RUN)
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))


async def test_a_path_is_completed_and_run_files_are_offered(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RUN)
    (tmp_path / "mixed.yaml").write_text(f"# {HOSTILE}\n{RUN}", encoding="utf-8")
    async with running(store.location, size=(80, 24)) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("enter", *"mi")
        entry = shown.query_one("#file Form", Form)["path"]
        await until(pilot, lambda: entry.control._suggestion == "mine.yaml")  # type: ignore[union-attr]
        offered = text(shown.query_one("#files", Sheet))
        assert "mine.yaml" in offered
        assert "demo.yaml" not in offered
        assert "[red]text" in offered
        assert not set(offered) & {"\x1b", "\x07", "\u202e"}
        await pilot.press("tab")
        await until(pilot, lambda: "✓" in entry.said)
        assert "2 teachers (brief, speller)" in said(app, "#verdict")


async def test_a_run_file_may_name_registered_models(store: Store, tmp_path: Path) -> None:
    teacher(store)
    text_of_run = yaml.safe_load(RUN)
    text_of_run["teachers"] = ["terse", "zoo:speller"]
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(text_of_run))
    async with running(store.location) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("enter", *"bare.yaml")
        await until(pilot, lambda: "✓" in shown.query_one("#file Form", Form)["path"].said)
        assert "2 teachers (terse, speller)" in said(app, "#verdict")


async def test_going_down_takes_a_run_file_of_the_list(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RUN)
    async with running(store.location) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: len(shown.query_one("#files", Sheet).rows) > 1)
        await pilot.press("down")
        entry = shown.query_one("#file Form", Form)["path"]
        await until(pilot, lambda: entry.value == "mine.yaml" and "✓" in entry.said)


async def test_the_dry_run_shows_the_estimate_and_enter_starts_the_job(store: Store, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    found = estimate.estimate(config.load(tmp_path / "run.yaml"))
    async with running(store.location, size=(80, 24)) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("enter", *"run.yaml", "enter")
        await until(pilot, lambda: "enter starts it" in said(app))
        totals = text(shown.query_one("#totals", Sheet))
        for way in (found.all, found.routed):
            assert f"{way.generations:,.0f}" in totals
        assert "brief" in text(shown.query_one("#per-teacher", Sheet))
        assert shown.query_one("#machine").size.height == 1
        await pilot.press("escape")
        await until(pilot, lambda: "run file" in said(app, "#title"))
        assert jobs.list(store) == []
        await pilot.press("enter")
        await until(pilot, lambda: "enter starts it" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not shown)
        (job,) = jobs.list(store)
        assert app.followed.id == job.id
        engines = [one for one in psutil.Process().children() if ["work", str(job.id)] == one.cmdline()[-2:]]
        for engine in engines:
            engine.kill()
        assert len(engines) == 1


async def test_what_this_version_lacks_is_counted_but_not_started(store: Store, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN.replace("distill: {", "distill: {method: qlora, "))
    async with running(store.location) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("enter", *"run.yaml", "enter")
        await until(pilot, lambda: "not in this version" in said(app))
        assert "all teachers" in text(shown.query_one("#totals", Sheet))
        await pilot.press("enter")
        await until(pilot, lambda: not shown._busy)
        assert app.screen is shown
        assert jobs.list(store) == []


async def test_the_form_writes_a_run_file_that_uses_stored_answers(store: Store, tmp_path: Path) -> None:
    model = teacher(store)
    async with running(store.location, size=(80, 24)) as (app, pilot):
        form = await to_settings(app, pilot)
        await put(pilot, form, "tasks", "chain_sum, gcd")
        await put(pilot, form, "alpha", "0.25")
        await put(pilot, form, "file", "made.yaml")
        await until(pilot, lambda: "times fewer" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        run = config.load(tmp_path / "made.yaml")
        assert [source.task for source in run.prompts] == ["chain_sum", "gcd"]  # type: ignore[union-attr]
        assert run.reward.alpha == 0.25
        assert run.generation.max_tokens == 160  # the zoo's context holds no more
        assert run.student.model == "zoo:student"
        mine = next(one for one in run.teachers if one.name == "terse")
        written = registry.teacher(mine, run.generation)
        assert registry.identity_sha(written) == registry.identity_sha(model)
        assert jobs.list(store) == []


async def test_a_max_tokens_holds_for_every_teacher_and_says_whose_own_it_replaces(
    store: Store, tmp_path: Path
) -> None:
    terse = teacher(store)
    own = terse.sampling.max_tokens
    async with running(store.location, size=(80, 24)) as (app, pilot):
        form = await to_settings(app, pilot)
        assert form["max_tokens"].value == ""
        assert f"terse {own:,}" in form["max_tokens"].said
        await put(pilot, form, "tasks", "gcd")
        await until(pilot, lambda: "times fewer" in said(app))
        assert "max tokens" not in said(app)
        await put(pilot, form, "max_tokens", "64")
        assert f"replaces terse's {own:,}" in form["max_tokens"].said
        assert not form["max_tokens"].wrong
        await until(pilot, lambda: "answers stored with that are not used again" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        run = config.load(tmp_path / "run.yaml")
        made = {one.name: registry.teacher(one, run.generation) for one in run.teachers}
        assert [one.sampling.max_tokens for one in made.values()] == [64, 64]
        assert made["terse"].sampling.temperature == terse.sampling.temperature
        assert registry.identity_sha(made["terse"]) != registry.identity_sha(terse)
        assert run.estimate.completion_tokens == config.EstimateConfig().completion_tokens
        found = estimate.estimate(run)
        assert found.all.completion_tokens == found.all.generations * 64
        await pilot.press("escape")
        await until(pilot, lambda: "settings" in said(app, "#title"))
        await put(pilot, form, "max_tokens", "6x")
        assert "not a whole number" in form["max_tokens"].said
        await put(pilot, form, "max_tokens", str(own))
        await until(pilot, lambda: "times fewer" in said(app) and "max tokens" not in said(app))
        await put(pilot, form, "max_tokens", "")
        assert not form["max_tokens"].wrong
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        run = config.load(tmp_path / "run.yaml")
        made = {one.name: registry.teacher(one, run.generation) for one in run.teachers}
        assert made["terse"].sampling.max_tokens == own
        found = estimate.estimate(run)
        assert found.all.completion_tokens == sum(
            row.all.generations * min(made[row.name].sampling.max_tokens, run.estimate.completion_tokens)
            for row in found.teachers
        ), "what each is asked for, no less"


def test_a_run_files_own_max_tokens_is_that_of_teachers_without_one() -> None:
    zoo = draft.Candidate({"name": "z", "model": "zoo:brief"}, "zoo", 1e5, 256)
    far = {"name": "f", "model": "m", "backend": "openai", "base_url": "http://127.0.0.1:9/v1"}
    keeps = draft.Candidate(far | {"sampling": {"max_tokens": 2048, "top_p": 0.5}}, "registered", None, None)
    taken = draft.Candidate(
        {"name": "i", "model": "m", "backend": "imported", "sampling": {"max_tokens": 9}},
        "registered",
        1,
        None,
    )
    values = dict.fromkeys(
        ("name", "alpha", "epochs", "strategies", "tasks", "size", "seed", "calibration"), "1"
    )
    values |= {"validation": "", "evaluation": "", "synthesis": "", "source": "reasoning_gym"}

    def made(longest: str) -> list[object]:
        data = draft.run_file(values | {"max_tokens": longest}, [zoo, keeps, taken], zoo)
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
        await until(pilot, lambda: "needed" in form["tasks"].said)
        await put(pilot, form, "tasks", "chain_sun")
        await until(pilot, lambda: "did you mean `chain_sum`?" in form["tasks"].said)
        await pilot.press("backspace", "m")
        await until(pilot, lambda: "✗" not in form["tasks"].said)
        await put(pilot, form, "alpha", "1.5")
        assert "at most 1" in form["alpha"].said
        await put(pilot, form, "alpha", "0.5")
        await put(pilot, form, "strategies", "persin")
        assert "did you mean `persyn`?" in form["strategies"].said
        await put(pilot, form, "strategies", "persyn")
        await put(pilot, form, "calibration", "many")
        assert "not a whole number" in form["calibration"].said
        await put(pilot, form, "tasks", "")
        await put(pilot, form, "size", "5x")
        assert "✗" in form["size"].said
        await until(pilot, lambda: said(app).startswith("size: "))
        await put(pilot, form, "size", "500")
        await put(pilot, form, "tasks", "chain_sum")
        await put(pilot, form, "calibration", "9000")
        await until(pilot, lambda: "split" in form["calibration"].said)
        await put(pilot, form, "file", "nowhere/run.yaml")
        assert "no such folder" in form["file"].said
        await pilot.press("enter")
        assert "settings" in said(app, "#title")
        assert not list(tmp_path.glob("*.yaml"))


NEEDED = (
    *("tasks", "size", "seed", "calibration", "validation", "evaluation", "strategies"),
    *("alpha", "epochs", "name", "file"),
)
"""Fields of prompts from reasoning_gym that may not be empty."""


async def test_every_emptied_field_shows_its_own_error_and_no_others(store: Store) -> None:
    async with running(store.location, size=(100, 30)) as (app, pilot):
        form = await to_settings(app, pilot)
        await put(pilot, form, "tasks", "gcd")
        await until(pilot, lambda: "times fewer" in said(app))
        for key in NEEDED:
            value = form[key].value
            await put(pilot, form, key, "")
            await until(pilot, lambda key=key: form[key].said.startswith("✗ "))  # type: ignore[misc]
            assert [other for other, entry in form.entries.items() if entry.wrong] == [key]
            await until(pilot, lambda key=key: said(app).startswith(form[key].title))  # type: ignore[misc]
            await put(pilot, form, key, value)
            assert not form[key].wrong
        await put(pilot, form, "calibration", "9000")
        await put(pilot, form, "size", "")
        await until(pilot, lambda: form["size"].wrong and not form["calibration"].wrong)
        await put(pilot, form, "calibration", "100")
        await put(pilot, form, "size", "500")
        await until(pilot, lambda: "times fewer" in said(app))


async def test_prompts_may_come_from_a_file(store: Store, tmp_path: Path) -> None:
    rows = "".join(f'{{"prompt": "What is {n} + 1?", "answer": "{n + 1}"}}\n' for n in range(60))
    (tmp_path / "asked.jsonl").write_text(rows)
    async with running(store.location) as (app, pilot):
        form = await to_settings(app, pilot)
        form["source"].focus_control()
        await pilot.press("space")
        assert form["source"].value == "jsonl"
        assert not form["tasks"].display
        for missing in ("missing.jsonl", "~nobody-of-this-name/x", "x" * 300):
            await put(pilot, form, "path", missing)
            assert "no such file" in form["path"].said
        await put(pilot, form, "path", "asked.jsonl")
        await put(pilot, form, "size", "")
        for key, value in (("calibration", "10"), ("validation", "5"), ("evaluation", "5")):
            await put(pilot, form, key, value)
        await until(pilot, lambda: "55 prompts" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))
        (source,) = config.load(tmp_path / "run.yaml").prompts
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
        assert form["source"].control.has_focus
        assert "← →" in form["source"].said
        await pilot.press("right")
        await put(pilot, form, "path", "sums.jsonl")
        await until(pilot, lambda: form["verifier"].value == "math")
        assert "all of 5 answers looked at are numbers" in form["verifier"].said
        await put(pilot, form, "path", "towns.jsonl")
        await until(pilot, lambda: form["verifier"].value == "text")
        assert "1 of 3 answers looked at are numbers" in form["verifier"].said
        await put(pilot, form, "path", "open.jsonl")
        await until(pilot, lambda: form["verifier"].value == "none")
        await put(pilot, form, "path", "towns.jsonl")
        await until(pilot, lambda: form["verifier"].value == "text")
        form["verifier"].focus_control()
        await pilot.press("left", "left", "left")
        assert form["verifier"].value == "math"
        await until(pilot, lambda: "2 of 3 answers looked at are no numbers" in form["verifier"].said)
        await put(pilot, form, "path", "sums.jsonl")
        await until(pilot, lambda: "all of 5 answers" in form["verifier"].said)
        assert form["verifier"].value == "math", "what the operator chose stays"


async def test_a_key_before_the_models_are_read_does_not_end_the_app(store: Store) -> None:
    """The first key of all: the store may not be open yet, and the models are read for a second."""
    app = PersynApp(store.location, settings=Settings(interval=0.1))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("n", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, Wizard) and "teachers" in said(app, "#title"))
        fresh = TeachersStep(app.screen._plan, "fresh")  # as it is before they are read
        await app.screen.query_one("#steps").mount(fresh)
        fresh.enter()
        assert not await fresh.finish()
        await fresh.remove()
        app.screen.query_one("#teacher-list").focus()
        await until(pilot, lambda: len(app.screen.query_one("#teacher-list", Sheet).rows) > 0)
        await pilot.press("space")
        await until(pilot, lambda: "1 marked" in said(app))
        await pilot.press("down", "space", "enter")
        await until(pilot, lambda: "student" in said(app, "#title"))


async def test_what_cannot_teach_is_not_offered_or_says_why(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(Path(engine.__file__).parent / "zoo" / "weights" / "brief", folder)
    gone = {"name": "gone", "model": str(folder)}
    registering.put(
        store,
        registering.record(registering.fill(registering.settings(gone, "teacher", tmp_path))[0], "teacher"),
    )
    shutil.rmtree(folder)
    teacher(store)
    async with running(store.location, size=(100, 28)) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "teachers" in said(app, "#title"))
        sheet = shown.query_one("#teacher-list", Sheet)
        assert "reward" not in [
            name for _, name in (sheet.rows.key(place) for place in range(len(sheet.rows)))
        ]
        assert "✗ gone" in text(sheet).splitlines()[-1]
        await pilot.press("space")
        assert sheet.place == 0, "marking does not move the cursor"
        await pilot.press("G", "space")
        await until(pilot, lambda: "gone cannot be used" in said(app))
        assert len(sheet.marked) == 1


async def test_a_run_file_is_not_overwritten_without_asking(store: Store, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("precious\n")
    async with running(store.location) as (app, pilot):
        form = await to_settings(app, pilot)
        await put(pilot, form, "tasks", "gcd")
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
        await put(pilot, form, "epochs", "3")
        await pilot.press("enter")
        await until(pilot, lambda: "dry run" in said(app, "#title"))  # its own file it may replace
        assert config.load(tmp_path / "run.yaml").distill.epochs == 3


async def test_teachers_must_be_marked_and_leaving_asks(store: Store) -> None:
    async with running(store.location) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not shown)
        shown = await wizard(app, pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "teachers" in said(app, "#title"))
        await pilot.press("enter")
        await until(pilot, lambda: "no teacher is marked" in said(app))
        await pilot.press("space")
        assert "1 marked" in said(app)
        await pilot.press("enter")
        await until(pilot, lambda: "a router needs two" in said(app))
        assert "teachers" in said(app, "#title")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: app.screen is not shown)
        assert models.list(store) == []


async def test_a_wizard_that_is_left_before_its_models_are_read_ends_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, read = threading.Event(), threading.Event()

    def slow(store: Store) -> tuple[list[draft.Candidate], list[draft.Candidate]]:
        left.wait(30)
        read.set()
        return [], []

    monkeypatch.setattr(draft, "candidates", slow)
    app = PersynApp(store.location, settings=Settings(interval=0.1))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.store is not None)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, Wizard))
        shown = app.screen
        offer = next(worker for worker in app.workers if worker.group == "offer")
        # As if it came between the end of its parts and its own.
        await shown.query_one("#steps").remove()
        left.set()
        await until(pilot, lambda: read.is_set() and offer.is_finished)
        assert offer.state is WorkerState.SUCCESS
        assert app.is_running


async def test_enter_takes_the_only_run_file_that_is_listed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RUN)
    (tmp_path / "other-one.yaml").write_text(RUN)
    (tmp_path / "other-two.yaml").write_text(RUN)
    async with running(store.location) as (app, pilot):
        shown = await wizard(app, pilot)
        entry = shown.query_one("#file Form", Form)["path"]
        await pilot.press("enter", *"other", "enter")
        await until(pilot, lambda: "cannot be used yet" in entry.said)
        assert entry.value == "other", "two are listed"
        await pilot.press("end", "ctrl+u", *"ne.yam", "enter")
        await until(pilot, lambda: "cannot be used yet" in entry.said)
        await pilot.press("end", "ctrl+u", *"min", "enter")
        await until(pilot, lambda: "enter starts it" in said(app))
        assert entry.value == "mine.yaml"


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_all_of_the_dry_run_can_be_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    rows = [
        (name, "1,204–1,663 of 1,663", "1,204–1,663", "12.3 M–45.6 M", "$12.34–$56.78", "1h 2m–3h 4m")
        for name in ("all teachers", "routed", "strong", "mix", "car", "random", "persyn", "oracle")
    ]
    monkeypatch.setattr(dryrun, "totals", lambda found: rows)
    monkeypatch.setattr("persyn_tui.app.wizard.dry_run.TOTALS", dry_run.TOTALS_LEFT)
    async with running(store.location, size=size) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("enter", *"run.yaml", "enter")
        await until(pilot, lambda: "enter starts it" in said(app))
        page = shown.query_one("#page")
        assert page.has_focus

        def seen() -> str:
            return "\n".join(strip.text for strip in app.screen._compositor.render_strips())

        await until(pilot, lambda: "1,204–1,663 of 1,663" in seen())
        await pilot.press("j")
        await pilot.press("k", "pagedown")
        await pilot.press("g")
        await until(pilot, lambda: "M = 2 teachers" in seen())
        await pilot.press("G")
        await until(pilot, lambda: "no answer fails" in seen() and page.scroll_y == page.max_scroll_y)
        read = ""
        await pilot.press("g")
        for _ in range(page.max_scroll_y + 1):
            await pilot.wait_for_scheduled_animations()
            read += seen()
            await pilot.press("j")
        assert all(line in read for line in ("oracle", "speller", "assumed: routed"))
        assert ("hidden: tokens" in said(app, "#title")) == (size[0] == 80)
