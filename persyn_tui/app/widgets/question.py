"""Dialogs in which nothing is typed: the key of a screen leaves them without an answer and goes there."""

from collections.abc import Iterable
from typing import Generic, TypeVar

from textual.binding import Binding

from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.textual_fixes.dismiss_guard import DismissGuard
from persyn_tui.app.textual_fixes.private import PrivateModal

R = TypeVar("R")


class Question(PrivateModal[R], DismissGuard[R], Generic[R]):
    """A small dialog over a screen. It never stays behind: going to another screen dismisses it with None."""

    app: BaseApp

    def heard_behind(self, bindings: Iterable[Binding]) -> list[Binding]:
        """Those that go to a screen."""
        return [binding for binding in bindings if (binding.id or "").startswith("go.")]
