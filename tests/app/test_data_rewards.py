"""Screen 5: rewards of several settings, and datasets of one name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from app import full_store
from app.responses import Made, come, line, opened, screen, sheet, shown
from app.support import running, until
from textual.widgets import Static

from engine.pipeline.run_view import reader, run_of
from engine.scoring import rewards_for_prompt, score_table
from persyn_tui.app.screens.data import query as data_query
from persyn_tui.app.screens.data.export_form import ALL, ExportForm, Rows
from persyn_tui.app.screens.data.filter_form import FilterForm
from persyn_tui.app.screens.data.responses_panel import ResponseColumn, ResponsesPanel
from persyn_tui.app.screens.data.sort_menu import SortMenu
from persyn_tui.app.widgets.form_fields import Form, Line
from persyn_tui.views.dataset_view import Datasets
from storage import datasets, jobs, listing, responses, routing
from storage.records import Dataset, DatasetRow, NewPlan
from storage.store import Store

OLD = {"strategy": "persyn", "job": 1, "reward": {"alpha": 0.4, "normalization": "zscore"}}
NEW = {"strategy": "persyn", "job": 2, "reward": {"alpha": 0.8, "normalization": "rank"}, "rows": 6}


@pytest.fixture
def two(made: Made) -> tuple[Made, Dataset, Dataset]:
    """Of `made`, and two datasets of one name: rewards of other settings, of the first six prompts −1 and of all 2."""
    found = []
    for number, (manifest, reward, many) in enumerate(((OLD, 2.0, 12), (NEW, -1.0, 6))):
        plan = routing.open_plan(made.store, None, NewPlan(f"again{number}", "persyn", 1, None, {}))
        dataset = datasets.open_dataset(made.store, None, f"again{number}", plan.id, "twice/persyn", manifest)
        rows = [DatasetRow(made.prompts[n], n + 1, 1.0, -0.1, reward) for n in range(many)]
        datasets.add(made.store, None, dataset.id, rows)
        datasets.finish(made.store, None, dataset.id, manifest)
        found.append(dataset)
    return made, found[0], found[1]


def query(app: Any) -> str:
    return str(screen(app).query_one("#query", Static).render()).replace("\u00a0", " ")


async def test_rewards_of_several_settings_say_whose_they_are(two: tuple[Made, Dataset, Dataset]) -> None:
    made, _, new = two
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await until(
            pilot,
            lambda: "−1.00 c" in line(app, 10),
        )
        assert "+2.00 b" in line(app, 5)
        known = "rewards: b α 0.4 zscore · c α 0.8 rank"  # no row that is listed is of a
        await until(pilot, lambda: known in query(app))
        await pilot.press("o", "j", "j", "j", "j")
        assert isinstance(app.screen, SortMenu)
        await until(pilot, lambda: "mixes 2 scales" in str(app.screen._compositor.render_strips()))
        await pilot.press("enter")
        await until(pilot, lambda: "by reward, highest first · 2 scales mixed (f: one dataset)" in query(app))
        screen(app).list_responses(listing.Listing(dataset_id=new.id, sort="reward"))
        await come(app, pilot, lambda: len(shown(app)) == 6)
        assert "reward α 0.8 rank" in query(app)
        assert "mixed" not in query(app)
        assert "−1.00 " in line(app, 0), "one scale needs no letters"


async def test_a_bound_on_the_reward_asks_for_a_dataset(two: tuple[Made, Dataset, Dataset]) -> None:
    made, _, new = two
    async with running(opened(made), mode="data", size=(140, 40)) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, FilterForm))
        form = app.screen.query_one(Form)
        form["reward"].put("0.5")
        await until(pilot, lambda: "3 scales mixed" in form["reward"].said)
        form["dataset"].put(str(new.id))
        await until(pilot, lambda: form["dataset"].said.startswith(f"twice/persyn #{new.id} · job 2 · α 0.8"))
        assert "mixed" not in form["reward"].said


async def test_datasets_of_one_name_are_told_apart_by_number(
    two: tuple[Made, Dataset, Dataset], tmp_path: Path
) -> None:
    made, old, new = two
    async with running(opened(made), mode="data", size=(140, 40)) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await until(pilot, lambda: f"#{new.id} persyn" in line(app, 10))
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, FilterForm))
        form = app.screen.query_one(Form)
        form["dataset"].put("twice/persyn")
        await until(pilot, lambda: "add the number" in form["dataset"].said)
        says = app.screen.query_one("#says", Static)
        both = f"#{new.id} (job 2, α 0.8 rank, 6 rows) or #{old.id} (job 1, α 0.4 zscore)"
        await until(pilot, lambda: both in str(says.render()))
        await pilot.press("enter")
        assert isinstance(app.screen, FilterForm), "an ambiguous name filters nothing"
        form["dataset"].put(f"twice/persyn #{old.id}")
        await pilot.press("enter")
        await come(app, pilot, lambda: len(shown(app)) == 12)
        assert f"dataset twice/persyn #{old.id}" in query(app)
        await pilot.press("x")
        await until(pilot, lambda: datasets.excluded(made.store, old.id) == made.prompts[-1:])
        await until(pilot, lambda: any(f"`twice/persyn #{old.id}`" in n.message for n in app.messages))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportForm))
        form = app.screen.query_one(Form)
        assert form["dataset"].value == f"twice/persyn #{old.id}"
        assert "job 1 · α 0.4 zscore · 11 rows" in form["dataset"].said
        await pilot.press("up")
        while form["dataset"].value != f"twice/persyn #{new.id}":
            await pilot.press("right")
        await until(pilot, lambda: form["out"].value.endswith(f"twice-persyn-{new.id}-messages.jsonl"))
        await pilot.press("enter")
        out = tmp_path / f"twice-persyn-{new.id}-messages.jsonl"
        await until(pilot, lambda: any(f"`twice/persyn #{new.id}`" in n.message for n in app.messages))
        assert len(out.read_text().splitlines()) == 6


async def test_answers_side_by_side_are_on_one_scale_and_name_it(
    two: tuple[Made, Dataset, Dataset],
) -> None:
    made, old, _ = two
    async with running(opened(made), mode="data", size=(140, 40)) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        sheet(app).go_to(1)
        await pilot.press("enter")
        panel = screen(app).query_one(ResponsesPanel)
        await until(pilot, lambda: panel.chosen is not None)
        assert panel.chosen is not None
        assert panel.chosen["provenance"]["teacher"] == "wise"
        which = panel.query_one("#which", Static)
        assert "r α 0.8 rank" in str(which.render()), "the newest dataset's"
        assert "r −1.00" in str(panel.query(ResponseColumn).last().head.render())
        await pilot.press("i")
        origin = str(panel.query_one("#origin-text", Static).render())
        assert "reward −1.0000  by α 0.8 rank" in origin
        assert f"dataset {old.id} twice/persyn, reward +2.0000 by α 0.4 zscore" in origin


def test_calibration_answers_have_the_rewards_of_their_run_from_stored_scores(tmp_path: Path) -> None:
    with Store.open(tmp_path / "persyn.db") as store:
        full_store.build(store, tmp_path)
        prompt = listing.cards(store, [1])[1].prompt_id
        first = data_query.beside(store, 1)
        assert first is not None
        more = first.completed(store)
        assert more is not None
        assert sum(one["reward"] is not None for one in first.responses) == 1, "one row of the dataset"
        assert all(one["reward"] is not None for one in more.responses)
        assert more.rewards == "α 0.4 zscore"
        run = run_of(next(job for job in jobs.recent(store) if job.name == "arithmetic"))
        context = reader(store, run)

        table = score_table.rewards(context)
        own = responses.of_prompts(store, [prompt], context.generations)[prompt]
        alone = score_table.rewards(context, prompt)
        assert alone == {key: value for key, value in table.items() if key[0] == prompt}
        in_dataset = {one["id"] for one in first.responses if one["reward"] is not None}
        for teacher, answer in own.items():
            if answer.id not in in_dataset:
                shown = next(one["reward"] for one in more.responses if one["id"] == answer.id)
                assert shown == table[prompt, teacher]
        assert len(responses.ids_of_prompt(store, prompt)) == len(more.responses)


def test_numbers_letters_and_names_of_datasets() -> None:
    def dataset(id: int, name: str, alpha: float, complete: bool = True) -> Dataset:
        return Dataset(id, f"s{id}", 1, name, {"reward": {"alpha": alpha}}, complete)

    known = Datasets([dataset(3, "run/a", 0.8), dataset(2, "run/b", 0.4), dataset(1, "run/a", 0.4, False)])
    assert known.names == ["run/a #3", "run/b", "run/a #1"]
    assert [known.number(n) for n in (1, 2, 3, 4)] == ["#1", "", "#3", ""]
    assert [known.letter(n) for n in (1, 2, 3, 4, None)] == ["a", "a", "b", "", ""]
    assert [[one.id for one in known.find(text)] for text in ("run/a", "run/b", "run/a #1", "3", "run")] == [
        [3, 1],
        [2],
        [1],
        [3],
        [],
    ]
    assert known.which(known.find("run/a"), {3: 1}) == "#3 (α 0.8, 1 row) or #1 (α 0.4, not complete)"
    assert rewards_for_prompt.stored([], known.all) == rewards_for_prompt.Rewards()


async def test_the_end_of_a_long_path_is_in_view(two: tuple[Made, Dataset, Dataset]) -> None:
    made, _, new = two
    known = Datasets(datasets.newest_first(made.store))
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await app.push_screen(ExportForm(known, new, {ALL: Rows(None, {new.id: 6})}))
        await until(pilot, lambda: any(form.at is not None for form in app.screen.query(Form)))
        await pilot.press("right", "right", "right")
        out = app.screen.query_one(Form)["out"].control
        assert isinstance(out, Line)
        await until(pilot, lambda: out.value.endswith(".parquet"))
        assert out.cursor_position == len(out.value)


def test_a_row_says_of_which_run_its_dataset_is_where_several_call_it_so(
    two: tuple[Made, Dataset, Dataset],
) -> None:
    one = two[1]
    named = [replace(one, id=n, name=name) for n, name in enumerate(("lab/a", "night/a", "night/b"), start=1)]
    known = Datasets(named)
    assert [known.within(each.name) for each in named] == ["lab/a", "nig…/a", "b"]


async def test_a_line_shows_the_same_of_its_prompt_when_fewer_are_seen(
    two: tuple[Made, Dataset, Dataset],
) -> None:
    async with running(opened(two[0]), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        rows = sheet(app)
        rows._prepare(range(16))
        before = dict(rows.pages.shown)
        rows._prepare(range(3))
        after = rows.pages.shown
        assert after
        assert {id: before[id] for id in after} == after
