"""The keys that work now: the screen's own first, then those of the widget with the focus, then everybody's."""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from persyn_tui.app.question import Question
from persyn_tui.app.sheet import cut

EVERYBODYS = ("app.", "go.", "view.")
"""Beginnings of the ids of keys that many screens have."""
KEY = 13
"""Cells of a key; what it does has the rest."""

Lines = list[tuple[str, str]]
"""(key, what it does)."""


def sections(app: App[Any], screen: Screen[Any]) -> list[tuple[str, Lines]]:
    """(heading, keys) in the order in which an operator looks for them; keys of one action are one line."""
    own: dict[str, list[str]] = {}
    focused: dict[str, list[str]] = {}
    everybody: dict[str, list[str]] = {}
    # The library's own keys, which move a text cursor by words, come after ours.
    for active in sorted(screen.active_bindings.values(), key=lambda active: active.binding.id is None):
        binding = active.binding
        if not active.enabled or not binding.description or binding.key.startswith("super+"):
            continue
        within = active.node is screen or active.node is app
        shared = binding.id is None or binding.id.startswith(EVERYBODYS)
        place = focused if not within else everybody if shared or active.node is app else own
        keys = place.setdefault(binding.description, [])
        display = app.get_key_display(binding)
        if display not in keys:
            keys.append(display)
    headings = ("this screen", "where the cursor is", "everywhere")
    found = zip(headings, (own, focused, everybody), strict=True)
    return [(heading, [(" ".join(keys), what) for what, keys in of.items()]) for heading, of in found if of]


def written(parts: Sequence[tuple[str, Lines]], width: int) -> str:
    """The sections in two columns, read downwards, in `width` cells."""
    half = (width - 2) // 2
    text: list[str] = []
    for heading, lines in parts:
        cells = [cut(f"{cut(key, KEY - 1)} {what}", half) for key, what in lines]
        rows = -(-len(cells) // 2)
        left, right = cells[:rows], [*cells[rows:], ""][:rows]
        text += ["", f"── {heading} "] + [f"{a}  {b}".rstrip() for a, b in zip(left, right, strict=True)]
    return "\n".join(text[1:])


class KeysScreen(Question[None]):
    """Shows the keys of the screen below it until it is closed.

    Args:
        parts: as `sections` has them.
    """

    DEFAULT_CSS = """
    KeysScreen { align: center middle; background: $background 60%; }
    KeysScreen > VerticalScroll {
        width: 100%; max-width: 100; height: auto; max-height: 100%;
        border: round $primary; background: $surface; padding: 0 1; scrollbar-size-vertical: 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,enter", "leave", "Close", id="keys.close"),
        Binding("j", "scroll_by(1)", "Down", show=False, id="keys.down"),
        Binding("k", "scroll_by(-1)", "Up", show=False, id="keys.up"),
    ]

    def __init__(self, parts: Sequence[tuple[str, Lines]]) -> None:
        super().__init__()
        self._parts = parts

    def compose(self) -> ComposeResult:
        """The sections; the arrows scroll them."""
        with VerticalScroll() as box:
            yield Static(id="keys", markup=False)
        box.border_title = "keys"
        box.border_subtitle = "esc closes"

    def on_mount(self) -> None:
        """The arrows work at once."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        """As wide as there is room."""
        width = min(100, self.app.size.width) - 5
        self.query_one("#keys", Static).update(written(self._parts, width))

    def action_scroll_by(self, by: int) -> None:
        """Scrolls by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def action_leave(self) -> None:
        """Back to the screen."""
        self.dismiss(None)
