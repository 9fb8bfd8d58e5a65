"""The keys that work now: the screen's own first, then those of the widget with the focus, then everybody's."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from persyn_tui.app.widgets.question import Question
from persyn_tui.app.widgets.virtual_table import cut

EVERYBODYS = ("app.", "go.", "view.")
"""Beginnings of the ids of keys that many screens have."""
KEY = 13
"""Cells of a key; what it does has the rest."""


class Entry(NamedTuple):
    """What some keys do."""

    what: str
    keys: dict[str, str]
    """Key → the id by which the settings file changes it; empty for one that it cannot."""


def sections(app: App[Any], screen: Screen[Any]) -> list[tuple[str, list[Entry]]]:
    """(heading, entries) in the order in which an operator looks for them; keys of one action are one entry."""
    own: dict[str, Entry] = {}
    focused: dict[str, Entry] = {}
    everybody: dict[str, Entry] = {}
    # The library's own keys, which move a text cursor by words, come after ours.
    for active in sorted(screen.active_bindings.values(), key=lambda active: active.binding.id is None):
        binding = active.binding
        if not active.enabled or not binding.description or binding.key.startswith("super+"):
            continue
        within = active.node is screen or active.node is app
        shared = binding.id is None or binding.id.startswith(EVERYBODYS)
        place = focused if not within else everybody if shared or active.node is app else own
        # The library writes "Page Left", we write "Page left".
        what = binding.description if binding.id else binding.description.capitalize()
        entry = place.setdefault(what, Entry(what, {}))
        entry.keys.setdefault(app.get_key_display(binding), binding.id or "")
    headings = ("this screen", "where the cursor is", "everywhere")
    found = zip(headings, (own, focused, everybody), strict=True)
    parts = [(heading, list(of.values())) for heading, of in found if of]
    legend: dict[str, str] = getattr(screen.focused, "LEGEND", {})
    shown = [Entry(what, {letter: ""}) for letter, what in legend.items()]
    return parts + [("what the letters stand for", shown)] * bool(shown)


def written(parts: Sequence[tuple[str, Sequence[Entry]]], width: int, *, ids: bool = False) -> str:
    """The sections in two columns, read downwards, in `width` cells; ids in place of what keys do where asked for."""
    half = (width - 2) // 2
    text: list[str] = []
    for heading, entries in parts:
        lines = _with_ids(entries) if ids else _told_once(entries)
        cells = [cut(f"{cut(' '.join(keys), KEY - 1)} {what}", half) for keys, what in lines]
        rows = -(-len(cells) // 2)
        left, right = cells[:rows], [*cells[rows:], ""][:rows]
        text += ["", f"── {heading} "] + [f"{a}  {b}".rstrip() for a, b in zip(left, right, strict=True)]
    return "\n".join(text[1:])


def _told_once(entries: Sequence[Entry]) -> list[tuple[list[str], str]]:
    """(keys, what they do), without an entry whose keys are all named by another one's: `[ ]` names `]` too."""
    pairs = [(entry, key.split()) for entry in entries for key in entry.keys if " " in key]
    return [
        (list(entry.keys), entry.what)
        for entry in entries
        if not any(entry is not of and set(entry.keys) <= set(named) for of, named in pairs)
    ]


def _with_ids(entries: Sequence[Entry]) -> list[tuple[list[str], str]]:
    """(keys, id) of all that can be given other keys."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        for key, id in entry.keys.items():
            if id:
                found.setdefault(id, []).append(key)
    return [(keys, id) for id, keys in found.items()]


class KeysScreen(Question[None]):
    """Shows the keys of the screen below it until it is closed."""

    DEFAULT_CSS = """
    KeysScreen { align: center middle; background: $background 60%; }
    KeysScreen > VerticalScroll {
        width: 100%; max-width: 100; height: auto; max-height: 100%;
        border: round $primary; background: $surface; padding: 0 1; scrollbar-size-vertical: 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,enter", "dismiss", "Close", id="keys.close"),
        Binding("i", "ids", "Ids for the settings file", id="keys.ids"),
        Binding("j", "scroll_by(1)", "Down", show=False, id="keys.down"),
        Binding("k", "scroll_by(-1)", "Up", show=False, id="keys.up"),
    ]

    def __init__(self, parts: Sequence[tuple[str, Sequence[Entry]]]) -> None:
        super().__init__()
        self._parts = parts
        self._ids = False

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            yield Static(id="keys", markup=False)
        box.border_title = "keys"
        box.border_subtitle = self.app.keyed(
            "{keys.ids:i} shows ids for the settings file · {keys.close:esc} closes"
        )

    def ready(self) -> None:
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        width = min(100, self.app.size.width) - 5
        for shown in self.query("#keys").results(Static):  # none while it is being left
            shown.update(written(self._parts, width, ids=self._ids))

    def action_ids(self) -> None:
        """Shows by which ids the settings file gives other keys, or again what the keys do."""
        self._ids = not self._ids
        self.query_one(VerticalScroll).border_title = "ids for the settings file" if self._ids else "keys"
        self.on_resize()

    def action_scroll_by(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)
