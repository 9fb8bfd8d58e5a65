"""Screen 1 and what every screen shares: states, keys, the loop that follows the store."""

from pathlib import Path

import pytest
from app.support import running, until
from textual.widgets import Input, Static

from engine.pipeline import job_commands
from persyn_tui.app.app import PersynApp
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.message_bar import MessageBar
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage import jobs
from storage.errors import StoreError
from storage.job_records import Job
from storage.store import Store

HOSTILE = "\x1b[2J\x1b]0;owned\x07 [red]name[/red] \u202etxt.exe\ud800"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "app.db")


def submit(store: Store, name: str, state: str = "queued") -> Job:
    job, _ = jobs.submit(store, {"name": name}, f"{name:>064}", name)
    if state != "queued":
        lease = jobs.claim(store, job.id, "test")
        jobs.event(store, lease, "info", f"{name} began")
        jobs.release(store, lease, state)  # type: ignore[arg-type]
    return job


def title(app: PersynApp) -> str:
    return str(app.screen.query_one("#title", Static).render())


def line(sheet: VirtualTable, y: int) -> str:
    return sheet.render_line(y).text


async def test_an_empty_store_says_the_next_step(store: Store) -> None:
    async with running(store.location) as (app, _):
        assert app.screen.state == "empty"
        assert "n   make one" in str(app.screen.query_one("#empty").render())


async def test_a_job_made_elsewhere_appears_and_its_state_follows(store: Store) -> None:
    async with running(store.location) as (app, pilot):
        job = submit(store, "first")
        sheet = app.screen.query_one("#jobs", VirtualTable)
        await until(pilot, lambda: "queued" in line(sheet, 1))
        lease = jobs.claim(store, job.id, "test")
        await until(pilot, lambda: "running" in line(sheet, 1))
        jobs.set_stage(
            store, lease, "generate", {"stage": "generate", "done": 30, "total": 120, "eta_s": 61.0}
        )
        await until(pilot, lambda: "30 / 120" in line(sheet, 1))
        assert "1m 01s" in line(sheet, 1)


async def test_a_job_that_went_on_as_another_says_so_and_asks_for_nothing(store: Store) -> None:
    stopped = submit(store, "first", "cancelled")
    submit(store, "other", "failed")
    async with running(store.location) as (app, pilot):
        sheet, where = app.screen.query_one("#jobs", VirtualTable), app.screen.query_one("#where", MessageBar)
        await until(pilot, lambda: "cancelled" in line(sheet, 2))
        again = submit(store, "first", "done")
        await until(pilot, lambda: f"→ job {again.id}" in line(sheet, 3))
        assert "failed" in line(sheet, 2), "another run"
        assert "done" in line(sheet, 1)
        await pilot.press("G")
        await until(pilot, lambda: f"job {stopped.id} · cancelled, went on as job {again.id}" in where.text)
        await until(pilot, lambda: "r" not in app.screen.active_bindings)
        with pytest.raises(StoreError, match=f"job {stopped.id} went on as job {again.id}"):
            job_commands.resume(store, jobs.get(store, stopped.id))
        await pilot.press("enter")
        await until(pilot, lambda: f"job {stopped.id} · ■ cancelled, went on as job {again.id}" in title(app))
        assert "s" not in app.screen.active_bindings


async def test_the_cursor_stays_on_its_job_while_others_come(store: Store) -> None:
    first = submit(store, "first", "done")
    async with running(store.location) as (app, pilot):
        sheet = app.screen.query_one("#jobs", VirtualTable)
        assert sheet.key == first.id
        for number in range(3):
            submit(store, f"later{number}", "done")
        await until(pilot, lambda: len(sheet.rows) == 4)
        assert (sheet.key, sheet.place) == (first.id, 3)
        await pilot.press("g")
        assert sheet.place == 0
        await pilot.press("j", "j", "k")
        assert sheet.place == 1
        await pilot.press("G")
        assert sheet.place == 3
        await until(pilot, lambda: "first began" in line(app.screen.query_one("#events", VirtualTable), 1))


async def test_a_job_just_started_has_the_cursor_so_that_keys_mean_it(store: Store) -> None:
    submit(store, "first", "done")
    async with running(store.location) as (app, pilot):
        sheet = app.screen.query_one("#jobs", VirtualTable)
        await until(pilot, lambda: sheet.key is not None)
        started = submit(store, "second")
        app.screen.started(started)
        await until(pilot, lambda: sheet.key == started.id)
        assert app.screen.chosen.id == started.id
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert f"Cancel job {started.id} (second)?" in app.screen._question
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        await pilot.press("enter")
        assert app.followed.line.startswith(f"job {started.id} ")


async def test_cancel_names_what_is_kept_and_leaves_the_command(store: Store) -> None:
    job = submit(store, "first")
    lease = jobs.claim(store, job.id, "test")
    jobs.set_stage(store, lease, "generate", {"stage": "generate", "done": 30, "total": 120})
    async with running(store.location) as (app, pilot):
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        assert jobs.take_commands(store, lease) == []
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: [c.kind for c in jobs.take_commands(store, lease)] == ["cancel"])


async def test_hostile_names_do_not_reach_the_terminal(store: Store) -> None:
    submit(store, HOSTILE, "failed")
    async with running(store.location) as (app, pilot):
        shown = "\n".join(line(app.screen.query_one("#jobs", VirtualTable), y) for y in range(3))
        shown += "\n".join(line(app.screen.query_one("#events", VirtualTable), y) for y in range(3))
        assert not any(mark in shown for mark in ("\x1b", "\x07", "\u202e", "\ud800"))
        assert "[red]" in shown
        await pilot.press("7")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 7 and app.screen.state == "full")
        assert "\x1b" not in line(app.screen.query_one("#log", VirtualTable), 1)


@pytest.mark.parametrize("size", [(80, 24), (60, 16), (200, 60)])
async def test_every_size_keeps_name_state_strip_and_footer(store: Store, size: tuple[int, int]) -> None:
    submit(store, "first", "done")
    async with running(store.location, size=size) as (app, _):
        assert "first" in line(app.screen.query_one("#jobs", VirtualTable), 1)
        assert "✓ done" in line(app.screen.query_one("#jobs", VirtualTable), 1)
        for name in ("#machine", "Keys", "#title"):
            assert app.screen.query_one(name).region.bottom <= size[1]
            assert app.screen.query_one(name).size.height >= 1


async def test_freeze_keeps_the_screen_while_the_store_goes_on(store: Store) -> None:
    submit(store, "first", "done")
    async with running(store.location) as (app, pilot):
        sheet = app.screen.query_one("#jobs", VirtualTable)
        await pilot.press("p")
        submit(store, "second", "done")
        await until(pilot, lambda: app.followed.job is not None and app.followed.job.id == 2)
        assert sheet.key is not None
        await pilot.press("p")
        await until(pilot, lambda: len(sheet.rows) == 2)


async def test_the_log_is_filtered_and_the_report_holds_no_secret(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "very-secret-value")
    job, _ = jobs.submit(store, {"teachers": [{"name": "t", "api_key_env": "A_KEY"}]}, "0" * 64, "first")
    lease = jobs.claim(store, job.id, "test")
    jobs.event(
        store,
        lease,
        "error",
        "POST https://me:hunter2@host/v1 with very-secret-value and sk-abcdefghijklmnop",
    )
    jobs.event(store, lease, "info", "all is well")
    async with running(store.location, mode="logs") as (app, pilot):
        sheet = app.screen.query_one("#log", VirtualTable)
        await pilot.press("slash", *"error")
        await until(pilot, lambda: sheet.key is not None)
        await pilot.press("escape")
        await until(pilot, lambda: len(sheet.rows) == 2)
        await until(pilot, lambda: app.followed.job is not None)
        await pilot.press("b")
        await until(pilot, lambda: "bug report" in app.clipboard)
        for secret in ("hunter2", "very-secret-value", "sk-abcdefghijklmnop"):
            assert secret not in app.clipboard
        assert "POST https://me:***@host/v1" in app.clipboard
        (note,) = app.messages
        assert "sent to the terminal's clipboard and written to" in note.message
        written = Path(note.message.partition("written to\n")[2])
        assert written.read_text(encoding="utf-8") == app.clipboard
        assert written.stat().st_mode & 0o077 == 0


async def test_a_job_that_was_asked_to_stop_says_so_until_it_does(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as store:
        job, _ = jobs.submit(store, {"name": "slow"}, "sha-slow", "slow")
        lease = jobs.claim(store, job.id, "test", lease_seconds=600)
        jobs.set_stage(store, lease, "generate", {"stage": "generate", "done": 3, "total": 12})
        async with running(store.location) as (app, pilot):
            await until(pilot, lambda: "● running" in line(app.screen.query_one("#jobs", VirtualTable), 1))
            jobs.command(store, job.id, "cancel")
            await until(pilot, lambda: "■ cancelling" in line(app.screen.query_one("#jobs", VirtualTable), 1))
            where = app.screen.query_one("#where", MessageBar).text
            assert "cancelling since" in where
            assert "stops when the current batch ends" in where
            assert [taken.kind for taken in jobs.take_commands(store, lease)] == ["cancel"]
            await until(pilot, lambda: "cancelling since" in app.followed.line)
            jobs.release(store, lease, "queued")
            jobs.claim(store, job.id, "another", lease_seconds=600)
            await until(pilot, lambda: "● running" in line(app.screen.query_one("#jobs", VirtualTable), 1))
            assert jobs.stopping(store) == {}, "what another process took is no wish to this one"


REMEDY = "lower the split, or add prompts (a reasoning_gym source: raise `size`), or take another source"
ERROR = (
    f"split.calibration: 9,000 prompts are asked for and 500 are left of what the sources have\n  → {REMEDY}"
)


def fail(store: Store) -> Job:
    job, _ = jobs.submit(store, {"name": "wrong"}, "f" * 64, "wrong")
    lease = jobs.claim(store, job.id, "test")
    jobs.event(store, lease, "error", ERROR)
    jobs.release(store, lease, "failed", ERROR)
    return job


@pytest.mark.parametrize("mode", ["jobs", "router", "generation", "distil"])
async def test_the_whole_remedy_of_a_failed_job_is_read_at_80_columns(store: Store, mode: str) -> None:
    fail(store)
    async with running(store.location, mode=mode, size=(80, 24)) as (app, pilot):
        told = app.screen.query_one("#where" if mode == "jobs" else "#trouble", MessageBar)
        await until(pilot, lambda: REMEDY in told.text)
        await until(pilot, lambda: not app.screen._layout_required and told.size.height > 2)
        strips = app.screen._compositor.render_strips()
        shown = " ".join(" ".join(strip.text.split()) for strip in strips)
        assert REMEDY in shown
        assert not told.focusable, "all of it is seen: there is nothing to scroll"
        assert app.screen.query_one("Keys").region.y == 23


async def test_a_job_that_would_fail_again_says_first_what_it_needs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, done = fail(store), list[int]()
    monkeypatch.setattr("engine.pipeline.job_commands.resume", lambda store, job: done.append(job.id) or job)
    async with running(store.location, size=(80, 24)) as (app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert app.screen._loss.startswith(f"First: {REMEDY}")
        await pilot.press("n")
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        assert done == []
        await pilot.press("r", "y")
        await until(pilot, lambda: done == [job.id])


async def test_an_engine_that_was_started_here_is_said_to_start(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody starts a second one meanwhile, on no screen."""
    started = list[int]()
    monkeypatch.setattr("engine.pipeline.launch.detach", lambda store, job: started.append(job.id))
    submit(store, "first", "queued")
    async with running(store.location, size=(100, 28)) as (app, pilot):
        await until(pilot, lambda: "r" in app.screen.active_bindings)
        await pilot.press("r")
        await until(pilot, lambda: "r" not in app.screen.active_bindings)
        assert started == [1]
        await until(pilot, lambda: "○ starting" in line(app.screen.query_one("#jobs", VirtualTable), 1))
        assert "○ starting" in app.followed.line
        await pilot.press("3")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 3 and app.screen.state == "full")
        await until(pilot, lambda: "○ starting" in str(app.screen.query_one("#title", Static).render()))
        assert "s" not in app.screen.active_bindings
        lease = jobs.claim(store, 1, "test", lease_seconds=600)
        await until(pilot, lambda: "● running" in app.followed.line)
        jobs.release(store, lease, "paused")
        await until(pilot, lambda: "‖ paused" in app.followed.line)  # at once: it had been claimed
        await until(pilot, lambda: "s" in app.screen.active_bindings)
        await pilot.press("s")
        await until(pilot, lambda: "○ starting" in app.followed.line)
        # Claimed and interrupted between two looks: it does not start any more.
        jobs.release(store, jobs.claim(store, 1, "test"), "paused")
        await until(pilot, lambda: "‖ paused" in app.followed.line)


async def test_a_filter_works_while_frozen_and_says_where_nothing_passes(store: Store) -> None:
    for name, state in (("first", "done"), ("second", "queued")):
        submit(store, name, state)
    async with running(store.location) as (app, pilot):
        sheet, where = app.screen.query_one("#jobs", VirtualTable), app.screen.query_one("#where", MessageBar)
        await until(pilot, lambda: len(sheet.rows) == 2)
        await pilot.press("p", "slash", *"first", "enter")
        await until(pilot, lambda: len(sheet.rows) == 1)
        assert "1 of 2 jobs · 1 active" in title(app)
        submit(store, "first again", "done")
        await pilot.press("slash", *"zz", "enter")
        await until(pilot, lambda: where.text == "no job passes; esc clears the filter")
        assert not {"x", "r"} & set(app.screen.active_bindings)


async def test_slash_filters_jobs_by_words_and_esc_shows_all(store: Store) -> None:
    for name, state in (("first", "done"), ("second", "failed"), ("third", "done")):
        submit(store, name, state)
    async with running(store.location) as (app, pilot):
        sheet = app.screen.query_one("#jobs", VirtualTable)
        await until(pilot, lambda: len(sheet.rows) == 3)
        await pilot.press("slash", *"FIRST do", "enter")
        await until(pilot, lambda: len(sheet.rows) == 1 and sheet.has_focus)
        assert "1 of 3 jobs" in str(app.screen.query_one("#title", Static).render())
        await until(pilot, lambda: app.screen.chosen is not None and app.screen.chosen.name == "first")
        await until(pilot, lambda: "first began" in line(app.screen.query_one("#events", VirtualTable), 1))
        await pilot.press("slash", *"x")
        await until(pilot, lambda: len(sheet.rows) == 0)
        await pilot.press("escape")
        await until(pilot, lambda: len(sheet.rows) == 3 and sheet.has_focus)


async def test_the_log_shows_the_whole_line_under_the_cursor(store: Store) -> None:
    fail(store)
    submit(store, "second", "done")
    async with running(store.location, mode="logs", size=(80, 24)) as (app, pilot):
        whole = app.screen.query_one("#whole", MessageBar)
        await until(pilot, lambda: whole.text == "second began")
        await pilot.press("j")
        await until(pilot, lambda: REMEDY in whole.text)
        assert app.screen.query_one("#log").size.height == 24 - 3 - 4  # which keeps its place


async def test_where_words_are_typed_q_is_a_character(store: Store) -> None:
    submit(store, "first", "done")
    async with running(store.location, mode="logs") as (app, pilot):
        await until(pilot, lambda: "q" in app.screen.active_bindings)
        await pilot.press("slash")
        await until(pilot, lambda: isinstance(app.focused, Input))
        assert not app.screen.active_bindings.get("q") or not app.screen.active_bindings["q"].enabled
        await pilot.press("q")
        await until(pilot, lambda: app.focused.value == "q")
        await pilot.press("escape")
        await until(pilot, lambda: "q" in app.screen.active_bindings)


async def test_maximised_and_back_title_machine_and_columns_are_as_before(store: Store) -> None:
    submit(store, "first", "done")
    async with running(store.location, size=(80, 24)) as (app, pilot):
        sheet = app.screen.query_one("#jobs", VirtualTable)
        await until(pilot, lambda: "ETA" in line(sheet, 0))
        before = line(sheet, 0)
        await pilot.press("z")
        await until(pilot, lambda: sheet.size.height > 18)
        for name in ("#title", "#machine", "Keys"):
            assert app.screen.query_one(name).region.height == 1
        assert app.screen.query_one("#title").region.y == 0
        assert "ETA" in line(sheet, 0)
        for _ in range(3):
            await pilot.press("z", "z")
        await pilot.press("z")
        await until(pilot, lambda: sheet.size.height < 18)
        app.screen.query_one("#jobs").render_lines(sheet.size.region)
        assert line(sheet, 0) == before


async def test_keys_that_would_do_nothing_are_not_offered_and_messages_cover_no_rows(store: Store) -> None:
    submit(store, "first", "done")
    async with running(store.location, size=(80, 24), notifications=True) as (app, pilot):
        await until(
            pilot, lambda: not {"r", "x"} & set(app.screen.active_bindings) and app.screen.state == "full"
        )
        await pilot.press("x")
        await until(pilot, lambda: bool(app.screen.query("Toast")))
        toast = app.screen.query_one("Toast")
        await until(pilot, lambda: toast.region.height > 0)
        assert "already ended" in str(toast.render())
        assert toast.region.y == 22
        await until(pilot, lambda: app.screen.query_one("#machine").region.bottom == 22)
        for text in ("a second", "a third", "a third"):
            app.notify(text)
        await until(pilot, lambda: len(app.screen.query("Toast")) == 2)
        assert [note.message for note in app.messages] == ["a second", "a third"]
        app.notify("wrong", severity="error")
        await pilot.press("2")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 2)
        assert [note.message for note in app.messages] == ["wrong"]


async def test_jobs_of_one_name_are_told_apart_by_their_alpha(store: Store) -> None:
    for number, alpha in enumerate((0.4, 0.7)):
        jobs.submit(store, {"name": "same", "reward": {"alpha": alpha}}, str(number) * 64, "same")
    async with running(store.location, size=(140, 40)) as (app, pilot):
        sheet = app.screen.query_one("#jobs", VirtualTable)
        await until(pilot, lambda: len(sheet.rows) == 2 and sheet.size.width > 0)
        await until(pilot, lambda: [sheet.render_line(y).text.split()[-1] for y in (1, 2)] == ["0.7", "0.4"])
        await until(pilot, lambda: "α 0.7" in app.screen.query_one("#where", MessageBar).text)
