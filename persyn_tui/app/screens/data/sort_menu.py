"""The question by what to sort the responses."""

from dataclasses import replace
from typing import ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from persyn_tui.app.widgets.question import Question
from persyn_tui.app.widgets.virtual_table import Column, VirtualTable
from storage.listing import SORTS, Listing, Sort


class SortMenu(Question[Listing | None]):
    """Asks by what to sort; the answer is the listing in that order.

    `scales`: how many settings the rewards of the list are of.
    """

    DEFAULT_CSS = """
    SortMenu { align: center middle; }
    SortMenu > Vertical { width: 36; height: auto; border: round $primary; background: $surface; padding: 0 1; }
    SortMenu VirtualTable { background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,o", "leave", "Back", id="sort.back"),
        Binding("left,right,space", "turn", "Other direction", id="sort.turn"),
    ]

    def __init__(self, listing: Listing, scales: int = 1) -> None:
        super().__init__()
        self._listing, self._descending, self._scales = listing, listing.descending, scales

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_subtitle = self.app.keyed("{sort.turn:←→} other direction · enter")
            sheet = VirtualTable((Column("sort by", 13), Column("")), id="sorts", opens_at_once=True)
            sheet.styles.height = len(SORTS) + 1
            yield sheet
            if self._scales > 1:
                mixed = f"reward mixes {self._scales} scales; {{data.filter:f}} chooses one dataset"
                yield Static(self.app.keyed(mixed), markup=False)

    def ready(self) -> None:
        self._paint()
        self.query_one(VirtualTable).go_to(self._listing.sort)

    def _paint(self) -> None:
        order = "▼ highest first" if self._descending else "▲ lowest first"
        for sheet in self.query(VirtualTable):
            sheet.fill([(name, [name, order]) for name in SORTS])

    def action_turn(self) -> None:
        self._descending = not self._descending
        self._paint()

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        self.dismiss(replace(self._listing, sort=cast(Sort, event.key), descending=self._descending))

    def action_leave(self) -> None:
        self.dismiss(None)
