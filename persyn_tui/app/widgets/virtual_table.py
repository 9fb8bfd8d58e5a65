"""The list of every screen: fixed columns, any number of rows, only the visible ones are ever asked for.

Rows are known by key, so the cursor stays on its row while others come and go above it. Cells are plain
text: markup is never read, and characters that could act on the terminal are replaced.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, Protocol

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from engine.base.sanitize import strip_control
from persyn_tui.app.textual_fixes.private import is_handled

Tone = Literal["plain", "dim", "good", "warn", "bad", "accent", "strong"]
LINES_KEPT = 512
"""Painted lines held by a table: one that is shown again, or scrolled by a row, is not made anew."""
TONES: tuple[Tone, ...] = ("plain", "dim", "good", "warn", "bad", "accent", "strong")


class Cell(NamedTuple):
    """Text with a tone."""

    text: str
    tone: Tone = "plain"


def text_of(cell: Cell | str) -> str:
    """The text of a cell with a tone or without."""
    return cell if isinstance(cell, str) else cell.text


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Widths never depend on the rows: nothing jumps while numbers change."""

    title: str
    width: int = 0
    """Cells; 0 shares what the others leave."""
    right: bool = False
    """Aligned to the right, as numbers are."""
    drop: int = 0
    """Where the screen is narrow, the columns with the highest number go first; 0 stays."""
    most: int = 0
    """Cells at most of a column without a width: on a wide screen its numbers stay near its words; 0 for any."""


class Rows(Protocol):
    """Where a table's rows come from."""

    def __len__(self) -> int:
        """How many there are."""

    def key(self, index: int) -> Hashable:
        """What the row at this place is known by; None while it is not known."""

    def cells(self, index: int) -> Sequence[Cell | str] | None:
        """One per column; None while they are being fetched."""

    def find(self, key: Hashable) -> int | None:
        """Where the row of this key stands; None when it is not there."""


class Listed:
    """Rows that are all in memory."""

    def __init__(self, rows: Sequence[tuple[Hashable, Sequence[Cell | str]]] = ()) -> None:
        self._rows = rows
        self._places = {key: place for place, (key, _) in enumerate(rows)}

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> Hashable:
        return self._rows[index][0]

    def cells(self, index: int) -> Sequence[Cell | str]:
        return self._rows[index][1]

    def find(self, key: Hashable) -> int | None:
        return self._places.get(key)


def fit(columns: Sequence[Column], width: int, least: int = 12) -> list[tuple[int, int]]:
    """(column number, cells) of the columns that are shown in `width` cells, one cell between two.

    A flexible column keeps `least` cells before others are dropped.
    """
    shown = list(range(len(columns)))

    def taken() -> int:
        return sum(columns[i].width or least for i in shown) + len(shown) - 1

    while taken() > width and any(columns[i].drop for i in shown):
        shown.remove(max(shown, key=lambda i: (columns[i].drop, i)))
    flexible = [i for i in shown if not columns[i].width]
    spare, odd = divmod(width - taken(), max(1, len(flexible)))
    room = {i: max(1, least + spare + (place < odd)) for place, i in enumerate(flexible)}
    room = {i: min(cells, columns[i].most or cells) for i, cells in room.items()}
    return [(i, room.get(i, columns[i].width)) for i in shown]


class VirtualTable(ScrollView, can_focus=True):
    """Rows under a header, with a cursor and marks."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "virtual-table--header",
        "virtual-table--cursor",
        "virtual-table--marked",
        *(f"virtual-table--{tone}" for tone in TONES),
    }
    DEFAULT_CSS = """
    VirtualTable { height: 1fr; scrollbar-size-horizontal: 0; scrollbar-size-vertical: 1; scrollbar-gutter: stable;
            background: transparent;
            scrollbar-color: $foreground 25%; scrollbar-background: $background; scrollbar-corner-color: $background; }
    VirtualTable > .virtual-table--header { color: $quiet; text-style: none; }
    VirtualTable > .virtual-table--cursor { background: $surface-lighten-2; }
    VirtualTable:focus > .virtual-table--cursor { background: $primary 40%; text-style: bold; }
    VirtualTable > .virtual-table--marked { background: $accent 25%; }
    VirtualTable > .virtual-table--dim { color: $quiet; }
    VirtualTable > .virtual-table--good { color: $text-success; }
    VirtualTable > .virtual-table--warn { color: $text-warning; }
    VirtualTable > .virtual-table--bad { color: $text-error; }
    VirtualTable > .virtual-table--accent { color: $text-primary; }
    VirtualTable > .virtual-table--strong { text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "Down", show=False, id="sheet.down"),
        Binding("k,up", "move(-1)", "Up", show=False, id="sheet.up"),
        Binding("g,home", "top", "First row", show=False, id="sheet.top"),
        Binding("G,end", "bottom", "Last row", show=False, id="sheet.bottom"),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False, id="sheet.page_down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="sheet.page_up"),
        Binding("enter", "choose", "Open", show=False, id="sheet.open"),
        Binding("space", "mark", "Mark", id="sheet.mark"),
    ]

    MARK: ClassVar[str] = "✓"
    """What stands behind the first cell of a marked row: a mark is never told by colour alone."""

    place: reactive[int] = reactive(0, repaint=False)
    """Index of the row under the cursor."""

    @dataclass
    class TableMessage(Message):
        """Something of a table."""

        table: "VirtualTable"

        @property
        def control(self) -> "VirtualTable":
            """The table, for `@on(VirtualTable.Highlighted, "#id")` and the like."""
            return self.table

    @dataclass
    class Highlighted(TableMessage):
        """The cursor is on another row."""

        key: Hashable

    class Arranged(Message):
        """Other columns are hidden than before."""

    @dataclass
    class HeaderClicked(TableMessage):
        """A click on the title of a column."""

        column: int

    class Chosen(Highlighted):
        """Enter, or a click: on the row under the cursor, or on any where the first click opens."""

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Rows | None = None,
        *,
        id: str | None = None,
        markable: bool = False,
        least: int = 12,
        newest_first: bool = False,
        opens_at_once: bool = False,
    ) -> None:
        super().__init__(id=id)
        self.columns = columns
        self.rows: Rows = Listed() if rows is None else rows
        self.marked: set[Hashable] = set()
        self._markable = markable
        self.newest_first = newest_first
        """A cursor on the first row stays there: it follows what is new."""
        self._opens_at_once = opens_at_once
        """The first click on a row opens it."""
        self._least = least
        """Cells that the flexible column keeps."""
        self.key: Hashable = self.rows.key(0) if len(self.rows) else None
        """Of the row under the cursor; None in an empty table."""
        self._layout: list[tuple[int, int]] = []
        self._arranged = 0
        """Cells that the columns are arranged for."""
        self._told: tuple[str, ...] = ()
        """The hidden columns that were told last."""
        self._strips: LRUCache[Hashable, Strip] = LRUCache(LINES_KEPT)
        """What a line holds and how it is painted → the line."""
        self._shown: dict[int, Strip] = {}
        """The lines on the screen, by their place there."""
        self._tones: dict[Tone, Style] = {}
        """As the theme has them now."""
        self.before_paint: Callable[[range], None] | None = None
        """Called with the visible places before they are painted, so that a source can fetch them."""

    # What is shown

    @property
    def hidden(self) -> tuple[str, ...]:
        """Titles of the columns that the width leaves no room for."""
        shown = {column for column, _ in self._layout}
        if not shown or not self.size.width:
            return ()  # not laid out yet
        return tuple(c.title for i, c in enumerate(self.columns) if i not in shown)

    def room(self, column: int) -> int:
        """Cells of a column as it is laid out; 0 where it is not shown."""
        return dict(self._layout).get(column, 0)

    @property
    def window(self) -> range:
        first = int(self.scroll_y)
        return range(first, max(first, min(len(self.rows), first + self.size.height - 1)))

    def update(self, rows: Rows) -> None:
        """Shows other rows; the cursor stays on its key where that still exists, else at its place.

        On the first row of a list of the newest it stays there.
        """
        self.rows = rows
        self.marked = {key for key in self.marked if rows.find(key) is not None} if self.marked else set()
        self._resize()
        following = self.newest_first and self.place == 0
        found = None if self.key is None or following else rows.find(self.key)
        self._go(self.place if found is None else found, follow=found is not None)
        self._refresh_changed()

    def _refresh_changed(self) -> None:
        """Paints the lines that are others than those on the screen."""
        if self.before_paint is not None or not self._layout:
            self.refresh()
            return
        for y in range(self.size.height):
            if self._line(y) != self._shown.get(y):
                self.refresh(Region(0, y, self.size.width, 1))

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Shows other columns; rows given next must fit them."""
        self.columns = columns
        self._arrange()

    def fill(
        self, rows: Sequence[tuple[Hashable, Sequence[Cell | str]]], columns: Sequence[Column] | None = None
    ) -> None:
        """Shows rows that are all in memory, under these columns where they are others than before."""
        if columns is not None and columns != self.columns:
            self.rows = Listed()  # those before may not fit them
            self.set_columns(columns)
        self.update(Listed(rows))

    def _arrange(self) -> None:
        before = self._told
        self._arranged = self.scrollable_content_region.width
        self._layout = fit(self.columns, max(1, self._arranged), self._least)
        self._told = self.hidden
        if self._told != before:
            self.post_message(self.Arranged())
        self._strips.clear()
        self.refresh()

    def _resize(self) -> None:
        size = Size(self.scrollable_content_region.width, len(self.rows) + 1)
        if size != self.virtual_size:
            self.virtual_size = size

    def on_resize(self) -> None:
        self._arrange()
        self._resize()
        self._reveal()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._tones.clear()
        self._strips.clear()
        self.refresh()

    # Painting

    def render_lines(self, crop: Region) -> list[Strip]:
        """The visible lines; the source hears first which rows they hold."""
        if self._arranged != self.scrollable_content_region.width:
            self._arrange()  # two changes of size, as `z` twice makes them, may be told as one, or too early
        if self.before_paint is not None:
            self.before_paint(self.window)
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        self._shown[y] = strip = self._line(y)
        return strip

    def _line(self, y: int) -> Strip:
        width = self.size.width
        if not self._layout:
            self._layout = fit(self.columns, max(1, width), self._least)
        if y == 0:
            titles = [Cell(column.title) for column in self.columns]
            return self._paint(titles, self.get_component_rich_style("virtual-table--header"), width)
        index = int(self.scroll_y) + y - 1
        base = self.rich_style
        if index >= len(self.rows):
            return Strip.blank(width, base)
        key = self.rows.key(index)
        marked = key in self.marked
        if marked:
            base += self.get_component_rich_style("virtual-table--marked")
        if index == self.place:
            base += self.get_component_rich_style("virtual-table--cursor")
        cells = self.rows.cells(index)
        if cells is None:
            cells = [Cell("…", "dim"), *[""] * (len(self.columns) - 1)]
        return self._paint(cells, base, width, self.MARK if marked else " ")

    def _paint(self, cells: Sequence[Cell | str], base: Style, width: int, mark: str = " ") -> Strip:
        known = tuple(cells), base, width, mark
        strip = self._strips.get(known)
        if strip is None:
            strip = self._strips[known] = self._painted(cells, base, width, mark)
        return strip

    def _painted(self, cells: Sequence[Cell | str], base: Style, width: int, mark: str) -> Strip:
        segments: list[Segment] = []
        taken = 0
        for number, (column, size) in enumerate(self._layout):
            if number:
                segments.append(Segment(mark if number == 1 else " ", base))
            cell = cells[column]
            text, tone = Cell(cell) if isinstance(cell, str) else cell
            text = cut(text, size, right=self.columns[column].right)
            segments.append(Segment(text, base if tone == "plain" else base + self._tone(tone)))
            taken += size + bool(number)
        return Strip(segments, taken).adjust_cell_length(width, base)

    def _tone(self, tone: Tone) -> Style:
        """Colour and weight alone: the row's own background stays."""
        style = self._tones.get(tone)
        if style is None:
            full = self.get_component_rich_style(f"virtual-table--{tone}")
            style = self._tones[tone] = Style(color=full.color, bold=full.bold)
        return style

    # Moving

    def watch_place(self, before: int, now: int) -> None:
        """Paints the cursor where it was and where it is: over SSH a whole list for each key is slow."""
        for place in (before, now):
            self.refresh_line(place + 1)

    def _go(self, index: int, *, follow: bool = True) -> None:
        count = len(self.rows)
        index = max(0, min(index, count - 1))
        key = self.rows.key(index) if count else None
        moved = key != self.key
        self.place, self.key = index, key
        if follow:
            self._reveal()
        if moved:
            self.post_message(self.Highlighted(self, key))

    def go_to(self, key: Hashable) -> None:
        found = self.rows.find(key)
        if found is not None:
            self._go(found)

    def _reveal(self) -> None:
        height = max(1, self.size.height - 1)
        first = int(self.scroll_y)
        if self.place < first:
            self.scroll_to(y=self.place, animate=False, force=True)
        elif self.place >= first + height:
            self.scroll_to(y=self.place - height + 1, animate=False, force=True)

    def action_move(self, by: int) -> None:
        self._go(self.place + by)

    def action_page(self, by: int) -> None:
        self._go(self.place + by * max(1, self.size.height - 2))

    def action_top(self) -> None:
        self._go(0)

    def action_bottom(self) -> None:
        self._go(len(self.rows) - 1)

    @cached_property
    def _opens(self) -> bool:
        """Whether anybody hears of a row that is chosen."""
        return is_handled(VirtualTable.Chosen, self)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that do nothing here are not offered."""
        if action == "mark":
            return self._markable
        return action != "choose" or not self.is_attached or self._opens

    def action_choose(self) -> None:
        if self.key is not None:
            self.post_message(self.Chosen(self, self.key))

    def action_mark(self) -> None:
        """Marks the row or takes its mark away, and goes on to the next."""
        if self._markable and self.key is not None:
            self.marked ^= {self.key}
            self._go(self.place + 1)
            self.refresh()

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; a second one opens the row. One on the header tells which column."""
        if event.y == 0:
            self._click_header(event.x)
            return
        index = int(self.scroll_y) + event.y - 1
        if index >= len(self.rows):
            return
        again = index == self.place
        self._go(index)
        if again or event.chain > 1 or self._opens_at_once:
            self.action_choose()

    def _click_header(self, x: int) -> None:
        end = 0
        for column, width in self._layout:
            end += width + 1
            if x < end:
                self.post_message(self.HeaderClicked(self, column))
                return


def cut(text: str, width: int, *, right: bool = False) -> str:
    """The text as one harmless line of exactly `width` cells; `…` ends what was longer."""
    # A line of 100 kB costs only what is shown of it.
    text = strip_control(text[: 4 * width + 8]).replace("\n", "⏎").replace("\t", " ")
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + "…" if width > 1 else set_cell_size(text, width)
    return " " * (width - size) + text if right else text + " " * (width - size)
