"""What the command palette offers: screens, what can be done here and elsewhere, themes."""

import asyncio
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from textual.app import SystemCommand
from textual.binding import Binding
from textual.screen import Screen

from persyn_tui.app.base import keymap
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.textual_fixes.workers import background

MOVES = ("sheet.", "go.", "app.", "keys.", "palette.")
"""Beginnings of the ids of keys that the palette has no need of."""
PATIENCE_S = 10.0
"""How long a screen may read before what was asked of it is given up."""


def commands(app: BaseApp, screen: Screen[Any]) -> Iterable[SystemCommand]:
    """Screens first, then what can be done here; what is found by its name only comes after them.

    Two may have one title: the first is meant.
    """
    for number, mode in enumerate(app.MODES, start=1):
        key = app.keyed(f"key {{go.{mode}:{number}}}")
        yield SystemCommand(f"Go to {mode}", key, partial(app.switch_mode, mode))
    yield SystemCommand("Keys", "the keys of this screen", app.action_toggle_help)
    yield SystemCommand("Theme", "choose the colours", app.action_change_theme)
    yield SystemCommand(
        "Screenshot", "an SVG file, here", partial(app.call_after_refresh, _save_picture, app)
    )
    yield SystemCommand("Quit", "leave; jobs go on", app.action_quit)
    for active in screen.active_bindings.values():
        binding = active.binding
        ours = binding.id and not binding.id.startswith(MOVES)
        if active.enabled and ours:
            yield SystemCommand(
                binding.description,
                f"key {app.get_key_display(binding)}",
                partial(app.run_action, binding.action, active.node),
            )
    for mode, binding in elsewhere(app):
        key = keymap.shown(binding, app.works)
        yield SystemCommand(
            f"Go to {mode}: {binding.description}",
            f"key {key} there",
            partial(_begin, app, mode, binding),
            discover=False,
        )
    for theme in themes(app):
        yield theme._replace(title=f"Theme: {theme.title}", help="", discover=False)


def elsewhere(app: BaseApp) -> Iterable[tuple[str, Binding]]:
    """(mode, key) of what the other screens do, of those that are imported: the palette waits for none."""
    for mode in app.MODES:
        module = sys.modules.get(f"persyn_tui.app.screens.{mode}.screen")
        of = getattr(module, f"{mode.capitalize()}Screen", None)
        if of is None or mode == app.current_mode:
            continue
        for binding in vars(of).get("BINDINGS", ()):
            if isinstance(binding, Binding) and binding.id and binding.id.partition(".")[2] != "back":
                yield mode, binding


def _begin(app: BaseApp, mode: str, binding: Binding) -> None:
    background(app, partial(_there, app, mode, binding), group="palette", exclusive=True, exit_on_error=False)


async def _there(app: BaseApp, mode: str, binding: Binding) -> None:
    """Goes to a screen, and does something there once it has read."""
    await app.switch_mode(mode)
    screen = app.screen
    clock = asyncio.get_running_loop().time
    end = clock() + PATIENCE_S
    while isinstance(screen, BaseScreen) and screen.state == "loading" and clock() < end:
        await asyncio.sleep(0.02)
    if app.screen is not screen:
        return  # somebody went on
    if screen.check_action(binding.action.partition("(")[0], ()):
        await app.run_action(binding.action, screen)
    else:
        app.notify(f"{binding.description}: nothing here to do it with", severity="warning")


def _save_picture(app: BaseApp) -> None:
    """Writes what is on the screen to a file in the folder that the app was started in."""
    name = time.strftime("persyn-%Y%m%d-%H%M%S.svg")
    try:
        app.notify(f"the screen is in {app.save_screenshot(name, str(Path.cwd()))}", about="picture")
    except OSError as problem:
        app.notify(f"the picture could not be written: {problem}", severity="error", about="picture")


def themes(app: BaseApp) -> Iterable[SystemCommand]:
    """Every theme by its name."""
    for theme in sorted(app.available_themes):
        now = "now" if theme == app.theme else ""
        yield SystemCommand(theme, now, partial(setattr, app, "theme", theme))
