"""Keys that arrive before the dialog, the line or the screen is there that they are for."""

import time
from pathlib import Path

import pytest
from app.small_run import make, showing
from app.support import burst, running, until
from support import RUN
from textual.widgets import Input

from persyn_tui.app.screens.data.filter_form import FilterForm
from persyn_tui.app.screens.data.screen import DataScreen
from persyn_tui.app.screens.wizard.screen import Wizard
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.form_fields import Form, Line
from storage import jobs
from storage.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store.open(tmp_path / "app.db")


async def test_words_typed_ahead_reach_the_field_of_the_dialog(store: Store, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    async with running(store.location) as (app, pilot):
        burst(app, "n", "enter", *"run.yaml")
        await until(pilot, lambda: isinstance(app.screen, Wizard) and bool(app.screen.query("#file Form")))
        entry = app.screen.query_one("#file Form", Form)["path"]
        await until(pilot, lambda: entry.value == "run.yaml")


async def test_they_wait_for_a_dialog_that_is_slow_to_come(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    compose = Wizard.compose

    def slow(self: Wizard) -> object:
        time.sleep(0.3)  # the machine is busy: the loop stands still, and keys gather
        return compose(self)

    monkeypatch.setattr(Wizard, "compose", slow)
    async with running(store.location) as (app, pilot):
        burst(app, "n", "enter", *"run.yaml")
        await until(pilot, lambda: isinstance(app.screen, Wizard) and bool(app.screen.query("#file Form")))
        entry = app.screen.query_one("#file Form", Form)["path"]
        await until(pilot, lambda: entry.value == "run.yaml")


async def test_a_question_is_answered_by_the_key_behind_the_one_that_asks(store: Store) -> None:
    job, _ = jobs.submit(store, {"name": "first"}, "0" * 64, "first")
    async with running(store.location) as (app, pilot):
        burst(app, "x", "n", "x", "n", "x", "y")
        await until(pilot, lambda: jobs.get(store, job.id).state == "cancelled")
        assert not isinstance(app.screen, Confirm)


async def test_the_key_of_a_screen_goes_there_from_a_question_and_leaves_none_behind(store: Store) -> None:
    job, _ = jobs.submit(store, {"name": "first"}, "0" * 64, "first")
    async with running(store.location) as (app, pilot):
        burst(app, "x", "6")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 6)
        burst(app, "1", "x", "question_mark", "7")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 7)
        burst(app, "1")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 1)
        assert len(app.screen_stack) == 1
        assert jobs.get(store, job.id).state == "queued"


async def test_keys_wait_once_for_what_does_not_come_and_not_one_after_the_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(store.location) as (app, pilot):
        monkeypatch.setattr(app.ahead, "_hears", lambda: False)
        began = time.monotonic()
        burst(app, *"jjjjjjjj", "7")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 7)
        assert time.monotonic() - began < 4


async def test_words_go_to_the_line_that_a_key_opens_and_are_no_commands(
    store: Store, tmp_path: Path
) -> None:
    made = make(store, tmp_path)
    made.answer(0, 0)
    async with showing(store.location, "data") as (app, pilot):
        await until(pilot, lambda: app.screen.state == "full")
        burst(app, "/", *"fox")
        line = app.screen.query_one("#search", Input)
        await until(pilot, lambda: line.value == "fox")
        assert isinstance(app.screen, DataScreen)
        burst(app, "escape", "q")
        await until(pilot, lambda: app.leaving)


async def test_a_key_for_a_screen_that_has_read_nothing_yet_waits_for_its_rows(
    store: Store, tmp_path: Path
) -> None:
    made = make(store, tmp_path)
    made.answer(0, 0)
    async with showing(store.location, "jobs") as (app, pilot):
        burst(app, "5", "f")
        await until(pilot, lambda: isinstance(app.screen, FilterForm))


async def test_words_keep_their_fields_on_a_machine_that_takes_long_for_each_key(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Line.insert_text_at_cursor

    def slow(self: Line, text: str) -> None:
        time.sleep(0.1)
        insert(self, text)

    monkeypatch.setattr(Line, "insert_text_at_cursor", slow)
    made = make(store, tmp_path)
    made.answer(0, 0)
    async with showing(store.location, "data") as (app, pilot):
        await until(pilot, lambda: app.screen.state == "full")
        burst(app, "f", *"a-teacher-of-long-name", "down", "down", *"its-dataset")
        await until(pilot, lambda: isinstance(app.screen, FilterForm) and bool(app.screen.query(Form)))
        form = app.screen.query_one(Form)
        await until(pilot, lambda: form["dataset"].value == "its-dataset")
        assert form["teacher"].value == "a-teacher-of-long-name"
