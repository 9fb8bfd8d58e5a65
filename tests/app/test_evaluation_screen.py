"""Screen 6, enter: what the student answered to the evaluation prompts, before training and after."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from app.small_run import MadeRun, lines, make, showing, words
from app.support import answered, stands, until
from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.widgets import Static

from persyn_tui.app.app import PersynApp
from persyn_tui.app.screens.distil.evaluation_screen import EvaluatedScreen
from persyn_tui.app.textual_fixes import type_ahead
from persyn_tui.app.widgets.message_bar import MessageBar
from storage import jobs, results
from storage.records import Result
from storage.store import Store


@pytest.fixture
def made(tmp_path: Path) -> Iterator[MadeRun]:
    with Store.open(tmp_path / "s.db") as store:
        yield make(store, tmp_path)


async def opened(app: PersynApp, pilot: Pilot[None]) -> EvaluatedScreen:
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, EvaluatedScreen) and stands(app))
    assert isinstance(app.screen, EvaluatedScreen)
    return app.screen


def marks(app: PersynApp) -> list[str]:
    """`before after` of each line that is listed."""
    return [" ".join(mark for mark in line.split() if mark in "✓✗–") for line in lines(app, "#prompts")[1:]]


def asked(app: PersynApp) -> str:
    return app.screen.query_one("#prompt", MessageBar).text


def said(app: PersynApp, side: str) -> str:
    return str(app.screen.query_one(side, VerticalScroll).query_one(Static).content)


async def test_the_answers_of_a_strategy_stand_beside_those_before_training(made: MadeRun) -> None:
    for strategy in ("strong", "persyn"):
        made.trained(strategy, 9)
    made.evaluated(None, [0, 1, 0, 0])
    made.evaluated("strong", [0, 1, 0, 0])
    made.evaluated("persyn", [1, 0, 1, 0])
    jobs.release(made.store, made.stage("evaluate"), "done")
    async with showing(made.store.location, "distil") as (app, pilot):
        screen = await opened(app, pilot)
        assert words(app, "#sums").split("   ") == [
            "persyn 50.0 % of 4 right",
            "before 25.0 % of 4 right",
            "newly right 2",
            "newly wrong 1",
        ]
        await until(pilot, lambda: marks(app) == ["✗ ✓", "✓ ✗", "✗ ✓", "✗ ✗"])
        assert asked(app) == "number 6"
        assert said(app, "#before") == "before training ✗ · 3 tok\nt"
        assert said(app, "#after") == "persyn ✓ · 3 tok\nt"
        await pilot.press("j")
        await until(pilot, lambda: "number 7" in asked(app))
        assert said(app, "#after").startswith("persyn ✗")
        for listed in (["✗ ✓", "✗ ✓"], ["✓ ✗"], ["✓ ✗", "✗ ✗"], ["✗ ✓", "✓ ✗", "✗ ✓", "✗ ✗"]):
            await pilot.press("f")
            await until(pilot, lambda listed=listed: marks(app) == listed)
        await pilot.press("left")
        await until(pilot, lambda: "strong 25.0 %" in words(app, "#sums"))
        await pilot.press("f")
        await until(pilot, lambda: marks(app) == ["✗ ✗"] * 3)  # training has changed none of them
        await pilot.press("g", "p", "j")  # frozen: what is asked for is shown all the same
        await until(pilot, lambda: asked(app) == "number 8")
        await pilot.press("left")
        await until(pilot, lambda: words(app, "#sums") == "before 25.0 % of 4 right")
        assert not screen.query_one("#before").display
        await pilot.press("y", "escape")
        await until(pilot, lambda: not isinstance(app.screen, EvaluatedScreen))


async def test_what_is_answered_so_far_is_shown_and_grows(made: MadeRun) -> None:
    made.trained("persyn", 9)
    made.evaluated(None, [0, 0, 0, 0])
    adapter = results.adapter(made.store, made.context.adapter_sha("persyn"))
    assert adapter is not None
    sha, student = made.context.evaluation_sha("persyn"), made.context.student_id
    found = results.open_evaluation(made.store, None, sha, student, adapter.id, made.context.prompt_set)
    async with showing(made.store.location, "distil") as (app, pilot):
        screen = await opened(app, pilot)
        assert screen.state == "empty"
        began = time.monotonic()
        await pilot.press("left", "right")
        await until(pilot, lambda: answered(app) and screen.state == "empty")
        assert time.monotonic() - began < type_ahead.PATIENCE_S, (
            "a screen without a list hears its keys at once"
        )
        hostile = "\x1b[2J[red]\u202eno[/red]"
        rows = [
            Result(made.prompts[6], 1.0, hostile, "ok", 3),
            Result(made.prompts[7], 0.0, "", "truncated", 9),
            Result(made.prompts[8], None, "who knows", "ok", 9),
        ]
        results.add_results(made.store, None, found.id, rows[:1])
        await until(pilot, lambda: screen.state == "full")
        await until(pilot, lambda: "100.0 % of 1 right so far" in words(app, "#sums"))
        assert "\x1b" not in said(app, "#after")
        assert "[red]" in said(app, "#after")
        assert screen.text_to_copy() == hostile
        results.add_results(made.store, None, found.id, rows[1:])
        await until(pilot, lambda: "50.0 % of 2 right (1 not judged) so far" in words(app, "#sums"))
        await pilot.press("j")
        await until(pilot, lambda: said(app, "#after") == "persyn ✗ · 9 tok · truncated\n(no text)")
        results.add_results(made.store, None, found.id, [Result(made.prompts[9], 1.0, "last", "ok", 1)])
        results.finish_evaluation(
            made.store, None, found.id, {"accuracy": 2 / 3, "ci_low": 0, "ci_high": 1, "n": 3}
        )
        await until(pilot, lambda: "66.7 % of 3 right (1 not judged)   before" in words(app, "#sums"))
