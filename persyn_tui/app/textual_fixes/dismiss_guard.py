"""Screens over others that are left once."""

from typing import Generic, TypeVar

from textual import on
from textual.await_complete import AwaitComplete
from textual.events import Mount

from persyn_tui.app.textual_fixes.resize_guard import ResizeGuard

R = TypeVar("R")


class DismissGuard(ResizeGuard[R], Generic[R]):
    """A second key or click that comes while it is being left does nothing. To be named after the library's class.

    The library takes away whichever screen is on top then: the one behind it, and from the last one the app's end.
    """

    left = False
    """Whether it has been dismissed: its widgets go one by one, or never come."""

    @on(Mount)
    def _mounted(self) -> None:
        if not self.left:
            self.ready()

    def ready(self) -> None:
        """What is done once its widgets are there; not done where it was left before."""

    def dismiss(self, result: R | None = None) -> AwaitComplete:
        """Leaves with an answer; nothing where it is left already, or another screen is above it."""
        if not self.is_active:
            return AwaitComplete()
        self.left = True
        return super().dismiss(result)
