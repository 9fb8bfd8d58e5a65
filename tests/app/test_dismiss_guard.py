"""Dialogs, the palette and the list of keys, under keys and clicks that come twice, too early or too late."""

import asyncio
from pathlib import Path

import pytest
from app.responses import Made
from app.support import burst, running, settled, until
from textual.events import MouseDown
from textual.geometry import Offset, Region, Size
from textual.screen import Screen
from textual.widgets import Input, Static

from persyn_tui.app.screens.data.sort_menu import SortMenu
from persyn_tui.app.screens.help_screen import KeysScreen
from persyn_tui.app.screens.wizard.screen import Wizard
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.palette import Palette
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage.listing import Listing


@pytest.mark.parametrize(
    "make",
    [
        lambda: Confirm("Stop?", "Nothing is lost.", "Stop"),
        lambda: KeysScreen([]),
        lambda: SortMenu(Listing()),
        lambda: Palette([]),
        Wizard,
    ],
    ids=["question", "keys", "menu", "palette", "dialog"],
)
async def test_what_is_left_twice_takes_the_screen_behind_it_not_along(made: Made, make) -> None:
    async with running(made.store.location) as (app, pilot):
        below, above = app.screen, make()
        await app.push_screen(above)
        above.dismiss(None)
        above.dismiss(None)
        await until(pilot, lambda: app.screen is below and above not in app.children)
        assert app.screen_stack == [below]


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("mode", "action"),
    [
        ("jobs", "command_palette"),
        ("jobs", "toggle_help"),
        ("jobs", "new"),
        ("models", "add"),
        ("data", "sort"),
        ("data", "filter"),
        ("data", "export"),
    ],
)
async def test_what_is_left_before_it_is_there_ends_nothing(
    made: Made, mode: str, action: str, turns: int
) -> None:
    async with running(made.store.location, mode=mode) as (app, pilot):
        await until(pilot, lambda: settled(app))
        below = app.screen
        await app.run_action(f"{'app' if hasattr(app, f'action_{action}') else 'screen'}.{action}")
        await until(pilot, lambda: app.screen is not below) if turns == 5 else None
        for _ in range(turns):
            await asyncio.sleep(0)
        if app.screen is not below:
            app.screen.dismiss(None)
        await until(pilot, lambda: app.screen is below and settled(app))


async def test_a_choice_made_twice_is_made_once(made: Made) -> None:
    async with running(made.store.location, mode="data") as (app, pilot):
        below = app.screen
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, SortMenu))
        options = app.screen.query_one(VirtualTable)
        options.action_choose()
        options.action_choose()
        await until(pilot, lambda: app.screen is below)
        await pilot.pause()
        assert app.screen_stack == [below]


async def test_one_palette_at_a_time_and_none_stays_behind(tmp_path: Path) -> None:
    def palettes() -> list[Screen[object]]:
        return [one for screens in app._screen_stacks.values() for one in screens if isinstance(one, Palette)]

    async with running(str(tmp_path / "s.db")) as (app, pilot):
        burst(app, "ctrl+p", "?", "ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, Palette) and isinstance(app.focused, Input))
        await until(pilot, lambda: app.screen.query_one(Input).value == "?")
        assert len(palettes()) == 1
        app.push_screen(KeysScreen([]))
        app.switch_mode("data")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 5 and not palettes())
        for _ in range(3):  # faster than one is gone
            burst(app, "ctrl+p", "escape")
        burst(app, "ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, Palette) and len(palettes()) == 1)


@pytest.mark.parametrize("make", [lambda: Confirm("a", "b", "c"), lambda: KeysScreen([]), Wizard])
async def test_a_dialog_without_widgets_can_be_resized(tmp_path: Path, make) -> None:
    """As the terminal may be while the dialog is mounted or left."""
    async with running(str(tmp_path / "s.db")) as (app, pilot):
        below, shown = app.screen, make()
        await app.push_screen(shown)
        await shown.query("*").remove()
        shown.on_resize()
        await pilot.resize_terminal(60, 20)
        await until(pilot, lambda: shown.size == Size(60, 20))
        assert app.screen is shown
        shown.dismiss(None)
        await until(pilot, lambda: app.screen is below)


async def test_a_click_on_what_has_been_taken_away_does_nothing(tmp_path: Path, monkeypatch) -> None:
    """It is painted until the next layout; the library looks for its parent, which it has no more."""
    async with running(str(tmp_path / "s.db")) as (app, pilot):
        gone = Static("gone")
        monkeypatch.setattr(app.screen, "get_widget_at", lambda x, y: (gone, Region(0, 0, 9, 9)))
        monkeypatch.setattr(app.screen, "get_widget_and_offset_at", lambda x, y: (gone, Offset(1, 1)))
        await app.on_event(MouseDown(None, 2, 2, 0, 0, 1, False, False, False, 2, 2))
        await pilot.press("7")
        await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == 7)
