"""Screen 4 on small real stores: totals, live counters, the newest responses, and what its keys do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from app.small_run import HOSTILE, MadeRun, lines, make, notes, showing, submit, words
from app.support import stands, until
from textual.widgets import Static

from engine.pipeline import job_commands
from persyn_tui.app.app import PersynApp
from persyn_tui.app.screens.data.responses_panel import ResponsesPanel
from persyn_tui.app.screens.generation.formatting import TEACHERS
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.message_bar import MessageBar
from persyn_tui.app.widgets.virtual_table import VirtualTable, fit
from storage import datasets, jobs
from storage.errors import StoreError
from storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


@pytest.fixture
def made(store: Store, tmp_path: Path) -> MadeRun:
    return make(store, tmp_path)


async def test_an_empty_store_says_the_next_step(tmp_path: Path) -> None:
    async with showing(str(tmp_path / "s.db"), "generation") as (app, pilot):
        assert app.screen.state == "empty"
        assert "n there makes one" in words(app, "#empty")
        for key in ("s", "x", "r", "enter", "escape", "y"):
            await pilot.press(key)
        await until(pilot, lambda: stands(app))
        assert notes(app) == ""  # what can do nothing is not offered


async def test_before_its_prompts_are_stored_a_job_shows_its_teachers(store: Store, tmp_path: Path) -> None:
    submit(store, tmp_path)
    async with showing(store.location, "generation") as (app, _):
        assert "nothing has been asked yet" in words(app, "#sums")
        assert [line.split()[0] for line in lines(app, "#teachers")[1:]] == ["brief", "spell"]


async def test_counts_of_calibration_and_what_all_teachers_would_be(made: MadeRun) -> None:
    made.answer(0, 0)
    made.answer(1, 0, "cut", "truncated")
    made.answer(0, 1)
    made.stage("calibrate", 3, 6)
    async with showing(made.store.location, "generation", size=(140, 28)) as (app, pilot):
        # Three prompts for each of two teachers, and three more to be routed: 9 of 12.
        assert "3 / 6 responses of 2 strategies + 3 to route" in words(app, "#sums")
        assert "$4.00   routed alone would be 9   all teachers would be 12 / $12.00" in words(app, "#sums")
        head, brief, spell = lines(app, "#teachers")
        assert brief.split()[2:5] == ["2", "/", "3"]
        assert brief[: head.index("trunc") + 5].split()[-1] == "1"
        assert brief.split()[-1] == "4.00"
        assert spell.split()[2:5] == ["1", "/", "3"]
        made.route("persyn", [0, 0, 0, 0, 1, 1])
        made.stage("generate", 0, 1)
        await until(pilot, lambda: "3 / 9 responses" in words(app, "#sums"))
        assert "to route" not in words(app, "#sums")


async def test_counts_of_a_running_job_are_of_what_is_stored_and_move_before_the_sums_are_made_again(
    made: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine has counted and not yet stored is in no number: counts and rows never go back."""
    monkeypatch.setattr("persyn_tui.app.screens.generation.query.EVERY_S", 1e9)
    made.answer(0, 0)
    row = {"done": 3, "total": 4, "tokens": 2, "counts": {"ok": 3}, "tokens_per_second": 120.0, "eta_s": 61.0}
    made.stage("calibrate", 3, 6, brief=row)
    async with showing(made.store.location, "generation", size=(140, 28)) as (app, pilot):
        assert "1 / 3" in lines(app, "#teachers")[1]
        assert "120 1m 01s" in lines(app, "#teachers")[1]
        made.answer(1, 0, "no", "refused")
        await until(pilot, lambda: "2 / 3" in lines(app, "#teachers")[1])
        assert "2 / 6 responses" in words(app, "#sums")
        assert "$4.00" in words(app, "#sums")
        assert len(lines(app, "#newest")) == 3
        head, brief, _ = lines(app, "#teachers")
        assert brief[: head.index("refused") + 7].split()[-1] == "1"
        made.answer(2, 0)
        jobs.command(made.store, made.job, "pause")
        await until(pilot, lambda: "3 / 6 responses" in words(app, "#sums"))
        assert len(lines(app, "#newest")) == 4


async def test_an_endpoint_s_requests_and_why_it_waits(made: MadeRun) -> None:
    """In flight of allowed; `+` and `-` leave a command for the teacher under the cursor, where one can be followed."""
    row = {"done": 1, "total": 3, "in_flight": 12, "allowed": 16, "most": 32, "retries": 2}
    lease = made.stage("calibrate", 1, 3, brief=row, spell={"done": 0, "total": 3})
    async with showing(made.store.location, "generation", size=(140, 28)) as (app, pilot):
        assert "in flight 12" in words(app, "#sums")
        head, brief, spell = lines(app, "#teachers")
        assert [line[: head.index("in flight") + 9].split()[-1] for line in (brief, spell)] == ["12/16", "–"]
        await until(pilot, lambda: "plus" in app.screen.active_bindings)
        await pilot.press("minus")
        await until(pilot, lambda: "half as many requests in flight (16 as last reported)" in notes(app))
        await pilot.press("plus")
        await until(pilot, lambda: "twice as many requests in flight (16 as last reported)" in notes(app))
        found = jobs.take_commands(made.store, lease)
        assert [(command.kind, command.args) for command in found] == [
            ("concurrency", {"teacher": "brief", "more": False}),
            ("concurrency", {"teacher": "brief", "more": True}),
        ]
        await pilot.press("j")
        await until(pilot, lambda: "plus" not in app.screen.active_bindings)
        await pilot.press("plus")
        await until(pilot, lambda: "no endpoint of `spell` is being asked" in notes(app))
        note = "waits 38 s: http://x/v1: HTTP 429: quota"
        made.stage("calibrate", 1, 3, brief={**row, "allowed": 32, "note": note})
        await until(pilot, lambda: told(app) == f"▲ brief: {note}")
        assert lines(app, "#teachers")[1][: head.index("ETA") + 3].endswith("waits")
        await pilot.press("k", "plus")
        await until(pilot, lambda: "as many as the run file allows" in notes(app))
        jobs.release(made.store, lease, "done")
        await until(pilot, lambda: told(app) == "")


def told(app: PersynApp) -> str:
    """What stands in the way, as the screen says it."""
    return app.screen.query_one("#trouble", MessageBar).text


async def test_totals_stay_after_the_job_has_ended_and_no_rate_is_claimed(made: MadeRun) -> None:
    for place in range(3):
        made.answer(place, 0)
    row = {"done": 3, "total": 3, "tokens": 6, "tokens_per_second": 4321.0, "eta_s": 0.0}
    jobs.release(made.store, made.stage("evaluate", 3, 3, brief=row), "done")
    async with showing(made.store.location, "generation") as (app, _):
        assert "3 / 3" in lines(app, "#teachers")[1]
        assert "tok/s" not in words(app, "#sums")
        # Of its three answers of 2 tokens, 0.1 s each, stored one after the other.
        assert "4,321" not in lines(app, "#teachers")[1]
        assert "⌀" in lines(app, "#teachers")[1]
        assert "⌀" not in lines(app, "#teachers")[2]


async def test_newest_come_first_and_say_why_they_are_not_used(
    made: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persyn_tui.app.screens.generation.query.EVERY_S", 0.0)
    monkeypatch.setattr("persyn_tui.app.screens.generation.query.PART_AT_REST", 0)
    made.answer(0, 0, "\n\n  first line\nsecond")
    made.answer(1, 0, "half an", "truncated")
    async with showing(made.store.location, "generation") as (app, pilot):
        rows = lines(app, "#newest")
        assert "quarantined: truncated at its limit · half an" in rows[1]
        assert "first line" in rows[2]
        assert "second" not in rows[2]
        made.answer(2, 1, "server said 500", "error")
        await until(pilot, lambda: "error · server said 500" in lines(app, "#newest")[1])
        assert app.screen.query_one("#newest", VirtualTable).place == 0
        await pilot.press("tab", "j")
        key = app.screen.query_one("#newest", VirtualTable).key
        made.answer(2, 0)
        await until(pilot, lambda: len(lines(app, "#newest")) == 5)
        assert app.screen.query_one("#newest", VirtualTable).key == key


async def test_enter_opens_all_answers_to_the_prompt_and_escape_goes_back(made: MadeRun) -> None:
    made.answer(0, 0, "one answer")
    made.answer(0, 1, "another answer")
    async with showing(made.store.location, "generation") as (app, pilot):
        await pilot.press("tab", "enter")
        panel = app.screen.query_one(ResponsesPanel)
        await until(pilot, lambda: panel.has_focus and panel.data is not None)
        assert (len(panel.data.responses), panel.text) == (2, "another answer")
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: panel.text == "one answer")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen.query_one("#newest").has_focus and not panel.display)


async def test_freeze_counts_what_is_new(made: MadeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persyn_tui.app.screens.generation.query.EVERY_S", 0.0)
    monkeypatch.setattr("persyn_tui.app.screens.generation.query.PART", 0)
    made.answer(0, 0)
    made.stage("calibrate", 1, 3)
    async with showing(made.store.location, "generation") as (app, pilot):
        await pilot.press("p")
        await until(pilot, lambda: not app.screen._reading.locked())  # a read under way may still be shown
        made.answer(1, 0)
        made.answer(2, 0)
        await until(pilot, lambda: "2 new" in words(app, "#title"))
        assert len(lines(app, "#newest")) == 2
        other, _ = jobs.submit(made.store, {"name": "other"}, "1" * 64, "other")
        app.followed.choose(other)
        app.screen.paint_title()
        assert f"job {made.job} · " in words(app, "#title")  # whose table it shows
        app.followed.choose(jobs.get(made.store, made.job))
        await pilot.press("p")
        await until(pilot, lambda: len(lines(app, "#newest")) == 4)
        assert "new" not in words(app, "#title")


async def test_pause_asks_and_leaves_the_command(made: MadeRun) -> None:
    row = {"done": 1, "total": 3, "in_flight": 5, "allowed": 8, "most": 8}
    lease = made.stage("calibrate", 1, 3, brief=row)
    async with showing(made.store.location, "generation") as (app, pilot):
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        shown = " ".join(str(widget.render()) for widget in app.screen.query(Static))
        assert f"Pause job {made.job} (small)?" in shown
        assert "Everything committed is kept" in shown
        assert "5 responses in flight at endpoints are waited for, 30 s at most" in " ".join(shown.split())
        await pilot.press("n")
        await until(pilot, lambda: not isinstance(app.screen, Confirm))
        assert jobs.take_commands(made.store, lease) == []
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: [c.kind for c in jobs.take_commands(made.store, lease)] == ["pause"])


async def test_a_pause_says_what_it_waits_for_and_a_second_one_what_it_gives_up(made: MadeRun) -> None:
    row = {"done": 1, "total": 3, "in_flight": 5, "allowed": 8, "most": 8}
    lease = made.stage("calibrate", 1, 3, brief=row)
    async with showing(made.store.location, "generation") as (app, pilot):
        jobs.command(made.store, made.job, "pause")
        await until(pilot, lambda: "‖ pausing: 5 responses in flight" in words(app, "#title"))
        await until(pilot, lambda: "x" in app.screen.active_bindings)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        shown = " ".join(" ".join(str(widget.render()) for widget in app.screen.query(Static)).split())
        assert f"Stop job {made.job} (small) at once?" in shown
        assert (
            "waits for 5 responses in flight. They are given up, and their endpoints may bill them" in shown
        )
        await pilot.press("y")
        await until(pilot, lambda: "pauses at once" in notes(app))
        await until(pilot, lambda: jobs.stopping(made.store)[made.job].at_once)
        assert [c.kind for c in jobs.take_commands(made.store, lease)] == ["pause", "pause"]
        await until(pilot, lambda: "‖ pausing since" in words(app, "#title"))
        await until(pilot, lambda: "x" not in app.screen.active_bindings)
        jobs.release(made.store, lease, "paused")
        await until(pilot, lambda: "‖ paused" in words(app, "#title"))
        assert told(app) == ""


async def test_why_a_limit_is_low_stands_above_the_newest(made: MadeRun) -> None:
    row = {"done": 1, "total": 3, "in_flight": 8, "allowed": 8, "most": 64, "held": "5 × 429"}
    lease = made.stage("calibrate", 1, 3, brief=row)
    async with showing(made.store.location, "generation", size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: "── brief held at 8 of 64: 5 × 429 ──" in words(app, "#label"))
        jobs.release(made.store, lease, "done")
        await until(pilot, lambda: "held" not in words(app, "#label"))


async def test_what_was_sent_again_stays_known_after_the_stage(made: MadeRun) -> None:
    lease = made.stage("calibrate", 1, 3, brief={"done": 1, "total": 3, "allowed": 8, "retries": 2})
    progress = {"retries": {"calibrate": {"spell": 3}, "generate": {"spell": 4}, "score": {"spell": 50}}}
    jobs.set_stage(made.store, lease, "distill", {"stage": "distill", "done": 1, "total": 9, **progress})
    jobs.release(made.store, lease, "done")
    async with showing(made.store.location, "generation", size=(140, 28)) as (app, _):
        head, brief, spell = lines(app, "#teachers")
        assert [line[: head.index("retry") + 5].split()[-1] for line in (brief, spell)] == ["0", "7"]


async def test_keys_of_the_footer_are_those_of_the_stage(made: MadeRun) -> None:
    """`x` pauses on screen 4, at whatever stage the job has just come to; a training is stopped where it is shown."""
    made.stage("calibrate", 1, 3)
    async with showing(made.store.location, "generation") as (app, pilot):
        await until(pilot, lambda: "x" in app.screen.active_bindings)
        lease = made.stage("distill", 5, 90)
        await until(pilot, lambda: app.followed.job is not None and app.followed.job.stage == "distill")
        assert "x" in app.screen.active_bindings
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert app.screen._question == f"Pause job {made.job} (small)?"
        shown = " ".join(str(widget.render()) for widget in app.screen.query(Static))
        assert "in flight" not in shown
        await pilot.press("6")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 6 and stands(app))
        await until(pilot, lambda: {"x", "c"} <= set(app.screen.active_bindings))
        jobs.command(made.store, made.job, "cancel")
        await until(pilot, lambda: not {"x", "c"} & set(app.screen.active_bindings))
        await pilot.press("s")
        await until(pilot, lambda: "once it has stopped, the same key goes on with it" in notes(app))
        await pilot.press("x")
        await until(pilot, lambda: "is stopping already" in notes(app))
        jobs.release(made.store, lease, "cancelled")


async def test_the_screens_go_on_to_the_job_that_runs(made: MadeRun) -> None:
    """A live job that was chosen is followed to its end; one that has ended stays until another choice."""
    jobs.release(made.store, made.stage("evaluate", 3, 3), "done")
    other, _ = jobs.submit(made.store, {"name": "other"}, "1" * 64, "other")
    async with showing(made.store.location, "generation") as (app, pilot):
        await until(pilot, lambda: app.followed.id == other.id)
        lease = jobs.claim(made.store, other.id, "test", lease_seconds=600)
        await until(pilot, lambda: app.followed.job is not None and app.followed.job.state == "running")
        newest, _ = jobs.submit(made.store, {"name": "newest"}, "2" * 64, "newest")
        app.followed.choose(app.followed.job)
        second = jobs.claim(made.store, newest.id, "test", lease_seconds=600)
        await until(pilot, lambda: app.followed.others == () and app.followed.id == other.id)
        jobs.release(made.store, lease, "done")
        await until(pilot, lambda: app.followed.id == newest.id)
        app.followed.choose(jobs.get(made.store, made.job))
        await until(pilot, lambda: app.followed.others == (newest.id,))
        app.screen.ask()
        await until(
            pilot, lambda: f"job {made.job} · ✓ done (job {newest.id} is running)" in words(app, "#title")
        )
        jobs.release(made.store, second, "done")
        await until(pilot, lambda: app.followed.others == ())
        assert app.followed.id == made.job


async def test_a_run_that_goes_on_as_another_job_is_followed_wherever_it_was_started(made: MadeRun) -> None:
    jobs.release(made.store, made.stage("calibrate", 1, 3), "cancelled")
    stopped = jobs.get(made.store, made.job)
    async with showing(made.store.location, "generation") as (app, pilot):
        await until(pilot, lambda: app.followed.id == made.job)
        app.followed.stay()  # as `x` does
        other, _ = jobs.submit(made.store, {"name": "other"}, "1" * 64, "other")
        jobs.claim(made.store, other.id, "test", lease_seconds=600)
        await until(pilot, lambda: app.followed.others == (other.id,))
        assert app.followed.id == made.job
        again, _ = jobs.submit(made.store, stopped.spec, stopped.spec_sha, "small")
        await until(pilot, lambda: app.followed.id == again.id)


async def test_start_is_refused_while_it_runs_and_when_it_is_done(made: MadeRun) -> None:
    lease = made.stage("calibrate", 1, 3)
    async with showing(made.store.location, "generation") as (app, pilot):
        await pilot.press("s")
        await until(pilot, lambda: f"job {made.job} is running" in notes(app))
        jobs.release(made.store, lease, "done")
        await pilot.press("s")
        await until(pilot, lambda: f"job {made.job} is done" in notes(app))
        await until(pilot, lambda: app.followed.job.state == "done")
        await pilot.press("x")
        await until(pilot, lambda: "has already ended" in notes(app))


def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The jobs that an engine is started for from now on; none really is."""
    found: list[int] = []
    monkeypatch.setattr("engine.pipeline.launch.detach", lambda store, job: found.append(job.id))
    return found


async def test_retry_makes_a_job_with_more_attempts_and_the_same_results(
    made: MadeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = started(monkeypatch)
    made.answer(0, 0, "no such host", "error")
    jobs.release(made.store, made.stage("generate"), "done")
    async with showing(made.store.location, "generation") as (app, pilot):
        await pilot.press("r")
        await until(pilot, lambda: found != [])
        await until(pilot, lambda: app.followed.id == found[0])
    job = jobs.get(made.store, found[0])
    assert job.id > made.job
    assert job.spec["generation"]["max_attempts"] == 5
    before = jobs.get(made.store, made.job).spec
    assert {**job.spec, "generation": before["generation"]} == before


def test_retry_is_refused_where_it_would_change_nothing(made: MadeRun) -> None:
    def retry() -> None:
        job_commands.retry_failed(made.store, jobs.get(made.store, made.job))

    with pytest.raises(StoreError, match="no response and no verdict of job 1 ended in an error"):
        retry()
    made.answer(0, 0, "no such host", "error")
    lease = made.stage("generate")
    with pytest.raises(StoreError, match="asks again by itself"):
        retry()
    jobs.release(made.store, lease, "done")
    for strategy in ("strong", "persyn"):
        made.adapter(strategy)
    assert len(datasets.newest_first(made.store)) == 2
    with pytest.raises(StoreError, match="datasets of job 1 are built"):
        retry()


async def test_hostile_text_does_not_reach_the_terminal(made: MadeRun) -> None:
    made.answer(0, 0, HOSTILE)
    made.answer(1, 0, HOSTILE, "error")
    async with showing(made.store.location, "generation") as (app, pilot):
        await until(pilot, lambda: "[bold]markup" in "".join(lines(app, "#newest")))
        shown = "".join(lines(app, "#newest"))
        assert not any(mark in shown for mark in ("\x1b", "\x07", "\u202e"))
        await pilot.press("tab", "enter")
        await until(pilot, lambda: app.screen.query_one(ResponsesPanel).has_focus)


async def test_columns_that_hold_nothing_go_first_on_a_narrow_screen(made: MadeRun) -> None:
    made.answer(0, 0)
    lease = made.stage("calibrate", 1, 3, brief={"done": 1, "total": 3})
    async with showing(made.store.location, "generation", size=(80, 24)) as (app, pilot):
        shown = ("backend", "in flight", "retry", "trunc", "empty", "refused", "error", "$")
        heads = lambda: [title for title in shown if title in lines(app, "#teachers")[0]]  # noqa: E731
        await until(pilot, lambda: "in flight" not in heads())  # no endpoint is asked
        row = {"done": 1, "total": 3, "in_flight": 5, "allowed": 8, "most": 8}
        made.stage("calibrate", 1, 3, brief=row)
        await until(pilot, lambda: "in flight" in heads())
        assert "5/8" in lines(app, "#teachers")[1]
        assert "refused" not in heads()
        made.answer(1, 0, "no", "refused")
        await until(pilot, lambda: {"in flight", "refused", "$"} <= set(heads()))
        assert not {"trunc", "empty", "error"} & set(heads())
        jobs.release(made.store, lease, "done")


@pytest.mark.parametrize("width", [40, 50, 60, 72])
def test_a_narrow_screen_keeps_names_and_counts_whole(width: int) -> None:
    shown = {TEACHERS[column].title: cells for column, cells in fit(TEACHERS, width)}
    assert shown["teacher"] >= 12
    assert shown["done / assigned"] == 15


@pytest.mark.parametrize("size", [(80, 24), (100, 28), (140, 40)])
async def test_every_size_shows_teachers_newest_strip_and_footer(
    made: MadeRun, size: tuple[int, int]
) -> None:
    made.answer(0, 0)
    async with showing(made.store.location, "generation", size=size) as (app, pilot):
        assert "1 / 3" in lines(app, "#teachers")[1]
        assert app.screen.query_one("#newest").size.height >= 5
        for name in ("#machine", "Keys", "#title"):
            assert app.screen.query_one(name).region.bottom <= size[1]
            assert app.screen.query_one(name).size.height >= 1
        hidden = {80: "hidden: in flight", 100: "hidden: retry", 140: "queued"}[size[0]]
        await until(pilot, lambda: hidden in words(app, "#title"))
        if size[0] == 80:
            assert "backend" not in app.screen.without()
