"""What goes wrong around the app: names that are markup, a full disk, a busy store, signals, keys that cannot be."""

import errno
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest
from app import full_store, terminal
from app.support import PATIENCE_S, running, until
from rich.cells import cell_len
from sqlalchemy import text
from textual.widgets import Static

from engine.base.sanitize import strip_control
from engine.pipeline import job_commands, launch
from engine.report import export
from persyn_tui.app.app import PersynApp
from persyn_tui.app.base.settings import Settings
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.screens.data.export_form import ExportForm
from persyn_tui.app.screens.data.responses_panel import ResponseColumn
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.one_line import title_line
from storage import datasets, jobs, locations
from storage.changes import Changes
from storage.errors import StoreBusyError, StoreError
from storage.job_records import Job, Lease
from storage.listing import Listing
from storage.store import Store, sqlite_driver


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "app.db")


def copied(filled: tuple[Path, Lease], folder: Path) -> Store:
    shutil.copy(filled[0], folder / "app.db")
    return Store.open(folder / "app.db")


def submit(store: Store, name: str) -> Job:
    job, _ = jobs.submit(store, {"name": name}, f"{name:>064}", name)
    return job


def shown(app: PersynApp) -> str:
    lines = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines)


def flat(app: PersynApp) -> str:
    """What is shown, with single spaces: a path may be wrapped anywhere."""
    return " ".join(shown(app).split())


def toasts(app: PersynApp) -> str:
    return "\n".join(note.message for note in app.messages)


async def test_a_name_that_is_markup_is_shown_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(store, "[/x] [@click=app.quit]a[/] \x1b[2J\u202e")
    monkeypatch.setattr(job_commands, "resume", lambda store, job: job)
    async with running(store.location) as (app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: f"job {job.id} ([/x] [@click=app.quit]a[/] �[2J�)" in toasts(app))
        assert not any(note.markup for note in app.messages)


async def test_nothing_that_a_widget_is_given_acts_on_the_terminal(store: Store) -> None:
    submit(store, "\x1b]0;owned\x07\x1b[2J\u202e\ud800" + "long " * 2000)
    async with running(store.location, size=(80, 24)) as (app, pilot):
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        app.screen.query_one(".loss", Static).update("\x1b[2J\x9b2J\u202e\ud800 loss")
        await until(pilot, lambda: " loss" in shown(app))
        assert shown(app) == strip_control(shown(app))
        assert app.screen.query_one("#yes").region.bottom < 24


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (200, 60)])
async def test_a_question_shows_its_buttons_at_any_size(store: Store, size: tuple[int, int]) -> None:
    submit(store, "a name of many words " * 4)
    async with running(store.location, size=size) as (app, pilot):
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm) and "(y)" in shown(app))
        assert "No (n)" in shown(app)
        assert "Cancel the job (y)" in shown(app)
        assert "Cancel job" in shown(app)


def test_a_title_of_wide_characters_fits() -> None:
    assert cell_len(title_line("日本語.db", "3 Router · job 1 · " + "名" * 60, 79)) <= 79


def test_a_title_drops_the_names_of_what_is_hidden_before_the_store() -> None:
    right, hidden = "4 Generation · job 12 · ● generate", ("backend", "bar", "retry")
    assert "persyn.db" in title_line("persyn.db", right, 100, hidden)
    assert title_line("persyn.db", right, 100, hidden).endswith("hidden: backend, bar, retry")
    assert title_line("persyn.db", right, 79, hidden).startswith(" PerSyn · persyn.db ─")
    assert title_line("persyn.db", right, 79, hidden).endswith("generate · hidden: backend, +2")
    assert title_line("persyn.db", right, 70, hidden).endswith("generate · 3 hidden")
    assert title_line("persyn.db", right, 70, hidden).startswith(" PerSyn · persyn.db ─")
    assert title_line("a" * 40, right, 79, hidden).startswith(" PerSyn ─")
    assert title_line("a" * 40, right, 79, hidden).endswith("generate · 3 hidden")
    assert title_line("a" * 40, right, 40, hidden).endswith("● generate")


async def test_what_a_key_could_not_do_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(store, "one")

    def busy(store: Store, job_id: int) -> str:
        raise StoreBusyError("the store is busy", "try again")

    monkeypatch.setattr(job_commands, "cancel", busy)
    async with running(store.location) as (app, pilot):
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: "the store is busy" in toasts(app))


async def test_a_job_of_an_unknown_run_says_why_it_does_not_start(store: Store) -> None:
    job = submit(store, "one")
    assert jobs.end_unowned(store, job.id, "cancelled")
    async with running(store.location) as (app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: "student" in toasts(app))


async def test_a_store_that_stays_broken_is_said_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def broken(self: Changes) -> bool:
        asked.append(1)
        raise StoreError("the store is gone", "bring it back")

    async with running(store.location) as (app, pilot):
        monkeypatch.setattr(Changes, "seen", broken)
        await until(pilot, lambda: len(asked) > 4)
        assert toasts(app).count("the store is gone") == 1


async def test_a_store_that_vanishes_is_named_and_found_again(store: Store, tmp_path: Path) -> None:
    submit(store, "one")
    moved, path = tmp_path / "moved.db", tmp_path / "app.db"
    async with running(store.location) as (app, pilot):
        path.rename(moved)
        await until(pilot, lambda: "is no longer there" in flat(app))
        assert "put it back" in flat(app)
        await pilot.press("4")
        await until(pilot, lambda: "4 Generation" in shown(app) and "is no longer there" in flat(app))
        assert not path.exists(), "looking made an empty store"
        moved.rename(path)
        await pilot.press("1")
        await until(pilot, lambda: app.screen.state == "full")


async def test_a_store_that_is_replaced_is_not_read(store: Store, tmp_path: Path) -> None:
    submit(store, "one")
    other = tmp_path / "other.db"
    Store.open(other).close()
    async with running(store.location) as (app, pilot):
        other.replace(tmp_path / "app.db")
        await until(pilot, lambda: "has been replaced by another file" in flat(app))
        assert "no such table" not in shown(app) + toasts(app)


async def test_a_wait_for_another_writer_is_said(store: Store) -> None:
    job = submit(store, "one")
    async with running(store.location) as (app, pilot):
        with store.write():
            await pilot.press("x")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await pilot.press("y")
            await until(pilot, lambda: "waiting for the store" in toasts(app))
            await until(pilot, lambda: "waiting for the store … · 1 Jobs" in shown(app))
        await until(pilot, lambda: f"job {job.id} was not running" in toasts(app))
        await until(pilot, lambda: "waiting for the store … ·" not in shown(app))


async def test_a_wait_at_the_start_is_said(store: Store) -> None:
    store.close()
    holder = sqlite_driver().connect(store.location, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    app = PersynApp(store.location, settings=Settings(interval=0.1))
    async with app.run_test() as pilot:
        await until(pilot, lambda: "waiting for the store" in shown(app))
        holder.close()
        await until(pilot, lambda: app.screen.state == "empty")


async def test_a_run_that_this_version_does_not_know_is_said_in_a_line(store: Store) -> None:
    job = submit(store, "one")
    async with running(store.location, mode="router", size=(140, 40)) as (app, pilot):
        await until(pilot, lambda: f"job {job.id} (one) is of no run" in flat(app))
        assert "pydantic" not in shown(app)
        assert "input_value" not in shown(app)
        assert "validation error" not in shown(app)


async def test_a_theme_is_used_though_it_cannot_be_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Settings) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Settings, "save_theme", full)
    async with running(store.location) as (app, pilot):
        app.theme = "nord"
        await until(pilot, lambda: "No space left on device" in toasts(app))
        assert app.theme == "nord"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_a_usable_terminal(store: Store, number: signal.Signals) -> None:
    with terminal.started(store.location) as app:
        assert b"No jobs yet" in app.shows(b"No jobs yet")
        app.process.send_signal(number)
        shown = app.shows(None)
        assert app.process.wait(PATIENCE_S) == 128 + number
    assert b"\x1b[?1049l" in shown
    assert b"\x1b[?1000l" in shown


def test_ctrl_z_goes_to_the_shell_and_the_screen_is_painted_when_it_goes_on(store: Store) -> None:
    with terminal.started(store.location) as app:
        assert b"No jobs yet" in app.shows(b"No jobs yet")
        os.write(app.ours, b"\x1a")
        stopped = psutil.Process(app.process.pid)
        assert b"\x1b[?1049l" in app.shows(b"\x1b[?1049l", lambda: stopped.status() == psutil.STATUS_STOPPED)
        app.process.send_signal(signal.SIGCONT)
        assert b"No jobs yet" in app.shows(b"No jobs yet")


def test_a_locale_without_utf8_spoils_no_border(store: Store) -> None:
    with terminal.started(store.location, PYTHONUTF8="0", PYTHONIOENCODING="latin-1") as app:
        shown = app.shows(b"No jobs yet")
    assert "─── 1 Jobs".encode() in shown
    assert b"u2500" not in shown


def test_an_app_whose_terminal_vanishes_ends(store: Store) -> None:
    """Without a signal: the terminal is not the process's controlling one, as after `nohup` or `setsid`."""
    with terminal.started(store.location, hears_of_its_end=False) as app:
        assert b"No jobs yet" in app.shows(b"No jobs yet")
        app.vanish()
        assert app.process.wait(PATIENCE_S) == 128 + signal.SIGHUP


@pytest.mark.parametrize("mode", PersynApp.MODES)
async def test_text_that_is_no_utf8_blanks_no_screen(
    tmp_path: Path, filled: tuple[Path, Lease], mode: str
) -> None:
    with copied(filled, tmp_path) as store:
        full_store.put_stage(store, filled[1], mode)
        with store.write() as connection:
            for column in (
                "responses SET text",
                "responses SET error",
                "events SET message",
                "prompts SET messages",
            ):
                connection.execute(text(f"UPDATE {column} = CAST(x'ff41' AS TEXT)"))
    async with running(store.location, mode=mode, size=(140, 40)) as (app, pilot):
        assert app.screen.state == "full"
        if mode not in ("models", "distil"):
            await until(pilot, lambda: "�A" in shown(app))
        if mode == "data":
            await pilot.press("enter")
            await until(pilot, lambda: len(app.screen.query(ResponseColumn)) > 0)
            await until(pilot, lambda: "�A" in str(app.screen.query(ResponseColumn).first().body.render()))
        assert not app.messages


def test_text_that_is_no_utf8_is_exported(tmp_path: Path, filled: tuple[Path, Lease]) -> None:
    with copied(filled, tmp_path) as store:
        with store.write() as connection:
            for column in ("responses SET text", "prompts SET messages"):
                connection.execute(text(f"UPDATE {column} = CAST(x'ff41' AS TEXT)"))
        for number, form in enumerate(export.FORMATS):
            export.export(store, datasets.newest_first(store)[0], form, tmp_path / f"{number}")
        assert "�A" in (tmp_path / "0").read_text()


MOVING = {
    "demo": ("jobs", "d"),
    "resume": ("jobs", "r"),
    "start": ("generation", "s"),
    "archive": ("models", "d"),
    "probe": ("models", "t"),
    "exclude": ("data", "x"),
    "export": ("data", "e"),
    "assignments": ("router", "e"),
}
"""What writes, or has another program write → the screen and the key."""


def rests(app: PersynApp) -> bool:
    """Whether the screen has read for its present question and reads no more."""
    screen = app.screen
    return screen._question == screen.question() and not screen._reading.locked()


@pytest.mark.parametrize("what", MOVING)
async def test_no_key_writes_into_a_store_that_was_moved(
    tmp_path: Path, filled: tuple[Path, Lease], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path, moved = tmp_path / "app.db", tmp_path / "moved.db"
    mode, key = MOVING[what]
    with Store.open(path) if what == "demo" else copied(filled, tmp_path) as store:
        if what != "demo":
            full_store.put_stage(store, filled[1], mode)
            jobs.release(store, filled[1], "failed", "it broke")
        chosen = next((one.id for one in datasets.newest_first(store)), None)
    started: list[object] = []
    monkeypatch.setattr(launch, "command", lambda *given, **more: started.append(given))
    async with running(store.location, mode=mode, size=(140, 40)) as (app, pilot):
        if what == "exclude":
            app.screen.list_responses(Listing(dataset_id=chosen))
            await until(pilot, lambda: app.screen.dataset is not None and app.screen.sheet.key is not None)
        await until(pilot, lambda: rests(app))  # or a read for the row under the cursor comes before the key
        monkeypatch.setattr(Changes, "seen", lambda self: False)  # the key is faster than the next look
        monkeypatch.setattr(type(app.screen), "EVERY", 1e9)
        log = path.with_name("app.db-wal")
        before = path.read_bytes(), log.read_bytes(), len(list(tmp_path.glob("*.*")))
        path.rename(moved)
        await pilot.press(key)
        # Where a probe says it, in lines that are cut anywhere.
        health = vars(getattr(app.screen, "_probes", object))

        def told() -> bool:
            return any("is no longer there" in said for said in (toasts(app), flat(app), str(health)))

        if what == "archive":  # which asks first, unless the screen has noticed by itself
            await until(pilot, lambda: isinstance(app.screen, Confirm) or told())
            if isinstance(app.screen, Confirm):
                await pilot.press("y")
        await until(pilot, told)
        assert not started
        assert (moved.read_bytes(), log.read_bytes(), len(list(tmp_path.glob("*.*")))) == before


async def test_a_store_that_was_named_and_not_there_is_said_to_be_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "typo.db"
    async with running(str(path), size=(140, 40)) as (app, pilot):
        await until(pilot, lambda: "There was no store here" in shown(app))
        assert str(path) in flat(app), "the whole path"
    async with running(str(path), size=(140, 40)) as (app, pilot):
        assert "There was no store" not in shown(app), "now there is one"
    monkeypatch.delenv("PERSYN_STORE", raising=False)
    app = PersynApp(None, settings=Settings(interval=0.1))
    async with app.run_test(size=(140, 40)) as pilot:
        await until(pilot, lambda: app.screen.state == "empty")
        assert app.store is not None
        assert app.store.made
        assert "There was no store" not in shown(app), "the first start of all"


@pytest.mark.parametrize("mode", PersynApp.MODES)
async def test_a_store_that_may_only_be_read_is_shown(
    tmp_path: Path, filled: tuple[Path, Lease], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    with copied(filled, tmp_path) as store:
        full_store.put_stage(store, filled[1], mode)
        jobs.release(store, filled[1], "failed", "it broke")
    monkeypatch.setattr(locations, "writable", lambda path: False)
    before = store.path.read_bytes() if store.path else b""
    async with running(store.location, mode=mode, size=(140, 40)) as (app, pilot):
        assert app.screen.state == "full"
        await until(pilot, lambda: " read-only · " in shown(app).splitlines()[0])
        offered = {active.binding.action for active in app.screen.active_bindings.values()}
        assert not offered & app.screen.WRITES
        asked = {
            binding.action: binding.key.split(",")[0]
            for _, binding in app.screen._bindings
            if binding.action.partition("(")[0] in app.screen.WRITES
        }
        assert bool(asked) == (mode != "logs")
        for action, key in asked.items():
            app.clear_notifications()
            await pilot.press(key)
            await until(pilot, lambda action=action: "may only be read" in toasts(app))
            assert isinstance(app.screen, BaseScreen), action
        if mode == "data":
            await pilot.press("slash", *"answer", "enter")
            await until(pilot, lambda: "the word index of" in toasts(app))
            await pilot.press("escape", "e")
            await until(pilot, lambda: isinstance(app.screen, ExportForm))
    assert store.path is not None
    assert store.path.read_bytes() == before
    assert not store.path.with_name("app.db-wal").exists()
