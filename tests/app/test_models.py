"""Screen 2: what is listed, archived and found."""

from pathlib import Path

import pytest
from app.stored_models import answered, open_store, row, said, sheet, teacher
from app.support import running, until
from textual.widgets import Static

from persyn_tui.app.screens.models.form import ModelForm
from persyn_tui.app.widgets.confirm import Confirm
from storage import registry
from storage.records import Model, Sampling
from storage.store import Store

HOSTILE = "\x1b[2J\x1b]0;owned\x07 [red]text[/red] \u202etxt.exe\ud800"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return open_store(tmp_path, monkeypatch)


async def test_an_empty_store_says_the_next_step(store: Store) -> None:
    async with running(store.location, mode="models") as (app, _):
        assert app.screen.state == "empty"
        text = str(app.screen.query_one("#empty").render())
        assert "a   add" in text
        assert "run file" in text


async def test_teachers_come_before_students_and_80_columns_name_what_they_hide(store: Store) -> None:
    teacher(store, price={"input": 0.5, "output": 2})
    registry.put(store, Model("pupil", "student", "transformers", "zoo:student"), "s")
    async with running(store.location, mode="models", size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: len(sheet(app).rows) == 2)
        assert "terse" in row(app, 1)
        assert "not probed" in row(app, 1)
        assert "pupil" in row(app, 2)
        assert "backend" in sheet(app).hidden
        await until(pilot, lambda: "hidden: " in said(app, "#title"))
        assert "backend" in app.screen.without()
        assert app.screen.query_one("#machine").size.height == 1


async def test_the_list_shows_the_context_of_a_models_files(store: Store) -> None:
    teacher(store)
    async with running(store.location, mode="models", size=(140, 30)) as (app, pilot):
        await until(pilot, lambda: "zoo:brief" in row(app))
        assert " 256 " in row(app)


async def test_the_list_shows_family_and_size_that_no_run_file_gave(store: Store) -> None:
    registry.put(store, Model("pupil", "student", "transformers", "zoo:student"), "s", by_run=True)
    async with running(store.location, mode="models", size=(140, 30)) as (app, pilot):
        await until(pilot, lambda: "zoo:student" in row(app))
        assert " llama " in row(app)
        assert " 256 " in row(app)
        assert app.screen.chosen.family == "", "editing begins with what is stored"


async def test_archive_names_what_stays_and_undo_brings_it_back(store: Store) -> None:
    model = teacher(store)
    answered(store, model, 4)
    teacher(store, "wordy")
    async with running(store.location, mode="models") as (app, pilot):
        await until(pilot, lambda: "4 stored" in said(app, "#facts"))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        shown = " ".join(str(widget.render()) for widget in app.screen.query(Static))
        assert "Archive the teacher terse?" in shown
        assert "4 responses" in shown
        await pilot.press("n")
        assert len(registry.models(store)) == 2
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: len(sheet(app).rows) == 1)
        assert "1 archived, h shows" in said(app, "#title")
        await pilot.press("h")
        await until(pilot, lambda: len(sheet(app).rows) == 2)
        assert "archived" in row(app, 1)
        await pilot.press("h", "u")
        await until(pilot, lambda: len(registry.models(store)) == 2)
        await until(pilot, lambda: len(sheet(app).rows) == 2)


async def test_hostile_settings_do_nothing_to_the_terminal(store: Store) -> None:
    sampling = Sampling(stop=(HOSTILE,))
    registry.put(store, Model(HOSTILE, "teacher", "b", HOSTILE, system=HOSTILE, sampling=sampling), "x")
    async with running(store.location, mode="models", size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: "[red]text[/red]" in said(app, "#facts"))
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ModelForm))
        await pilot.press("escape")
        shown = said(app, "#facts") + row(app) + said(app, "#token")
        assert not set(shown) & {"\x1b", "\x07", "\u202e", "\ud800"}


async def test_slash_filters_models_and_a_stopped_filter_shows_all(store: Store) -> None:
    for name, model in (("terse", "zoo:brief"), ("sums", "zoo:adder")):
        teacher(store, name, model)
    async with running(store.location, mode="models") as (app, pilot):
        await until(pilot, lambda: len(sheet(app).rows) == 2)
        await pilot.press("slash", *"zoo:add", "enter")
        await until(pilot, lambda: len(sheet(app).rows) == 1 and "1 filtered" in said(app, "#title"))
        await until(pilot, lambda: said(app, "#facts").startswith("teacher sums"))
        await pilot.press("slash", *"er2")
        await until(pilot, lambda: "no model passes" in said(app, "#facts"))
        await pilot.press("escape")
        await until(pilot, lambda: len(sheet(app).rows) == 2)
