"""Screens over others that are left once, however often a key or a click says so.

In Textual 8.2 `Screen.dismiss` pops whichever screen is on top, so a second call takes the one behind it along, and
from the last one the app's end (github.com/Textualize/textual/issues/2575). Can go once `dismiss` does nothing on a
screen that is not on top: `tests/app/test_dismiss_guard.py`.
"""

from typing import Generic, TypeVar

from textual import on
from textual.await_complete import AwaitComplete
from textual.events import Mount

from persyn_tui.app.textual_fixes.resize_guard import ResizeGuard

R = TypeVar("R")


class DismissGuard(ResizeGuard[R], Generic[R]):
    """A second `dismiss` does nothing. To be named after the library's class among the bases."""

    left = False
    """Whether it has been dismissed: its widgets go one by one, or never come."""

    @on(Mount)
    def _mounted(self) -> None:
        if not self.left:
            self.ready()

    def ready(self) -> None:
        """What is done once its widgets are there; not done where it was left before."""

    def dismiss(self, result: R | None = None) -> AwaitComplete:
        """Leaves with a result; nothing where it is left already, or another screen is above it."""
        if not self.is_active:
            return AwaitComplete()
        self.left = True
        return super().dismiss(result)
