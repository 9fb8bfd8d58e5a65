"""Screen 5: rows taken out of a dataset and put back, and exports."""

import json
from pathlib import Path
from typing import Any

import pytest
from app.responses import Made, come, line, opened, screen, sheet, shown
from app.support import running, until
from textual.pilot import Pilot
from textual.widgets import Static

from persyn_tui.app.app import PersynApp
from persyn_tui.app.screens.data.export_form import ExportForm
from persyn_tui.app.screens.help_screen import sections
from persyn_tui.app.widgets.footer import Keys
from persyn_tui.app.widgets.form_fields import Form
from storage import datasets, listing, scores
from storage.errors import PersynError
from storage.records import Score


async def export_form(app: PersynApp, pilot: Pilot[None], *keys: str) -> Form:
    """The form that `e` opens."""
    await pilot.press(*keys, "e")
    await until(pilot, lambda: isinstance(app.screen, ExportForm))
    return app.screen.query_one(Form)


def written(folder: Path) -> list[dict[str, Any]]:
    """The rows of the one file that was exported there."""
    (out,) = folder.glob("*.jsonl")
    return [json.loads(text) for text in out.read_text().splitlines()]


async def test_an_export_begins_with_persyn_and_says_the_whole_path(made: Made, tmp_path: Path) -> None:
    async with running(opened(made), mode="data", size=(80, 24)) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportForm))
        assert app.screen.query_one(Form)["dataset"].value == "run/persyn"
        says = app.screen.query_one("#says", Static)
        await until(pilot, lambda: str(tmp_path) in str(says.render()))


async def test_marked_rows_leave_the_dataset_and_come_back(made: Made) -> None:
    first = made.datasets[0]
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("x")
        assert datasets.excluded(made.store, first) == [], "without a dataset in view nothing is excluded"
        screen(app).list_responses(listing.Listing(dataset_id=first))
        await come(app, pilot, lambda: len(shown(app)) == 12)
        await pilot.press("space", "space", "x")
        await until(pilot, lambda: datasets.excluded(made.store, first) == made.prompts[-2:])
        assert datasets.excluded(made.store, made.datasets[1]) == []
        await come(app, pilot, lambda: "✗ excluded" in line(app, 0) and not sheet(app).marked)
        # A mixed choice is excluded as a whole; undo gives back only what that changed.
        await pilot.press("g", "space", "j", "space", "x")
        await until(pilot, lambda: len(datasets.excluded(made.store, first)) == 3)
        await pilot.press("u")
        await until(pilot, lambda: datasets.excluded(made.store, first) == made.prompts[-2:])
        await pilot.press("g", "x")
        await until(pilot, lambda: datasets.excluded(made.store, first) == made.prompts[-2:-1])
        await pilot.press("u")
        await until(pilot, lambda: datasets.excluded(made.store, first) == made.prompts[-2:])


async def test_an_export_runs_in_the_background_and_says_where_it_is(made: Made, tmp_path: Path) -> None:
    datasets.exclude(made.store, made.datasets[1], made.prompts[:2])
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportForm))
        await pilot.press("right")
        form = app.screen.query_one("Form")
        await until(pilot, lambda: form.values["out"].endswith("run-persyn-sharegpt.jsonl"))  # type: ignore[attr-defined]
        await pilot.press("enter")
        out = tmp_path / "run-persyn-sharegpt.jsonl"
        await until(pilot, lambda: any(str(out) in note.message for note in app.messages))
        rows = [json.loads(text) for text in out.read_text().splitlines()]
        assert len(rows) == 10
        assert rows[0]["conversations"][-1] == {"from": "gpt", "value": "wise 2 "}
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportForm))
        await pilot.press("right", "enter")
        assert isinstance(app.screen, ExportForm), "nothing is overwritten"
        assert "already" in app.screen.query_one("Form")["out"].said  # type: ignore[index]


async def test_of_a_filtered_list_the_rows_that_pass_are_exported_or_all(made: Made, tmp_path: Path) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        screen(app).list_responses(listing.Listing(reward=0.6, dataset_id=made.datasets[0]))
        await come(app, pilot, lambda: len(shown(app)) == 6)
        form = await export_form(app, pilot)
        await until(pilot, lambda: form.at is form["rows"])
        assert form["rows"].said == "6 of 12: dataset run/mix · reward ≥ 0.6"
        await pilot.press("enter")
        await until(pilot, lambda: any("6 rows of" in note.message for note in app.messages))
        rows = written(tmp_path)
        assert [row["reward"] for row in rows] == [0.6, 0.7, 0.8, 0.9, 1.0, 1.1]
        form = await export_form(app, pilot)
        await until(pilot, lambda: form.at is form["rows"])
        await pilot.press("right")
        assert form["rows"].said == "12, whatever is listed or marked"


async def test_an_export_of_marked_rows_begins_with_a_dataset_that_holds_them(made: Made) -> None:
    datasets.exclude(made.store, made.datasets[1], made.prompts[:1])
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        sheet(app).go_to(1)  # of run/mix only
        form = await export_form(app, pilot, "space")
        await until(pilot, lambda: form.at is form["rows"])
        assert form["dataset"].value == "run/mix"
        assert form["rows"].said == "1 of 12: marked by hand"
        await pilot.press("up", "right")
        assert form["dataset"].value == "run/persyn", "a dataset is chosen as a format is"
        await until(pilot, lambda: form["rows"].said == "none of this dataset: marked by hand")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_footer_says_how_rows_are_marked_and_excluded(made: Made, size: tuple[int, int]) -> None:
    async with running(opened(made), mode="data", size=size) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        keys = app.screen.query_one(Keys)
        said = " ".join(f"{one.label} {one.name}" for one in keys.shown(size[0]) if one)
        assert "space Mark" in said
        assert "x Exclude" in said
        listed = {what: list(keys) for _, entries in sections(app, app.screen) for what, keys in entries}
        assert listed["Mark"] == ["space"]
        assert listed["Exclude"] == ["x"]


async def test_as_listed_are_the_rows_of_the_list_whatever_scored_them_since(
    made: Made, tmp_path: Path
) -> None:
    """A newer scorer is what the list goes by; the dataset keeps the scores that it was made with."""
    newer = scores.put_scorer(made.store, "reward_model", {})
    scores.add(made.store, None, newer, [(n, Score(1.0 if n < 4 else 0.0)) for n in range(1, 13)])
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        screen(app).list_responses(listing.Listing(quality=0.5, dataset_id=made.datasets[0]))
        await come(app, pilot, lambda: len(shown(app)) == 3)
        form = await export_form(app, pilot)
        await until(pilot, lambda: form["rows"].said == "3 of 12: dataset run/mix · quality ≥ 0.5")
        await pilot.press("enter")
        await until(pilot, lambda: any("3 rows of" in note.message for note in app.messages))
        rows = written(tmp_path)
        assert sorted(row["response_id"] for row in rows) == [1, 2, 3]


async def test_marked_rows_are_exported_alone(made: Made, tmp_path: Path) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        screen(app).list_responses(listing.Listing(dataset_id=made.datasets[0]))
        await come(app, pilot, lambda: len(shown(app)) == 12)
        marked = shown(app)[:2]
        form = await export_form(app, pilot, "space", "space")
        await until(pilot, lambda: form["rows"].said == "2 of 12: marked by hand")
        await pilot.press("enter")
        await until(pilot, lambda: any("2 rows of" in note.message for note in app.messages))
        rows = written(tmp_path)
        assert {row["response_id"] for row in rows} == set(marked)


async def test_an_export_form_says_one_thing_beside_the_rows_and_below(made: Made, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    async with running(opened(made), mode="data", size=(120, 30)) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportForm))
        form, says = app.screen.query_one(Form), app.screen.query_one("#says", Static)

        async def put(key: str, value: str, told: str) -> None:
            form[key].control.focus()
            await pilot.press("end", "ctrl+u", *value)
            assert told in form[key].said
            assert told in str(says.render())
            assert "a new file" not in str(says.render())
            form["form"].control.focus()
            await pilot.press("enter")
            assert form[key].control.has_focus, "enter goes to what is wrong"
            assert told in str(says.render())

        await put("out", str(tmp_path / "there"), "there already")
        await put("out", str(tmp_path / "nowhere" / "x"), "no such folder")
        await put("out", "~nobody-of-this-name/x", "no such folder")
        await put("out", "x" * 300, "too long")
        await put("out", "", "needed")
        await pilot.press(*"fresh")
        assert str(says.render()).startswith("a new file: ")
        assert (tmp_path / "there").read_text() == "precious"


async def test_an_error_goes_when_the_same_action_is_done(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run-persyn-messages.jsonl"
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)

        async def ordered(told: str) -> None:
            await pilot.press("e")
            await until(pilot, lambda: isinstance(app.screen, ExportForm))
            await pilot.press("enter")
            await until(pilot, lambda: any(told in note.message for note in app.messages))

        def full(*arguments: object) -> None:
            raise PersynError("the disk is full", "make room")

        app.notify("of something else", severity="error", timeout=60, about="else")
        with monkeypatch.context() as broken:
            broken.setattr("engine.report.export.export", full)
            await ordered("the disk is full")
        await ordered(f"are in {out}")
        assert [note.message for note in app.messages if note.severity == "error"] == ["of something else"]
        screen(app).list_responses(listing.Listing(dataset_id=made.datasets[0]))
        await come(app, pilot, lambda: len(shown(app)) == 12)
        with monkeypatch.context() as broken:
            broken.setattr(datasets, "exclude", full)
            await pilot.press("x")
            await until(pilot, lambda: any("disk is full" in note.message for note in app.messages))
        await pilot.press("x")
        await until(pilot, lambda: any("1 row excluded" in note.message for note in app.messages))
        assert not any("disk is full" in note.message for note in app.messages)


async def test_an_undo_that_fails_can_be_tried_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made.datasets[0]

    def fail(*arguments: object) -> None:
        raise PersynError("the store is busy")

    async with running(opened(made), mode="data") as (app, pilot):
        screen(app).list_responses(listing.Listing(dataset_id=first))
        await come(app, pilot, lambda: len(shown(app)) == 12)
        await pilot.press("x")
        await until(pilot, lambda: datasets.excluded(made.store, first) == made.prompts[-1:])
        with monkeypatch.context() as broken:
            broken.setattr(datasets, "exclude", fail)
            await pilot.press("u")
            await until(pilot, lambda: any("is busy" in note.message for note in app.messages))
        await pilot.press("u")
        await until(pilot, lambda: datasets.excluded(made.store, first) == [])
