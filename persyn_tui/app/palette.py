"""The command palette: the library's, safe from keys and clicks that come too early or too late."""

from contextlib import suppress
from typing import Any

from textual.app import App
from textual.command import CommandPalette

from persyn_tui.app.once import Once


class Palette(CommandPalette, Once[Any]):
    """Left once, and still while its list is not laid out."""

    def _action_command_list(self, action: str) -> None:
        # Moving by pages looks up lines that are there only once they are laid out.
        with suppress(KeyError, IndexError):
            super()._action_command_list(action)

    def leave(self) -> None:
        """As esc."""
        self._action_escape()


def is_open(app: App[Any]) -> bool:
    """Whether one is on any screen, also one that is still being mounted or has another above it."""
    return any(isinstance(screen, CommandPalette) for screen in app.screen_stack)
