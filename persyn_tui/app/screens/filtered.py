"""What screens share whose list `/` filters by words."""

from typing import Any, ClassVar, TypeVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import Input

from persyn_tui.app.screens.base import BaseScreen

T = TypeVar("T")


class FilterLine(Input):
    """The words, above the list; shown from `/` until esc."""

    DEFAULT_CSS = """
    FilterLine { display: none; background: $surface; }
    FilterLine.on { display: block; }
    """

    def __init__(self, example: str) -> None:
        super().__init__(placeholder=f"words that a line must hold, e.g. {example}", id="words", compact=True)


class FilteredScreen(BaseScreen[T]):
    """A screen that yields a `FilterLine` in its body; what it reads is filtered by `passes`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/", id="view.filter"),
        Binding("escape", "back", "Clear the filter", show=False, id="view.back"),
    ]

    words: tuple[str, ...] = ()
    """What a line must hold, in lower case."""

    def question(self) -> Any:
        """The words of the filter; a screen adds what else it must know."""
        return self.words

    @property
    def filters(self) -> bool:
        return self.query_one(FilterLine).has_class("on")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`/` is a character where words are typed."""
        typed = action == "filter" and isinstance(self.focused, Input)
        return False if typed else super().check_action(action, parameters)

    def action_filter(self) -> None:
        line = self.query_one(FilterLine)
        line.add_class("on")
        line.focus()

    @on(Input.Changed, "#words")
    def _filtered(self, event: Input.Changed) -> None:
        self.words = tuple(event.value.lower().split())
        self.ask(frozen_too=True)

    @on(Input.Submitted, "#words")
    def _to_list(self) -> None:
        self.focus_first()

    def action_back(self) -> None:
        line = self.query_one(FilterLine)
        if self.filters:
            line.value = ""
            line.remove_class("on")
            self.focus_first()


def passes(text: str, words: tuple[str, ...]) -> bool:
    """Whether a line holds all the words, whatever their case."""
    lowered = text.lower()
    return all(word in lowered for word in words)
