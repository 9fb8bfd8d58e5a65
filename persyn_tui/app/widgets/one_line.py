"""Words on a line of their own."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.visual import VisualType
from textual.widgets import Static


class OneLine(Static):
    """Cut where there is no room, so that other words move nothing: only this line is painted again."""

    DEFAULT_CSS = "OneLine { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, markup=False)

    def update(self, content: VisualType = "", *, layout: bool = False) -> None:
        """Shows other words; the same ones are not painted again."""
        if content != self.content:
            super().update(content, layout=layout)


def title_line(store: str, right: str, room: int, hidden: Sequence[str] = ()) -> str:
    """The first line of a screen in `room` cells.

    Program, store, what the screen says of itself, and what has no room on it. Where that is too long, names of what
    is hidden become a number first, the last ones before the others; then the store goes, then the program, then
    the number.
    """
    counted = f" · {len(hidden)} hidden" if hidden else ""
    named = [f" · hidden: {', '.join(hidden)}"] if hidden else [""]
    named += [
        f" · hidden: {', '.join(hidden[:many])}, +{len(hidden) - many}"
        for many in range(len(hidden) - 1, 0, -1)
    ]
    whole, program = f" PerSyn · {store} ", " PerSyn "
    ways = [
        *((whole, names) for names in named),
        (whole, counted),
        (program, counted),
        (" ", counted),
        (" ", ""),
    ]
    left, end = next(
        (way for way in ways if cell_len(way[0]) + cell_len(right) + cell_len(way[1]) + 3 <= room), ways[-1]
    )
    right += end
    if cell_len(left) + cell_len(right) + 3 > room:
        right = set_cell_size(right, max(0, room - cell_len(left) - 4)).rstrip() + "…"
    return f"{left}{'─' * max(1, room - cell_len(left) - cell_len(right) - 1)} {right}"
