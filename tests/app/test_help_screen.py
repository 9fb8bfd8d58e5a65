"""`?`: the keys of the screen first, in dialogs as well, and a character where words are typed."""

from pathlib import Path

import pytest
from app.support import running, until
from textual.widgets import Input, Static

from persyn_tui.app import bindings
from persyn_tui.app.screens.help_screen import Entry, KeysScreen, written
from persyn_tui.app.screens.wizard.screen import Wizard
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.virtual_table import VirtualTable


def keys(app) -> list[str]:
    """The lines of the help."""
    return str(app.screen.query_one("#keys", Static).render()).splitlines()


@pytest.mark.parametrize(
    ("mode", "known"), [("jobs", "New"), ("models", "Add"), ("router", "Ask"), ("logs", "")]
)
async def test_the_screens_own_keys_come_first(tmp_path: Path, mode: str, known: str) -> None:
    async with running(str(tmp_path / "s.db"), mode=mode, size=(80, 24)) as (app, pilot):
        below = app.screen
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen) and len(keys(app)) > 1)
        assert keys(app)[0] == "── this screen "
        assert known in "\n".join(keys(app)[:8])
        assert "── everywhere " in keys(app)
        assert all(len(line) <= 76 for line in keys(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is below)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen))
        await pilot.press("question_mark")
        await until(pilot, lambda: app.screen is below)


async def test_the_wizard_and_a_question_have_it_and_a_line_takes_the_character(tmp_path: Path) -> None:
    async with running(str(tmp_path / "s.db"), size=(80, 24)) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, Wizard))
        wizard = app.screen
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen) and "Next" in "\n".join(keys(app)))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is wizard)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.focused, Input))
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "?")
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen))
        await pilot.press("f1")
        await until(pilot, lambda: app.screen is wizard)
        app.push_screen(Confirm("Stop?", "Nothing is lost.", "Stop"))
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen) and "Yes" in "\n".join(keys(app)))


def test_columns_are_read_downwards_and_fit() -> None:
    parts = [
        (
            "one",
            [
                Entry("first", {"a": "x.first", "A": "x.other"}),
                Entry("second", {"b": ""}),
                Entry("x" * 90, {"c": "x.third"}),
            ],
        )
    ]
    lines = written(parts, 60).splitlines()
    assert lines[0] == "── one "
    assert lines[1].split() == ["a", "A", "first", "c", "x" * 15 + "…"]
    assert lines[2].split() == ["b", "second"]
    lines = written(parts, 60, ids=True).splitlines()
    assert [line.split() for line in lines[1:]] == [["a", "x.first", "c", "x.third"], ["A", "x.other"]]


def test_a_key_that_another_entry_names_is_told_once() -> None:
    parts = [
        ("one", [Entry("α", {"[ ]": "x.less"}), Entry("More α", {"]": "x.more"}), Entry("x", {"c": ""})])
    ]
    assert [line.split() for line in written(parts, 60).splitlines()[1:]] == [["[", "]", "α", "c", "x"]]
    both = [line.split() for line in written(parts, 60, ids=True).splitlines()[1:]]
    assert both == [["[", "]", "x.less", "]", "x.more"]], "each can be given another key"


async def test_i_shows_the_ids_that_the_settings_file_takes(tmp_path: Path) -> None:
    async with running(str(tmp_path / "s.db"), mode="data", size=(80, 24)) as (app, pilot):
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen) and len(keys(app)) > 1)
        shown = keys(app)
        await pilot.press("i")
        await until(pilot, lambda: any("view.freeze" in line for line in keys(app)))
        found = [word for line in keys(app) for word in line.split() if "." in word]
        assert {"go.data", "app.detach", "view.maximise"} <= set(found)
        assert bindings.unknown(dict.fromkeys(found, "f9")) == []
        await pilot.press("i")
        await until(pilot, lambda: keys(app) == shown)


@pytest.mark.parametrize(("mode", "opens"), [("logs", False), ("models", True)])
async def test_a_key_of_a_list_that_does_nothing_there_is_not_offered(
    tmp_path: Path, mode: str, opens: bool
) -> None:
    async with running(str(tmp_path / "s.db"), mode=mode) as (app, _):
        sheet = app.screen.query(VirtualTable).first()
        assert sheet.check_action("choose", ()) is opens
        assert sheet.check_action("mark", ()) is False
