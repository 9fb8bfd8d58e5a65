"""The list of responses: its ids are streamed from the store, its lines fetched when they are looked at."""

import asyncio
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.worker import get_current_worker

from persyn_tui.app.base.common_prefix import apart
from persyn_tui.app.screens.data import formatting
from persyn_tui.app.screens.data.pages import KEPT, Pages
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.virtual_table import Column, Rows, VirtualTable
from persyn_tui.views.dataset_view import Datasets
from storage import listing, responses
from storage.errors import PersynError
from storage.listing import Card, Listing
from storage.store import Store

COLUMNS = (
    Column("id", 8, right=True, drop=1),
    Column("prompt"),
    Column("response", drop=7),
    Column("teacher", 12),
    Column("tok", 6, right=True, drop=5),
    Column("finish", 9, drop=4),
    Column("quality", 8, right=True, drop=2),
    Column("learn.", 7, right=True, drop=3),
    Column("reward", 7, right=True),
    Column("set", 10, drop=6),
)
PROMPT = 1
"""The column of the prompts."""
SORTED: dict[listing.Sort, int] = {"id": 0, "tokens": 4, "quality": 6, "learnability": 7, "reward": 8}
"""Sort → its column."""
SMALL = 50_000
"""A list of so few is read again by itself when the store changes."""
PAUSE_S = 2.0
"""Seconds at least between two such readings; twenty times as long as the last one took."""
SCREENFUL = 64
"""Rows whose lines come with the first ids."""


@dataclass
class Reading:
    """A list that is being read."""

    listing: Listing
    how: Literal["show", "swap", "add"]
    """show: its rows take the place of the others as they come; swap: when all are there; add: to the others."""
    above: int = 0
    """Only responses after this one."""
    begun: bool = False
    """Whether its first rows are shown."""
    ids: "array[int]" = field(default_factory=lambda: array("q"))
    """What has come in of a list that is not shown yet."""
    began: float = field(default_factory=time.monotonic)


@dataclass
class Streamed(Message):
    """Ids of a list have come in, with the lines of the first."""

    reading: Reading
    ids: "array[int]"
    cards: dict[int, Card]


@dataclass
class Ended(Message):
    """A reading is over: `upto` is the response up to which it went, or there is a problem."""

    reading: Reading
    upto: int = 0
    problem: PersynError | None = None


class ResponseTable(VirtualTable):
    """Responses, newest first until asked otherwise."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "All responses", id="data.answers")]

    class Changed(Message):
        """There are other rows, or another list is about to come, or columns have come and gone."""

    app: BaseApp

    def __init__(self, *, id: str | None = None) -> None:
        self.pages = Pages(lambda card: formatting.row_cells(card, self.datasets, self.listing))
        self.datasets = Datasets()
        """What rows call the datasets that hold them."""
        super().__init__(COLUMNS, self.pages, id=id, markable=True, least=20)
        self.before_paint = self._prepare
        self.listing = Listing()
        """What the rows are."""
        self.reading: Reading | None = None
        """What they are about to be; None while they are complete."""
        self.follows = True
        """Whether a cursor on the newest response stays on the newest."""
        self.upto = 0
        """The response up to which the list was read; 0 before the first."""
        self._read_at = self._took = 0.0
        self._fetching = False
        self._apart: dict[int, tuple[str, int]] = {}
        """Prompt id → what its lines show of it, and among how many prompts that was found."""
        self._apart_for = 0
        """Cells that it was cut for."""

    @property
    def wanted(self) -> Listing:
        """What the rows are, or are about to be."""
        return self.listing if self.reading is None else self.reading.listing

    @property
    def letters(self) -> set[str] | None:
        """Those behind the rewards of the list; None where it is about to be another, or not all of it is known."""
        if self.reading is not None or not len(self.pages) or len(self.pages) > SCREENFUL:
            return None
        cards = self._cards(range(len(self.pages)))
        if len(cards) < len(self.pages):
            return None
        return {self.datasets.letter(card.reward_dataset_id) for card in cards} - {""}

    def _cards(self, window: range) -> list[Card]:
        """What was fetched of the rows at these places."""
        found = (self.pages.card(self.pages.key(index)) for index in window)
        return [card for card in found if card is not None]

    def on_resize(self) -> None:
        self.call_after_refresh(self.post_message, self.Changed())

    def name_datasets(self, datasets: Datasets) -> None:
        """Rows call datasets, and what rewards were made with, as these do from now on."""
        if datasets != self.datasets:
            self.datasets = datasets
            self.refresh()

    # Which rows

    def update(self, rows: Rows) -> None:
        """As any list; one of the newest follows them."""
        self.newest_first = self.follows and self.listing.sort == "id" and self.listing.descending
        super().update(rows)

    def read(self, wanted: Listing) -> None:
        """Reads a list; the present one stays until the first rows of another are there, or all of the same."""
        self._start(Reading(wanted, "swap" if self.upto and wanted == self.listing else "show"))

    def outdate(self) -> None:
        """The store has changed: lines are read anew; so is the list, where its rows may be others and it is small."""
        self.pages.outdate()
        self.refresh()
        due = self._read_at + max(PAUSE_S, 20 * self._took)
        small = not self.listing.only_grows and len(self.pages) < SMALL
        if self.reading is None and small and time.monotonic() > due:
            self.read(self.listing)

    def catch_up(self, newest: int) -> None:
        """Adds what came after the list was read, where that is all that can have changed."""
        if self.reading is None and self.listing.only_grows and newest > self.upto:
            self._start(Reading(self.listing, "add", above=self.upto))

    def _start(self, reading: Reading) -> None:
        if self.app.store is None:
            return
        self.reading = reading
        self.run_worker(partial(self._stream, self.app.store, reading), thread=True, group="ids")
        self.post_message(self.Changed())

    def _stream(self, store: Store, reading: Reading) -> None:
        worker = get_current_worker()

        def stop() -> bool:
            return worker.is_cancelled or reading is not self.reading

        try:
            upto, first = responses.newest_id(store), SCREENFUL
            for ids in listing.stream(store, reading.listing, above=reading.above, upto=upto, stop=stop):
                # With the ids, so that the first screen is full the first time it is painted.
                cards = listing.cards(store, ids[:first], reading.listing.dataset_id) if first else {}
                self.post_message(Streamed(reading, ids, cards))
                first = 0
            self.post_message(Ended(reading, upto))
        except PersynError as problem:
            self.post_message(Ended(reading, problem=problem))

    def on_streamed(self, event: Streamed) -> None:
        event.stop()
        reading = event.reading
        if reading is not self.reading:
            return
        if reading.how != "show":
            reading.ids.extend(event.ids)
            return
        if reading.begun:
            self.pages.extend(event.ids)
        else:
            self._begin(reading, event.ids)
            self.pages.put(event.cards, event.cards, self.pages.age)
        self.update(self.pages)
        self.post_message(self.Changed())

    def on_ended(self, event: Ended) -> None:
        """The list is complete, or stays what it was."""
        reading = event.reading
        if reading is not self.reading:
            event.stop()
            return
        self.reading = None
        if event.problem is None:
            if reading.how == "swap":
                self.pages.restart(reading.ids)
            elif reading.how == "add" and self.listing.descending:
                self.pages.put_above(reading.ids)
            elif reading.how == "add":
                self.pages.extend(reading.ids)
            elif not reading.begun:
                self._begin(reading, array("q"))
            self.upto = event.upto
            self._read_at, self._took = time.monotonic(), time.monotonic() - reading.began
            self.update(self.pages)
        self.post_message(self.Changed())

    def _begin(self, reading: Reading, ids: "array[int]") -> None:
        """The first rows of another list."""
        other = reading.listing
        reading.begun = True
        if other.dataset_id != self.listing.dataset_id:
            self.pages.forget()
        self._apart = {}
        self.listing = other
        mark = "▼" if other.descending else "▲"
        self.set_columns(
            [
                replace(column, title=column.title + (mark if place == SORTED[other.sort] else ""))
                for place, column in enumerate(COLUMNS)
            ]
        )
        self.pages.restart(ids)
        self.update(self.pages)
        self.action_top()

    # Their lines

    def _prepare(self, window: range) -> None:
        """Cuts what the visible prompts begin with alike, and fetches what the visible rows lack."""
        cards = self._cards(window)
        width = self.room(PROMPT)
        many = len({card.prompt_id for card in cards})
        if width != self._apart_for or len(self._apart) > KEPT:
            self._apart, self._apart_for = {}, width
        # A line once cut stays as it is, also where fewer rows are seen; among far more it is cut anew.
        if any(2 * self._apart.get(card.prompt_id, ("", 0))[1] <= many for card in cards):
            shown = apart([card.prompt for card in cards], width)
            for card, text in zip(cards, shown, strict=True):
                if 2 * self._apart.get(card.prompt_id, ("", 0))[1] <= many:
                    self._apart[card.prompt_id] = text, many
        self.pages.shown = {card.prompt_id: self._apart[card.prompt_id][0] for card in cards}
        self._fetch(window)

    def _fetch(self, window: range) -> None:
        """One fetch at a time, the next painting asks again."""
        store = self.app.store
        if self._fetching or store is None or not len(self.pages):
            return
        wanted = self.pages.wanted(window)
        if wanted:
            self._fetching = True
            background(self, partial(self._bring, store, wanted), group="cards", exit_on_error=False)

    async def _bring(self, store: Store, ids: Sequence[int]) -> None:
        age, dataset_id = self.pages.age, self.listing.dataset_id
        try:
            found = await asyncio.to_thread(listing.cards, store, ids, dataset_id)
        except PersynError as problem:
            self.app.notify(str(problem), severity="error", about="lines")
            return
        finally:
            self._fetching = False
        if dataset_id == self.listing.dataset_id:
            self.pages.put(ids, found, age)
        self.app.settle("lines")
        self.refresh()
