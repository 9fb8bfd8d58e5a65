"""The new-job wizard: wrong run files are told at once, teachers are marked, and the dry run comes before the job."""

import shutil
import threading
from pathlib import Path

import psutil
import pytest
import yaml
from app.support import running, until
from app.wizards import open_store, said, teacher, text, wizard
from support import RUN
from textual.worker import WorkerState

import engine
from engine.config import run_file
from engine.registry import candidates, register
from engine.report import dry_run as dryrun
from engine.report import estimate
from persyn_tui.app.app import PersynApp
from persyn_tui.app.base.settings import Settings
from persyn_tui.app.screens.wizard import dry_run
from persyn_tui.app.screens.wizard.screen import Wizard
from persyn_tui.app.screens.wizard.steps import TeachersStep
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.form_fields import Form
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage import jobs
from storage import registry as models
from storage.store import Store

HOSTILE = "\x1b[2J\x07 [red]text[/red] \u202etxt.exe"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return open_store(tmp_path, monkeypatch)


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
        offered = text(shown.query_one("#files", VirtualTable))
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
        await until(pilot, lambda: len(shown.query_one("#files", VirtualTable).rows) > 1)
        await pilot.press("down")
        entry = shown.query_one("#file Form", Form)["path"]
        await until(pilot, lambda: entry.value == "mine.yaml" and "✓" in entry.said)


async def test_the_dry_run_shows_the_estimate_and_enter_starts_the_job(store: Store, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    found = estimate.estimate(run_file.load(tmp_path / "run.yaml"))
    async with running(store.location, size=(80, 24)) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("enter", *"run.yaml", "enter")
        await until(pilot, lambda: "enter starts it" in said(app))
        totals = text(shown.query_one("#totals", VirtualTable))
        for way in (found.all, found.routed):
            assert f"{way.generations:,.0f}" in totals
        assert "brief" in text(shown.query_one("#per-teacher", VirtualTable))
        assert shown.query_one("#machine").size.height == 1
        await pilot.press("escape")
        await until(pilot, lambda: "run file" in said(app, "#title"))
        assert jobs.recent(store) == []
        await pilot.press("enter")
        await until(pilot, lambda: "enter starts it" in said(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is not shown)
        (job,) = jobs.recent(store)
        assert app.followed.id == job.id
        engines = [one for one in psutil.Process().children() if ["work", str(job.id)] == one.cmdline()[-2:]]
        for engine in engines:
            engine.kill()
        assert len(engines) == 1


async def test_what_a_run_would_be_refused_for_is_counted_but_not_started(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(RUN.replace("zoo:brief", "./nowhere"))
    async with running(store.location) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("enter", *"run.yaml", "enter")
        await until(pilot, lambda: "nowhere" in said(app))
        assert "all teachers" in text(shown.query_one("#totals", VirtualTable))
        await pilot.press("enter")
        await until(pilot, lambda: not shown._busy)
        assert app.screen is shown
        assert jobs.recent(store) == []


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
        app.screen.query_one("#teachers-list").focus()
        await until(pilot, lambda: len(app.screen.query_one("#teachers-list", VirtualTable).rows) > 0)
        await pilot.press("space")
        await until(pilot, lambda: "1 marked" in said(app))
        await pilot.press("down", "space", "enter")
        await until(pilot, lambda: "student" in said(app, "#title"))


async def test_what_cannot_teach_is_not_offered_or_says_why(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(Path(engine.__file__).parent / "zoo" / "weights" / "brief", folder)
    gone = {"name": "gone", "model": str(folder)}
    register.put(
        store,
        register.record(register.fill(register.settings(gone, "teacher", tmp_path))[0], "teacher"),
    )
    shutil.rmtree(folder)
    teacher(store)
    async with running(store.location, size=(100, 28)) as (app, pilot):
        shown = await wizard(app, pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "teachers" in said(app, "#title"))
        sheet = shown.query_one("#teachers-list", VirtualTable)
        assert "reward" not in [
            name for _, name in (sheet.rows.key(place) for place in range(len(sheet.rows)))
        ]
        assert "✗ gone" in text(sheet).splitlines()[-1]
        await pilot.press("space")
        assert sheet.place == 0, "marking does not move the cursor"
        await pilot.press("G", "space")
        await until(pilot, lambda: "gone cannot be used" in said(app))
        assert len(sheet.marked) == 1


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
        assert models.models(store) == []


async def test_a_wizard_that_is_left_before_its_models_are_read_ends_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, read = threading.Event(), threading.Event()

    def slow(store: Store) -> tuple[list[candidates.Candidate], list[candidates.Candidate]]:
        left.wait(30)
        read.set()
        return [], []

    monkeypatch.setattr(candidates, "candidates", slow)
    app = PersynApp(store.location, settings=Settings(interval=0.1))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.store is not None)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, Wizard))
        shown = app.screen
        await until(pilot, lambda: any(worker.group == "offer" for worker in app.workers))
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
    monkeypatch.setattr("persyn_tui.app.screens.wizard.dry_run.TOTALS", dry_run.TOTALS_LEFT)
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
        await until(pilot, lambda: "no response fails" in seen() and page.scroll_y == page.max_scroll_y)
        read = ""
        await pilot.press("g")
        for _ in range(page.max_scroll_y + 1):
            await pilot.wait_for_scheduled_animations()
            read += seen()
            await pilot.press("j")
        assert all(line in read for line in ("oracle", "speller", "assumed: routed"))
        assert ("hidden: tokens" in said(app, "#title")) == (size[0] == 80)
