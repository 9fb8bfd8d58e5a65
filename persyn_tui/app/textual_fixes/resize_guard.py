"""Screens that are laid out for the size that the terminal has.

Textual 8.2 tells a screen its size once more whenever it has been laid out for another one. Two sizes that are under
way at the same time would take turns for ever, and nothing else would be done. Can go once `Screen._on_resize` passes
over a size that is no longer the app's: `tests/app/test_resize_guard.py`.
"""

from typing import Generic, TypeVar

from textual import on
from textual.events import Resize
from textual.screen import Screen

R = TypeVar("R")


class ResizeGuard(Screen[R], Generic[R]):
    """Passes over a size that the terminal no longer has."""

    @on(Resize)
    def _passes_over(self, event: Resize) -> None:
        if event.size != self.app.size:
            event.stop()
            event.prevent_default()
