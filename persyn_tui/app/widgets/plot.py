"""Curves in braille, 2 × 4 dots a cell.

Drawn here rather than by a plotting library: what a training needs is one line on fixed axes, in the few rows
that a terminal leaves, and of which only the new cells are sent when a step is added.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

BLANK = 0x2800
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bit of the dot in column 0 or 1, row 0 to 3."""
AXIS = 8
"""Cells of the y axis with its numbers."""

Point = tuple[float, float]


class Series:
    """Values by step. A step that comes again, after a resume from an earlier checkpoint, replaces what follows."""

    def __init__(self, points: Iterable[tuple[int, float]] = ()) -> None:
        self.steps, self.values = array("q"), array("d")
        for step, value in points:
            self.add(step, value)

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: int, value: float) -> None:
        if self.steps and step <= self.steps[-1]:
            place = bisect_left(self.steps, step)
            del self.steps[place:], self.values[place:]
        self.steps.append(step)
        self.values.append(value)

    def copy(self) -> "Series":
        other = Series()
        other.steps, other.values = self.steps[:], self.values[:]
        return other

    @property
    def last(self) -> float | None:
        """The newest value; None in an empty series."""
        return self.values[-1] if self.values else None

    def smoothed(self, span: int) -> "Series":
        """Its exponential moving average over about `span` values; the first ones weigh no more than the others."""
        other, keep = Series(), 1 - 2 / (span + 1)
        average = weight = 0.0
        other.steps = self.steps[:]
        for value in self.values:
            average, weight = keep * average + (1 - keep) * value, keep * weight + (1 - keep)
            other.values.append(average / weight)
        return other

    def thin(self, buckets: int, until: int) -> list[Point]:
        """At most `buckets` points (bucket, mean of its values) over the steps 0 … `until`."""
        found: list[Point] = []
        place = 0
        for bucket in range(buckets):
            end = bisect_left(self.steps, (bucket + 1) * (until + 1) / buckets, place)
            if end > place:
                found.append((bucket, math.fsum(self.values[place:end]) / (end - place)))
            place = end
        return found


class Scale(NamedTuple):
    """The y axis: round numbers around the values."""

    low: float
    high: float
    tick: float


def scale(values: Sequence[float], parts: int = 3) -> Scale:
    """Ticks of 1, 2, 2.5 or 5 times a power of ten, which the values lie between; about `parts` intervals."""
    least, most = min(values), max(values)
    span = most - least or abs(most) or 1.0
    power = 10 ** math.floor(math.log10(span / parts))
    tick = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= 0.999 * span / parts)
    low, high = math.floor(least / tick) * tick, math.ceil(most / tick) * tick
    return Scale(low, high if high > low else low + tick, tick)


def dots(points: Sequence[Point], axis: Scale, width: int, height: int) -> list[list[int]]:
    """(height, width) braille bits of the line through the points, whose x counts columns of dots."""
    cells = [[0] * width for _ in range(height)]
    last = None
    for x, value in points:
        part = (value - axis.low) / (axis.high - axis.low)
        column, row = int(x), round((1 - part) * (4 * height - 1))
        start, top = last or (column - 1, row)
        before = top
        for now in range(start + 1, column + 1):
            y = round(top + (row - top) * (now - start) / (column - start))
            # Down or up to here from the dot before, which has its own column.
            for dot in range(before + 1, y + 1) if y > before else range(y, before) if y < before else (y,):
                cells[dot // 4][now // 2] |= DOTS[now % 2][dot % 4]
            before = y
        last = column, row
    return cells


class Plot(Widget):
    """One or two lines over steps, with axes."""

    ALLOW_MAXIMIZE = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {"plot--axis", "plot--first", "plot--second"}
    DEFAULT_CSS = """
    Plot { height: 1fr; }
    Plot > .plot--axis { color: $quiet; }
    Plot > .plot--first { color: $text-primary; }
    Plot > .plot--second { color: $text-warning; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: Sequence[Series] = ()
        self._until = 1
        self._painted: list[Strip] = []

    def show(self, lines: Sequence[Series], until: int) -> None:
        self._lines, self._until = lines, max(1, until)
        self._paint()

    def on_resize(self) -> None:
        self._paint()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._paint()

    def _paint(self) -> None:
        width, height = self.size.width - AXIS, self.size.height - 1
        self._painted = []
        if width > 3 and height > 0:
            thinned = [line.thin(2 * width, self._until) for line in self._lines]
            values = [value for points in thinned for _, value in points]
            if values:
                self._painted = self._strips(
                    thinned, scale(values, max(3, min(8, height // 4))), width, height
                )
        self.refresh()

    def _strips(
        self, thinned: Sequence[Sequence[Point]], axis: Scale, width: int, height: int
    ) -> list[Strip]:
        dim, *tones = (self._tone(name) for name in ("axis", "first", "second"))
        drawn = [dots(points, axis, width, height) for points in thinned]
        count = round((axis.high - axis.low) / axis.tick)
        ticks = {
            round((1 - number / count) * (height - 1)): axis.low + number * axis.tick
            for number in range(count + 1)
        }
        strips = []
        for row in range(height):
            name = f"{ticks[row]:.3g}" if row in ticks else ""
            segments = [Segment(f"{name:>{AXIS - 2}} {'┤' if name else '│'}", dim)]
            for column in range(width):
                bits = [cells[row][column] for cells in drawn]
                on = max((number for number, bit in enumerate(bits) if bit), default=0)
                merged = reduce(or_, bits, 0)
                segments.append(Segment(chr(BLANK | merged) if merged else " ", tones[on]))
            strips.append(Strip(segments).simplify())
        right = f" step {self._until:,}"
        foot = f"{'└':>{AXIS}}" + "─" * max(0, width - len(right)) + right
        return [*strips, Strip([Segment(foot, dim)])]

    def _tone(self, name: str) -> Style:
        full = self.get_component_rich_style(f"plot--{name}")
        return Style(color=full.color, bgcolor=self.rich_style.bgcolor)

    def render_line(self, y: int) -> Strip:
        if y < len(self._painted):
            return self._painted[y].adjust_cell_length(self.size.width, self.rich_style)
        return Strip.blank(self.size.width, self.rich_style)


def interval(value: float, low: float, high: float, width: int) -> str:
    """`──●──`: a value with its interval, on the scale 0 … 1 of `width` cells."""

    def place(share: float) -> int:
        return min(width - 1, max(0, int(share * width)))

    cells = [" "] * width
    for cell in range(place(low), place(high) + 1):
        cells[cell] = "─"
    cells[place(value)] = "●"
    return "".join(cells)
