"""Dialogs in which nothing is typed: the key of a screen leaves them without an answer and goes there."""

from typing import TYPE_CHECKING, Generic, TypeVar

from textual.binding import BindingsMap
from textual.dom import DOMNode
from textual.screen import ModalScreen

from persyn_tui.app.textual_fixes.dismiss_guard import DismissGuard

if TYPE_CHECKING:
    from persyn_tui.app.app import PersynApp

R = TypeVar("R")


class Question(ModalScreen[R], DismissGuard[R], Generic[R]):
    """A small dialog over a screen. It never stays behind: going to another screen dismisses it with None."""

    app: "PersynApp"

    @property
    def _modal_binding_chain(self) -> list[tuple[DOMNode, BindingsMap]]:
        """Its own keys, and of all those behind it only the ones that go to a screen."""
        behind = next(bindings for node, bindings in self._binding_chain if node is self.app)
        going = {
            key: found
            for key, bindings in behind.key_to_bindings.items()
            if (found := [binding for binding in bindings if (binding.id or "").startswith("go.")])
        }
        return [*super()._modal_binding_chain, (self.app, BindingsMap.from_keys(going))]
