"""Screens over others that are left once."""

from typing import Generic, TypeVar

from textual.await_complete import AwaitComplete

from persyn_tui.app.sized import Sized

R = TypeVar("R")


class Once(Sized[R], Generic[R]):
    """A second key or click that comes while it is being left does nothing. To be named after the library's class.

    The library takes away whichever screen is on top then: the one behind it, and from the last one the app's end.
    """

    def dismiss(self, result: R | None = None) -> AwaitComplete:
        """Leaves with an answer; nothing where it is left already, or another screen is above it."""
        return super().dismiss(result) if self.is_active else AwaitComplete()
