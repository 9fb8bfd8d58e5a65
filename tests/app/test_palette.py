"""The palette: what is found, by keys that come faster than the list, by clicks, and what is done then."""

from pathlib import Path

import pytest
from app.support import burst, running, stands, until
from textual.app import SystemCommand
from textual.widgets import Input

from persyn_tui.app.app import PersynApp
from persyn_tui.app.widgets.palette import Palette, matching
from persyn_tui.app.widgets.virtual_table import VirtualTable


def test_commands_are_found_by_letters_in_their_order_the_nearest_first() -> None:
    offered = [
        SystemCommand("Go to data: Export", "", print, False),
        SystemCommand("Export", "", print),
        SystemCommand("Filter", "", print),
    ]
    assert [one.title for one in matching(offered, "")] == ["Export", "Filter"]
    assert [one.title for one in matching(offered, "export")] == ["Export", "Go to data: Export"]
    assert [one.title for one in matching(offered, "gtd ex")] == ["Go to data: Export"]
    assert matching(offered, "zzz") == []


@pytest.mark.parametrize(
    "keys",
    [("pagedown",), ("pageup",), ("pagedown", "x", "pageup", "backspace"), ("z", "z", "pagedown", "enter")],
)
async def test_it_takes_keys_before_its_list_is_there_and_while_it_changes(
    tmp_path: Path, keys: tuple[str, ...]
) -> None:
    async with running(str(tmp_path / "s.db")) as (app, pilot):
        burst(app, "ctrl+p", *keys)
        await until(pilot, lambda: isinstance(app.screen, Palette))
        burst(app, "escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)


async def test_enter_and_one_click_do_what_the_line_says(tmp_path: Path) -> None:
    async def opened(app: PersynApp) -> VirtualTable:
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, Palette) and bool(app.screen.query(VirtualTable)))
        return app.screen.query_one(VirtualTable)

    def at(number: int) -> bool:
        return len(app.screen_stack) == 1 and getattr(app.screen, "NUMBER", 0) == number and stands(app)

    async with running(str(tmp_path / "s.db"), size=(100, 30)) as (app, pilot):
        await opened(app)
        await pilot.press(*"go to logs", "enter")
        await until(pilot, lambda: at(7))
        sheet = await opened(app)
        await until(pilot, lambda: sheet.size.height > 8)
        assert app.screen.titles[1] == "Go to models"
        await pilot.click(sheet, offset=(3, 2))
        await until(pilot, lambda: at(2))
        sheet = await opened(app)
        await pilot.press("down", "down", "up", "pagedown")
        await until(pilot, lambda: sheet.place > 2)
        assert isinstance(app.focused, Input)


async def test_the_screen_is_written_to_a_file_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with running(str(tmp_path / "s.db")) as (app, pilot):
        await pilot.press("ctrl+p", *"screenshot", "enter")
        await until(pilot, lambda: any("the screen is in" in note.message for note in app.messages))
        (file,) = tmp_path.glob("persyn-*.svg")
        assert "Jobs" in file.read_text()
        assert "command" not in file.read_text(), "the palette has gone"


async def test_a_command_of_another_screen_names_its_key_as_that_screen_does(tmp_path: Path) -> None:
    from persyn_tui.app.screens.distil import screen as distil
    from persyn_tui.app.screens.router import screen as router

    assert (distil.DistilScreen.NUMBER, router.RouterScreen.NUMBER) == (
        6,
        3,
    )  # imported, as they are after the start
    async with running(str(tmp_path / "s.db")) as (app, _):
        found = {one.title: one.help for one in app.get_system_commands(app.screen)}
        assert found["Go to router: α"] == "key [ ] there"
        assert found["Go to distil: Next strategy"] == "key → there"
        assert not [text for text in found.values() if "{" in text]


async def test_themes_have_a_palette_of_their_own(tmp_path: Path) -> None:
    async with running(str(tmp_path / "s.db")) as (app, pilot):
        app.action_change_theme()
        await until(pilot, lambda: isinstance(app.screen, Palette) and bool(app.screen.titles))
        await pilot.press(*"nord", "enter")
        await until(pilot, lambda: app.theme == "nord")
