"""The command palette, and what it offers: screens, what can be done here and elsewhere, themes."""

import asyncio
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.command import CommandList, CommandPalette
from textual.screen import Screen

from persyn_tui.app.frame import View
from persyn_tui.app.once import Once

if TYPE_CHECKING:
    from persyn_tui.app.app import PersynApp

MOVES = ("sheet.", "go.", "app.", "keys.")
"""Beginnings of the ids of keys that the palette has no need of."""
PATIENCE_S = 10.0
"""How long a screen may read before what was asked of it is given up."""


class Palette(CommandPalette, Once[Any]):
    """The library's palette, left once, and still while its list is not laid out."""

    def _action_command_list(self, action: str) -> None:
        # Moving by pages looks up lines that are there only once they are laid out.
        with suppress(KeyError, IndexError):
            super()._action_command_list(action)

    def _refresh_command_list(self, *found: Any) -> None:
        # The search may end after the palette was left.
        if self.query(CommandList):
            super()._refresh_command_list(*found)

    def leave(self) -> None:
        """As esc."""
        self._action_escape()


def is_open(app: App[Any]) -> bool:
    """Whether one is on any screen, also one that is still being mounted or has another above it."""
    return any(isinstance(screen, CommandPalette) for screen in app.screen_stack)


def commands(app: "PersynApp", screen: Screen[Any]) -> Iterable[SystemCommand]:
    """Screens first, then what can be done here; what is found by its name only comes after them.

    Two may have one title: the first is meant.
    """
    for number, mode in enumerate(app.MODES, start=1):
        key = app.keyed(f"key {{go.{mode}:{number}}}")
        yield SystemCommand(f"Go to {mode}", key, partial(app.open_mode, mode))
    yield SystemCommand("Keys", "the keys of this screen", app.action_toggle_help)
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
        key = app.keyed(f"key {{{binding.id}:{app.get_key_display(binding)}}} there")
        yield SystemCommand(
            f"Go to {mode}: {binding.description}", key, partial(_begin, app, mode, binding), discover=False
        )
    for theme in sorted(app.available_themes):
        yield SystemCommand(f"Theme: {theme}", "", partial(setattr, app, "theme", theme), discover=False)


def elsewhere(app: "PersynApp") -> Iterable[tuple[str, Binding]]:
    """(mode, key) of what the other screens do, of those that are imported: the palette waits for none."""
    for mode in app.MODES:
        module = sys.modules.get(f"persyn_tui.app.{mode}.screen") or sys.modules.get(f"persyn_tui.app.{mode}")
        of = getattr(module, f"{mode.capitalize()}Screen", None)
        if of is None or mode == app.current_mode:
            continue
        for binding in vars(of).get("BINDINGS", ()):
            if isinstance(binding, Binding) and binding.id and binding.id.partition(".")[2] != "back":
                yield mode, binding


def _begin(app: "PersynApp", mode: str, binding: Binding) -> None:
    app.run_worker(_there(app, mode, binding), group="palette", exclusive=True, exit_on_error=False)


async def _there(app: "PersynApp", mode: str, binding: Binding) -> None:
    """Goes to a screen, and does something there once it has read."""
    await app.switch_mode(mode)
    screen = app.screen
    clock = asyncio.get_running_loop().time
    end = clock() + PATIENCE_S
    while isinstance(screen, View) and screen.state == "loading" and clock() < end:
        await asyncio.sleep(0.02)
    if app.screen is not screen:
        return  # somebody went on
    if screen.check_action(binding.action.partition("(")[0], ()):
        await app.run_action(binding.action, screen)
    else:
        app.notify(f"{binding.description}: nothing here to do it with", severity="warning")
