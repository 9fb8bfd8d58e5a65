"""Screen 3 on small real stores: what it shows of each stage, and its keys."""

import json
from pathlib import Path

import numpy as np
import pytest
from app.router_run import HOSTILE, Made, lines, make, words
from app.support import running, until
from textual.widgets import Static

from engine.job.progress import from_json
from engine.scoring import score_table
from persyn_tui.app.screens.router.formatting import later
from persyn_tui.app.screens.router.query import Question, Routed
from persyn_tui.app.screens.router.screen import RouterScreen
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.slider import Slider
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage import jobs, routing
from storage.records import Assignment, NewPlan
from storage.store import Store


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path)


async def test_an_empty_store_says_the_next_step(tmp_path: Path) -> None:
    async with running(str(tmp_path / "s.db"), mode="router") as (app, pilot):
        assert app.screen.state == "empty"
        assert "d runs the demo" in str(app.screen.query_one("#empty", Static).render())
        for key in ("escape", "s", "enter", "slash", "e", "t", "o", "right_square_bracket", "n", "a"):
            await pilot.press(key)
        await until(pilot, lambda: any("no router" in note.message for note in app.messages))
        assert isinstance(app.screen, RouterScreen)


async def test_each_teacher_has_a_share_and_each_prompt_its_choice(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router", size=(158, 40)) as (app, pilot):
        await until(pilot, lambda: len(lines(app.screen, "#choices")) == 9)
        # Columns have their width once the layout is done.
        await until(pilot, lambda: "62.5" in lines(app.screen, "#shares")[2])
        await until(pilot, lambda: "[bold]mark" in lines(app.screen, "#choices")[1])
        brief, spell = lines(app.screen, "#shares")[1:]
        assert spell.split()[0] == "spell"
        assert ("5" in spell.split(), "62.5" in spell) == (True, True)
        assert "37.5" in brief
        rows = lines(app.screen, "#choices")[1:]
        assert "spell" in rows[0]
        assert "+0.90" in rows[0]
        assert "[bold]mark" in rows[0]
        assert not any(character in rows[0] for character in "\x1b\x07\u202e")
        assert ("near tie" in rows[1], "near tie" in rows[2]) == (True, False)
        assert "measured" in rows[5]
        assert "▁" in rows[2]
        assert "8 / 8 prompts routed" in words(app.screen, "#where")
        assert "Hit@1 1.00" in words(app.screen, "#where")
        assert "random  .75" in words(app.screen, "#measures")


async def test_bars_of_strength_stand_in_the_order_of_the_rows_beside_which_is_kept_while_routing(
    made: Made,
) -> None:
    made.answer()
    plan = made.route()
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        names = lambda: [row.split()[0] for row in lines(app.screen, "#shares")[1:]]  # noqa: E731
        await until(pilot, lambda: "strength ← " in lines(app.screen, "#choices")[0])
        await until(pilot, lambda: names() == ["brief", "spell"])  # the run file's
        assert "▁█" in lines(app.screen, "#choices")[1]  # spell is chosen
        with Store.open(made.path) as store:
            routing.finish_plan(store, None, plan)
        await until(pilot, lambda: names() == ["spell", "brief"])
        assert "█▁" in lines(app.screen, "#choices")[1]


async def test_80_by_24_keeps_strip_and_footer_and_names_what_is_hidden(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router", size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: len(lines(app.screen, "#choices")) == 9)
        await until(pilot, lambda: "hidden: " in words(app.screen, "#title"))
        assert "strength" in words(app.screen, "#title")
        assert app.screen.query_one("MachineStrip").region.bottom == 23
        assert app.screen.query_one("Keys").region.y == 23
        assert app.screen.query_one("#changes").region.bottom <= 22
        assert all(len(row) <= 80 for row in lines(app.screen, "#choices"))
        # The word has no room; where what is measured, not the router, has chosen, a mark stays.
        assert ["✓" in row for row in lines(app.screen, "#choices")[1:]] == [place == 5 for place in range(8)]


async def test_keys_choose_strategy_order_and_teacher(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        screen = app.screen
        await until(pilot, lambda: len(lines(screen, "#choices")) == 9)
        await pilot.press("o")
        await until(pilot, lambda: "smallest margins" in lines(screen, "#choices")[0])
        rows = lines(screen, "#choices")[1:]
        margins = [row.split("+")[1][:4] for row in rows if "measured" not in row]
        assert len(margins) > 4
        assert margins == sorted(margins)
        assert "+" not in "".join(row for row in rows if "measured" in row)  # the router chose otherwise
        await pilot.press("o")
        screen.query_one("#shares", VirtualTable).focus()
        await pilot.press("g", "enter")
        await until(pilot, lambda: "of brief" in lines(screen, "#choices")[0])
        assert len(lines(screen, "#choices")) == 4
        await pilot.press("escape")
        await until(pilot, lambda: len(lines(screen, "#choices")) == 9)
        await pilot.press("t")
        await until(pilot, lambda: words(screen, "#where").startswith("strong"))
        assert lines(screen, "#choices")[1:] == []
        assert "gives each prompt a teacher" in str(screen.query_one("#later", Static).render())
        await pilot.press("t")
        await until(pilot, lambda: words(screen, "#where").startswith("persyn"))


async def test_alpha_shows_at_once_what_it_would_change(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, RouterScreen)
        await until(pilot, lambda: screen.what_if is not None)
        assert "as in the run" in words(screen, "#changes")
        before = made.path.read_bytes()
        for _ in range(12):
            await pilot.press("right_square_bracket")
        await until(pilot, lambda: screen.what_if is not None and screen.what_if.alpha == 1.0)
        await until(pilot, lambda: "3 of 5 prompts get another best teacher" in words(screen, "#changes"))
        # Of the two held-out prompts the router's choice was best for both; by learnability for one.
        assert "Hit@1 1.00 → .50" in words(screen, "#changes")
        assert screen.what_if.found.after == (2, 3)
        header = lines(screen, "#shares")[0]
        assert "best α1" in header
        assert "60.0 %" in lines(screen, "#shares")[2]
        assert made.path.read_bytes() == before, "looking writes nothing"
        await pilot.press("n")
        await until(pilot, lambda: screen.what_if.normalization == "minmax")
        # Regrets of two units are compared as parts of a random choice's.
        await until(pilot, lambda: "of a random choice's" in words(screen, "#changes"))
        for _ in range(12):
            await pilot.press("left_square_bracket")
        await until(pilot, lambda: "alpha is idle: quality is 0/1" in words(screen, "#changes"))
        slider = screen.query_one(Slider)
        await pilot.click(Slider, offset=(slider.size.width - len(slider.words) - 2, 0))
        await until(pilot, lambda: slider.value == 1.0 and screen.what_if.alpha == 1.0)


async def test_pairs_are_those_that_the_router_learns_from(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    with Store.open(made.path) as store:
        context = made.context(store)
        trained = score_table.gather(context, ("calibration",))
        idle = trained.alpha_is_idle(context.run.reward, context.run.router.targets)
        pairs = int(np.isfinite(trained.labels(context.run.reward).training_rewards).all(axis=1).sum())
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, RouterScreen)
        await until(pilot, lambda: screen.what_if is not None)
        assert screen.what_if.found.idle == idle, "what the job's log says"
        assert screen.what_if.found.pairs == pairs
        assert screen.what_if.found.prompts > pairs, "validation prompts have labels, and train nothing"


async def test_a_strategy_without_the_router_shows_none_of_its_measures(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    with Store.open(made.path) as store:
        context = made.context(store)
        plan = routing.open_plan(
            store, None, NewPlan(context.identity.plan_sha("strong"), "strong", context.prompt_set, None, {})
        )
        teacher = context.generations[0].teacher_id
        routing.assign(store, None, plan.id, [Assignment(prompt, teacher) for prompt in made.prompts])
    async with running(made.location, mode="router", size=(150, 40)) as (app, pilot):
        screen = app.screen
        await until(pilot, lambda: "Hit@1" in words(screen, "#where"))
        await pilot.press("t")
        await until(pilot, lambda: words(screen, "#where").startswith("strong 8 / 8"))
        assert "Hit@1" not in words(screen, "#where")
        assert "random" not in words(screen, "#measures")
        await pilot.press("o")
        later = screen.query_one("#later", Static)
        await until(pilot, lambda: "chooses without margins" in str(later.render()))


def test_what_oracle_does_is_said_before_it_has_a_plan() -> None:
    data = Routed(
        Question(1, None, None, False), 1, "generate", "running", from_json({}), ("oracle",), "oracle",
        plan=None, total=8, assigned=0, teachers=("brief", "spell"),
    )  # fmt: skip
    assert "every teacher answers all of them" in later(data)


async def test_another_alpha_becomes_a_job_only_after_a_question(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router") as (app, pilot):
        screen = app.screen
        await until(pilot, lambda: screen.what_if is not None)
        await pilot.press("a")
        assert not isinstance(app.screen, Confirm)
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: screen.what_if.other)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        said = " ".join(str(widget.render()) for widget in app.screen.query(Static))
        assert "α 0.45, zscore" in said
        await pilot.press("n")
        await until(pilot, lambda: app.screen is screen)
    with Store.open(made.path) as store:
        assert len(jobs.recent(store)) == 1


async def test_scoring_and_training_show_their_progress(made: Made) -> None:
    rows = {"exact_answer": {"done": 6, "total": 12}, "learnability": {"done": 0, "total": 12}}
    progress = {"stage": "score", "unit": "answers", "done": 6, "total": 24, "rate": 3.0, "eta_s": 6.0}
    made.stage("score", {**progress, "rows": rows})
    async with running(made.location, mode="router") as (app, pilot):
        screen = app.screen
        await until(pilot, lambda: "6 / 12" in "".join(lines(screen, "#shares")))
        assert "score 6 / 24 answers   3.0 answers/s   ETA 6s" in words(screen, "#where")
        assert "Prompts stand here once they are routed" in str(screen.query_one("#later", Static).render())
        made.answer()
        progress = {"stage": "train_router", "unit": "steps", "done": 2, "total": 9}
        values = {"hit_at_1": 0.75, "hit_at_3": 1.0, "regret": 0.2}
        made.stage("train_router", progress, curve=[0.9, 0.9])  # an attempt that was killed
        made.stage("train_router", {**progress, "values": values}, curve=[0.2, 0.5, 0.75])
        await until(pilot, lambda: "train_router 2 / 9 steps" in words(screen, "#where"))
        assert "Hit@1  .75" in words(screen, "#where")
        (row,) = lines(screen, "#shares")[1:]
        assert ("Hit@1" in row, "▁" in row, row.endswith("0.750")) == (True, True, True)
        assert sum(row.count(bar) for bar in "▁▂▃▄▅▆▇█") == 3
        made.stage("route", {"stage": "route", "rows": {"persyn": {"done": 3, "total": 8}}})
        made.route(range(3))
        await until(pilot, lambda: "persyn 3 / 8 prompts routed" in words(screen, "#where"))
        await until(pilot, lambda: len(lines(screen, "#choices")) == 4)
        await until(pilot, lambda: "number" in lines(screen, "#choices")[1])
        await pilot.press("p")
        made.route()
        await pilot.press("p")
        await until(pilot, lambda: len(lines(screen, "#choices")) == 9)
        assert screen.chosen.prompt_id == made.prompts[2], "the cursor stays on its prompt"


async def test_export_writes_every_assignment(made: Made) -> None:
    made.answer()
    plan = made.route()
    made.finish()
    async with running(made.location, mode="router") as (app, pilot):
        await until(pilot, lambda: app.screen.data is not None and app.screen.data.plan is not None)
        await pilot.press("e")
        file = made.path.parent / "store.files" / "exports" / f"assignments-persyn-plan-{plan}.jsonl"
        await until(pilot, file.exists)
        found = [json.loads(line) for line in file.read_text().splitlines()]
        assert [row["prompt_id"] for row in found] == made.prompts
        assert found[7]["messages"][0]["content"] == HOSTILE
        assert (found[7]["teacher"], found[0]["strengths"]) == ("spell", {"brief": 1.0, "spell": 0.0})
        assert file.stat().st_mode & 0o077 == 0
        await pilot.press("s")
        await until(pilot, lambda: any("is done" in note.message for note in app.messages))
