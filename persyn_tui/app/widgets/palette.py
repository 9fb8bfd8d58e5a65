"""The command palette: a line to search in a list of commands.

The commands are known when it opens, so each letter finds at once what it finds: the list is never an old one while
another is looked for.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from textual import on
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.fuzzy import Matcher
from textual.screen import ModalScreen
from textual.widgets import Input

from persyn_tui.app.textual_fixes.dismiss_guard import DismissGuard
from persyn_tui.app.widgets.virtual_table import Cell, Column, VirtualTable

NONE = -1
"""Key of the line that says that there is none."""


class Palette(ModalScreen[SystemCommand], DismissGuard[SystemCommand]):
    """A line to type a command's name in, and the commands that it may be; gives one of them."""

    DEFAULT_CSS = """
    Palette { background: $background 60%; align-horizontal: center; }
    Palette > Vertical { width: 90%; max-width: 100; height: 80%; margin-top: 1; padding: 1 2; background: $surface; }
    Palette Input { margin-bottom: 1; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back", key_display="esc", id="palette.back"),
        Binding("down", "move(1)", "Down", show=False, id="palette.down"),
        Binding("up", "move(-1)", "Up", show=False, id="palette.up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="palette.page_down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="palette.page_up"),
    ]
    AUTO_FOCUS = "Input"

    def __init__(self, offered: Iterable[SystemCommand], example: str = "Search for commands…") -> None:
        super().__init__()
        self._offered = list(offered)
        self._example = example
        self._found: list[SystemCommand] = []

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Input(placeholder=self._example, compact=True)
            sheet = VirtualTable((Column(""), Column("", 22, drop=1)), id="found", opens_at_once=True)
            sheet.can_focus = False  # what is typed goes to the line, wherever was clicked
            yield sheet

    def ready(self) -> None:
        self._find("")

    @property
    def titles(self) -> list[str]:
        return [one.title for one in self._found]

    def _find(self, words: str) -> None:
        self._found = matching(self._offered, words)
        rows = [(number, [Cell(one.title), Cell(one.help, "dim")]) for number, one in enumerate(self._found)]
        sheet = self.query_one(VirtualTable)
        sheet.fill(rows or [(NONE, [Cell("no command has these letters", "dim"), Cell("")])])
        sheet.action_top()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self.is_mounted:
            self._find(event.value)

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._choose(self.query_one(VirtualTable).key)

    @on(VirtualTable.Chosen)
    def _clicked(self, event: VirtualTable.Chosen) -> None:
        self._choose(event.key)

    def _choose(self, number: object) -> None:
        if isinstance(number, int) and 0 <= number < len(self._found):
            self.dismiss(self._found[number])

    def action_move(self, by: int) -> None:
        self.query_one(VirtualTable).action_move(by)

    def action_page(self, by: int) -> None:
        self.query_one(VirtualTable).action_page(by)


def is_open(app: App[Any]) -> bool:
    """Whether one is on any screen, also one that is still being mounted or has another above it."""
    return any(isinstance(screen, Palette) for screen in app.screen_stack)


def matching(offered: Sequence[SystemCommand], words: str) -> list[SystemCommand]:
    """The commands with these letters in their order, the best match first; without any, those to be discovered."""
    if not words.strip():
        return [one for one in offered if one.discover]
    matcher = Matcher(words)
    found = [(matcher.match(one.title), one) for one in offered]
    return [one for score, one in sorted(found, key=lambda pair: -pair[0]) if score > 0]
