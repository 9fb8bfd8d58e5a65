"""The rows of a list of millions: every id is known, and what a line shows is fetched when it is looked at."""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from persyn_tui.app.widgets.virtual_table import Cell
from storage.listing import Card

KEPT = 4000
"""Lines held in memory."""
AROUND = 80
"""Lines fetched above and below the visible ones, so that a page down finds them there."""


class Pages:
    """Rows for a `VirtualTable`, known by response id; `cells` makes what a line shows of a card."""

    def __init__(self, cells: Callable[[Card], Sequence[Cell | str]]) -> None:
        self._cells = cells
        self.shown: Mapping[int, str] = {}
        """Prompt id → what the visible lines show of it, where that is not all."""
        self._ids = array("q")
        self._above = array("q")
        """Newer ones that stand before the others, oldest first: adding one moves nothing."""
        self._lines: OrderedDict[int, tuple[Card | None, int]] = OrderedDict()
        """Id → (what was fetched, None where the store has no such response; the age of the store then)."""
        self.age = 0
        """Of the store, to be given back with what was fetched."""
        self._places: dict[int, tuple[int, int]] = {}
        """Id → (its place in `_ids` or -1, how many were looked through for it)."""

    def __len__(self) -> int:
        return len(self._ids) + len(self._above)

    def key(self, index: int) -> int:
        above = len(self._above)
        return self._above[above - 1 - index] if index < above else self._ids[index - above]

    def cells(self, index: int) -> Sequence[Cell | str] | None:
        """What the line shows; None until it is fetched."""
        card = self.card(self.key(index))
        if card is None:
            return None
        return self._cells(replace(card, prompt=self.shown.get(card.prompt_id, card.prompt)))

    def card(self, id: int) -> Card | None:
        """What was fetched of a response; None until then."""
        return self._lines.get(id, (None, 0))[0]

    def find(self, key: Hashable) -> int | None:
        """The place of a response; None where it is not in the list, or not yet."""
        if not isinstance(key, int):
            return None
        above = len(self._above)
        if above and self._above[0] <= key <= self._above[-1]:
            try:
                return above - 1 - self._above.index(key)
            except ValueError:
                pass
        place, looked = self._places.get(key, (-1, 0))
        if place < 0 and looked < len(self._ids):
            try:
                place = self._ids.index(key, looked)
            except ValueError:
                place = -1
            self._places[key] = (place, len(self._ids))
        return None if place < 0 else above + place

    # The ids

    def restart(self, ids: "array[int]") -> None:
        """Another list; what was fetched stays known."""
        self._ids, self._above, self._places = ids, array("q"), {}

    def extend(self, ids: "array[int]") -> None:
        self._ids.extend(ids)

    def put_above(self, ids: "array[int]") -> None:
        """Newer ids, the highest first, at the beginning."""
        self._above.extend(reversed(ids))

    # The lines

    def outdate(self) -> None:
        """The store has changed: lines are read anew when they are looked at, and shown as they were until then."""
        self.age += 1

    def forget(self) -> None:
        """What lines show depends on another dataset now."""
        self._lines.clear()

    def wanted(self, window: range) -> list[int]:
        """Which responses to fetch now that the rows of `window` are visible; empty when all are there."""
        old = [i for i in map(self.key, window) if i not in self._lines or self._lines[i][1] < self.age]
        if all(i in self._lines for i in old):
            return old
        around = range(max(0, window.start - AROUND), min(len(self), window.stop + AROUND))
        return [i for i in map(self.key, around) if i not in self._lines or i in old]

    def put(self, ids: Iterable[int], found: dict[int, Card], age: int) -> None:
        """Keeps what was fetched when the store had this age: `found` of the `ids` that were asked for."""
        for id in ids:
            self._lines[id] = found.get(id), age
            self._lines.move_to_end(id)
        while len(self._lines) > KEPT:
            self._lines.popitem(last=False)
