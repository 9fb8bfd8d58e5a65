"""Screen 5: every stored answer, filtered, sorted and searched; all answers to one prompt side by side."""

import asyncio
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Any, ClassVar, Literal, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static
from textual.worker import get_current_worker

from engine.printing import printable
from persyn_tui.app.answers import AnswersPanel, load
from persyn_tui.app.data_forms import ExportForm, ExportOrder, FilterForm, SortMenu
from persyn_tui.app.frame import View
from persyn_tui.app.pages import Pages
from persyn_tui.app.sheet import Cell, Column, Sheet, Tone
from persyn_tui.app.text import count, signed
from storage import browse, datasets, listing, registry, search
from storage.errors import PersynError
from storage.listing import Card, Listing
from storage.records import Dataset
from storage.store import Store

COLUMNS = (
    Column("id", 8, right=True),
    Column("prompt"),
    Column("teacher", 12),
    Column("tok", 6, right=True, drop=2),
    Column("finish", 9, drop=1),
    Column("quality", 8, right=True),
    Column("learn.", 7, right=True),
    Column("reward", 7, right=True),
    Column("set", 10, drop=3),
)
SORTED = {"id": 0, "tokens": 3, "quality": 5, "learnability": 6, "reward": 7}
"""Sort → its column."""
SMALL = 50_000
"""A list of so few is read again by itself when the store changes."""
SCREENFUL = 64
"""Rows whose lines come with the first ids."""
STEP = 5000
"""Answers indexed in one transaction: a job that writes waits no longer than this takes."""
PAUSE_S = 2.0
"""Seconds at least between two such readings; twenty times as long as the last one took."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the screen knows of the store apart from the rows."""

    newest: int
    """The highest response id."""
    datasets: Sequence[Dataset]
    """Newest first."""
    teachers: Sequence[str]


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


class Streamed(Message):
    """Ids of a list have come in."""

    def __init__(
        self,
        reading: Reading,
        ids: "array[int]",
        *,
        cards: dict[int, Card] | None = None,
        upto: int | None = None,
    ) -> None:
        super().__init__()
        self.reading, self.ids, self.cards, self.upto = reading, ids, cards, upto
        """cards: of the first rows; upto: set at the end, the response up to which the list was read."""


class Doing(Message):
    """How far something in the background is; without text it has ended."""

    def __init__(self, what: str, text: str = "") -> None:
        super().__init__()
        self.what, self.text = what, text


class Said(Message):
    """The end of something in the background."""

    def __init__(self, what: str, text: str = "", problem: PersynError | None = None) -> None:
        super().__init__()
        self.what, self.text, self.problem = what, text, problem


class AnswerSheet(Sheet):
    """The list; its footer says what enter opens."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "All answers", id="data.answers")]

    def on_resize(self) -> None:
        """The title names the columns that the width leaves out."""
        self.call_after_refresh(cast(DataScreen, self.screen).paint_title)


class DataScreen(View[Stored]):
    """Answers, newest first until asked otherwise."""

    NUMBER, NAME = 5, "Data"
    EMPTY = (
        "No answers yet.\n\n"
        "1   goes to the jobs: n makes one, d runs the demo on the small models\n"
        "that come with the program"
    )
    EVERY = inf  # nothing here depends on the clock
    DEFAULT_CSS = """
    DataScreen #rows { height: 1fr; min-height: 6; }
    DataScreen #query { display: none; color: $text-primary; }
    DataScreen #nothing { display: none; height: 1fr; content-align: center middle; color: $text-muted; }
    DataScreen #search { display: none; background: $surface; }
    DataScreen.filtered #query, DataScreen.none #nothing, DataScreen.searching #search { display: block; }
    DataScreen.none #rows { height: 2; min-height: 2; }
    DataScreen.answers AnswersPanel { display: block; }
    DataScreen.answers.low #rows, DataScreen.answers.low #query { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", key_display="/", id="data.search"),
        Binding("f", "filter", "Filter", id="data.filter"),
        Binding("o", "sort", "Sort", id="data.sort"),
        Binding("x", "exclude", "Exclude", id="data.exclude"),
        Binding("u", "undo", "Undo exclude", show=False, id="data.undo"),
        Binding("e", "export", "Export", id="data.export"),
        Binding("escape", "back", "Back, clear search, clear filter", show=False, id="data.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.rows = Pages(_cells)
        self.listing = Listing()
        """What the rows are."""
        self.reading: Reading | None = None
        """What the rows are about to be; None while they are complete."""
        self.new = 0
        """Responses that came after the list was read."""
        self._newest = 0
        """The response up to which the list was read."""
        self._read_s = 0.0
        """When the list was read last, and"""
        self._took_s = 0.0
        """how long that took."""
        self._fetching = False
        self._doing: dict[str, str] = {}
        self._undo: list[tuple[Dataset, list[int], bool]] = []
        self._looked_s = 0.0
        """When the answers to one prompt were read last."""
        self._beside: int | None = None
        """The response whose neighbours are shown, or are about to be; None while the list alone is shown."""

    def body(self) -> Iterable[Widget]:
        """The filters, the list, the answers to one prompt, the search line."""
        yield Static(id="query", markup=False, classes="line")
        rows = AnswerSheet(COLUMNS, self.rows, id="rows", markable=True, least=20)
        rows.before_paint = self._fetch
        yield rows
        yield Static(id="nothing", markup=False)
        yield AnswersPanel(id="answers")
        yield Input(placeholder="words that the answer holds, all of them", id="search", compact=True)

    @property
    def sheet(self) -> Sheet:
        """The list."""
        return self.query_one("#rows", Sheet)

    @property
    def panel(self) -> AnswersPanel:
        """The answers to one prompt."""
        return self.query_one(AnswersPanel)

    @property
    def wanted(self) -> Listing:
        """What the rows are, or are about to be."""
        return self.listing if self.reading is None else self.reading.listing

    @property
    def dataset(self) -> Dataset | None:
        """The dataset in view: the one that is filtered by, else the only one there is."""
        known = () if self.data is None else self.data.datasets
        if self.listing.dataset_id is None:
            return known[0] if len(known) == 1 else None
        return next((one for one in known if one.id == self.listing.dataset_id), None)

    # Following the store

    def question(self) -> Any:
        """The list's own reading is apart from this."""
        return None

    def read(self, store: Store, question: Any) -> Stored | None:
        """What is new, and what filters can name."""
        newest = listing.newest(store)
        if newest == 0:
            return None
        teachers = dict.fromkeys(model.name for model in registry.list(store, "teacher", archived=True))
        return Stored(newest, datasets.list(store), list(teachers))

    def show(self, data: Stored) -> None:
        """Reads the list when there is none yet, and what came after it."""
        if self._newest == 0 and self.reading is None:
            self._start(Reading(self.wanted, "show"))
            self.refresh_bindings()
        else:
            self._catch_up()

    async def follow(self, *, changed: bool) -> None:
        """Lines that changed are read anew; while frozen, new ones are only counted."""
        if changed and self.data is not None:
            await self._count_new()
            if self.frozen:
                self.paint_title()
                return
            self.rows.outdate()
            self.sheet.refresh()
            if self._beside is not None and time.monotonic() > self._looked_s + PAUSE_S:
                self._look(self._beside)
            # A list that later scores or rows may change is read again as a whole, when that costs little.
            small = not self.listing.only_grows and len(self.rows) < SMALL
            due = self._read_s + max(PAUSE_S, 20 * self._took_s)
            if self.reading is None and small and time.monotonic() > due:
                self._read_again()
        await super().follow(changed=changed)

    async def _count_new(self) -> None:
        if self.app.store is not None and self._newest:
            self.new = await asyncio.to_thread(listing.count_above, self.app.store, self._newest)

    def _catch_up(self) -> None:
        """Adds what came after the list was read, where that is all that has changed."""
        free = self.reading is None and not self.frozen and self.listing.only_grows
        if free and self.data is not None and self.data.newest > self._newest:
            self._start(Reading(self.listing, "add", above=self._newest))

    def _read_again(self) -> None:
        self._start(Reading(self.wanted, "swap" if self.wanted == self.listing else "show"))

    def action_reread(self) -> None:
        """Reads the whole list again."""
        if self.data is not None:
            self._read_again()
        self.ask()

    def about(self) -> str:
        """How many answers, what is going on, what is hidden."""
        if self.data is None:
            return ""
        reading = self.reading
        parts = [f"{count(len(self.rows))} answers"]
        if reading is not None and reading.how == "show":
            if reading.listing != self.listing:
                parts[0] = "sorting …" if reading.listing.sort != "id" else "looking …"
            else:
                parts[0] += " …"
        parts += self._doing.values()
        if self.new and (self.frozen or not self.listing.only_grows):
            parts.append(f"{count(self.new)} new rows" + ("" if self.frozen else ", r reads"))
        if self.sheet.marked:
            parts.append(f"{count(len(self.sheet.marked))} marked")
        if self.sheet.hidden:
            parts.append("hidden: " + ", ".join(self.sheet.hidden))
        return " · ".join(parts)

    # The list

    def list_answers(self, wanted: Listing) -> None:
        """Shows another list; the present one stays until the first rows of the other are known."""
        if wanted != self.wanted:
            self._start(Reading(wanted, "swap" if wanted == self.listing else "show"))
            self._paint_query()

    def _start(self, reading: Reading) -> None:
        if self.app.store is None:
            return
        self.reading = reading
        self.run_worker(partial(self._stream, self.app.store, reading), thread=True, group="ids")
        self.paint_title()

    def _stream(self, store: Store, reading: Reading) -> None:
        worker = get_current_worker()

        def stop() -> bool:
            return worker.is_cancelled or reading is not self.reading

        try:
            upto = listing.newest(store)
            cards = None
            for ids in listing.stream(store, reading.listing, above=reading.above, upto=upto, stop=stop):
                if cards is None:
                    # With the ids, so that the first screen is full the first time it is painted.
                    cards = listing.cards(store, ids[:SCREENFUL], reading.listing.dataset_id)
                    self.post_message(Streamed(reading, ids, cards=cards))
                else:
                    self.post_message(Streamed(reading, ids))
            self.post_message(Streamed(reading, array("q"), upto=upto))
        except PersynError as problem:
            self.post_message(Said("ids", problem=problem))

    def on_streamed(self, event: Streamed) -> None:
        """Ids become rows."""
        reading = event.reading
        if reading is not self.reading:
            return
        done = event.upto is not None
        other = reading.listing != self.listing
        if reading.how != "show":
            reading.ids.extend(event.ids)
            if done and reading.how == "swap":
                self.rows.restart(reading.ids)
            elif done and self.listing.descending:
                self.rows.put_above(reading.ids)
            elif done:
                self.rows.extend(reading.ids)
        elif not reading.begun:
            reading.begun = True
            self._turn_to(reading.listing)
            self.rows.restart(event.ids)
            if event.cards is not None:
                self.rows.put(event.cards, event.cards, self.rows.age)
        else:
            self.rows.extend(event.ids)
        if event.upto is not None:
            self.reading, self._newest, self.new = None, event.upto, 0
            self._read_s, self._took_s = time.monotonic(), time.monotonic() - reading.began
        if done or reading.how == "show":
            self.sheet.update(self.rows)
            if other:
                self.sheet.action_top()
            self._say_nothing()
        self.paint_title()
        if done:
            self._catch_up()

    def _turn_to(self, other: Listing) -> None:
        if other.dataset_id != self.listing.dataset_id:
            self.rows.forget()
            self._undo.clear()
        self.listing = other
        mark = "▼" if other.descending else "▲"
        self.sheet.set_columns(
            [
                replace(column, title=column.title + (mark if place == SORTED[other.sort] else ""))
                for place, column in enumerate(COLUMNS)
            ]
        )
        self._paint_query()

    def _say_nothing(self) -> None:
        none = self.reading is None and not len(self.rows)
        self.set_class(none, "none")
        if none:
            why = "What is indexed so far does not hold it" if "index" in self._doing else "No answer passes"
            self.query_one("#nothing", Static).update(
                f"{why}: {self._words(self.listing)}\n\nesc clears · f changes the filter"
            )

    def _paint_query(self) -> None:
        wanted = self.wanted
        words = self._words(wanted)
        parts = [f"{words} · esc clears"] if words else []
        if (wanted.sort, wanted.descending) != ("id", True):
            parts.append(f"by {wanted.sort}, {'highest' if wanted.descending else 'lowest'} first")
        self.query_one("#query", Static).update(" · ".join(parts))
        self.set_class(bool(parts), "filtered")

    def _words(self, wanted: Listing) -> str:
        """The filters in words; empty for none."""
        known = () if self.data is None else self.data.datasets
        dataset = next((one.name for one in known if one.id == wanted.dataset_id), "")
        named = {
            "teacher": wanted.teacher,
            "status": wanted.status,
            "dataset": dataset,
            "split": wanted.split,
        }
        parts = [f'q:"{wanted.words}"'] if wanted.words else []
        parts += [f"{name} {value}" for name, value in named.items() if value]
        parts += [
            f"{name} ≥ {getattr(wanted, name):g}"
            for name in ("quality", "learnability", "reward")
            if getattr(wanted, name) is not None
        ]
        return printable(" · ".join(parts)).replace("\n", " ")

    def _fetch(self, window: range) -> None:
        """Fetches what the visible rows lack; one fetch at a time, the next painting asks again."""
        store = self.app.store
        if self._fetching or store is None or not len(self.rows):
            return
        wanted = self.rows.wanted(window)
        if wanted:
            self._fetching = True
            self.run_worker(self._bring(store, wanted), group="cards", exit_on_error=False)

    async def _bring(self, store: Store, ids: Sequence[int]) -> None:
        age, dataset_id = self.rows.age, self.listing.dataset_id
        try:
            found = await asyncio.to_thread(listing.cards, store, ids, dataset_id)
        except PersynError as problem:
            self.notify(str(problem), severity="error", markup=False)
            return
        finally:
            self._fetching = False
        if dataset_id == self.listing.dataset_id:
            self.rows.put(ids, found, age)
        self.sheet.refresh()

    # Search, filter, sort

    def action_search(self) -> None:
        """Opens the search line."""
        line = self.query_one("#search", Input)
        line.value = self.wanted.words or ""
        self.add_class("searching")
        line.focus()

    @on(Input.Submitted, "#search")
    def _search(self, event: Input.Submitted) -> None:
        words = event.value.strip()
        self._close_search()
        if not words:
            self.list_answers(replace(self.wanted, words=None))
            return
        self.list_answers(replace(self.wanted, words=words))
        store = self.app.store
        if store is not None and "index" not in self._doing:
            self._doing["index"] = "indexing …"
            self.run_worker(partial(self._index, store), thread=True, group="index", exit_on_error=False)

    def _index(self, store: Store) -> None:
        """Brings the word index up to date; what was searched meanwhile is read again at the end."""
        worker = get_current_worker()
        added = 0
        try:
            while not worker.is_cancelled:
                reached, last = search.reached(store)
                if reached < last:
                    self.post_message(Doing("index", f"indexing {count(reached)} of {count(last)}"))
                new = search.sync(store, limit=STEP)
                added += new
                if not new:
                    break
        except PersynError as problem:
            self.post_message(Said("index", problem=problem))
            return
        self.post_message(Said("index", "more" if added else ""))

    def _close_search(self) -> None:
        self.remove_class("searching")
        self.sheet.focus()

    async def action_filter(self) -> None:
        """Asks which answers to list."""
        if self.data is not None:
            form = FilterForm(self.wanted, self.data.teachers, self.data.datasets)
            self.app.push_screen(form, lambda wanted: None if wanted is None else self.list_answers(wanted))

    def action_sort(self) -> None:
        """Asks by what to sort."""

        def chosen(order: tuple[listing.Sort, bool] | None) -> None:
            if order is not None:
                self.list_answers(replace(self.wanted, sort=order[0], descending=order[1]))

        self.app.push_screen(SortMenu(self.wanted.sort, self.wanted.descending), chosen)

    def action_back(self) -> None:
        """Closes what is open; then clears marks, the search, the filter."""
        sheet, wanted = self.sheet, self.wanted
        if self.has_class("searching"):
            self._close_search()
        elif self._beside is not None:
            self._beside = None
            self.panel.close()
            self.remove_class("answers")
            self.refresh_bindings()
            sheet.focus()
        elif sheet.marked:
            sheet.marked.clear()
            sheet.refresh()
            self.paint_title()
        elif wanted.words is not None:
            self.list_answers(replace(wanted, words=None))
        else:
            self.list_answers(Listing(sort=wanted.sort, descending=wanted.descending))

    # All answers to one prompt

    @on(Sheet.Chosen, "#rows")
    def _open(self, event: Sheet.Chosen) -> None:
        self.add_class("answers")
        self._look(cast(int, event.key))
        self.refresh_bindings()
        self.panel.focus()

    @on(Sheet.Highlighted, "#rows")
    def _moved(self, event: Sheet.Highlighted) -> None:
        if self._beside is not None and event.key is not None:
            self._look(cast(int, event.key))

    @on(AnswersPanel.Row)
    def _next_row(self, event: AnswersPanel.Row) -> None:
        self.sheet.action_move(event.by)

    def _look(self, response_id: int) -> None:
        self._beside, self._looked_s = response_id, time.monotonic()
        work: Any = partial(self._show_answers, response_id)
        self.run_worker(work, group="answers", exclusive=True, exit_on_error=False)

    async def _show_answers(self, response_id: int) -> None:
        store = self.app.store
        if store is None:
            return
        dataset_id = self.dataset.id if self.dataset else None
        try:
            found = await asyncio.to_thread(load, store, response_id, dataset_id)
        except PersynError as problem:
            self.notify(str(problem), severity="error", markup=False)
            return
        if found is not None and response_id == self._beside:
            await self.panel.put(found, response_id)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What belongs to the list is not offered beside the answers, and nothing where there are none."""
        if action in ("search", "filter", "sort", "export", "exclude"):
            return self.data is not None and (self._beside is None or action == "exclude")
        return True

    def action_copy(self) -> None:
        """Copies the text of the chosen answer, or of the one under the cursor."""
        self.run_worker(self._copy(), group="copy", exit_on_error=False)

    async def _copy(self) -> None:
        key, store = self.sheet.key, self.app.store
        if self._beside is not None:
            text = self.panel.text
        elif isinstance(key, int) and store is not None:
            lines = await asyncio.to_thread(browse.lines, store, [key])
            text = lines[0].response.text if lines else ""
        else:
            return
        self.app.copy_to_clipboard(text)
        self.notify(f"copied {count(len(text))} characters of answer {key}", timeout=2)

    # Excluding

    def action_exclude(self) -> None:
        """Takes the marked rows, or the one under the cursor, out of the dataset in view, or puts them back."""
        dataset, store = self.dataset, self.app.store
        ids = [key for key in (self.sheet.marked or {self.sheet.key}) if isinstance(key, int)]
        if store is None or not ids:
            return
        if dataset is None:
            self.notify("rows are excluded from one dataset: choose it first, f", severity="warning")
            return
        self.run_worker(self._exclude(store, dataset, ids), group="exclude", exit_on_error=False)

    async def _exclude(self, store: Store, dataset: Dataset, ids: Sequence[int]) -> None:
        found = (await asyncio.to_thread(listing.cards, store, ids, dataset.id)).values()
        held = [card for card in found if card.dataset_id == dataset.id]
        if not held:
            self.notify(f"`{dataset.name}` does not hold this answer", severity="warning", markup=False)
            return
        out = not all(card.excluded for card in held)
        prompts = [card.prompt_id for card in held if card.excluded != out]
        self._undo.append((dataset, prompts, not out))
        self.sheet.marked.clear()
        await self._set_excluded(store, dataset, prompts, out, undoing=False)

    def action_undo(self) -> None:
        """Takes the last exclusion or restoring back."""
        store = self.app.store
        if not self._undo or store is None:
            self.notify("nothing to undo", timeout=2)
            return
        dataset, prompts, out = self._undo.pop()
        work = self._set_excluded(store, dataset, prompts, out, undoing=True)
        self.run_worker(work, group="exclude", exit_on_error=False)

    async def _set_excluded(
        self, store: Store, dataset: Dataset, prompts: Sequence[int], out: bool, *, undoing: bool
    ) -> None:
        try:
            changed = await asyncio.to_thread(datasets.exclude, store, dataset.id, prompts, out)
            left = await asyncio.to_thread(datasets.count, store, dataset.id)
        except PersynError as problem:
            self.notify(str(problem), severity="error", markup=False)
            return
        done = "excluded from" if out else "back in"
        rows = f"{count(changed)} row{'' if changed == 1 else 's'}"
        hint = "" if undoing else " · u undoes"
        self.notify(f"{rows} {done} `{dataset.name}`, {count(left)} left{hint}", markup=False)
        self.rows.outdate()
        self.sheet.refresh()
        self.paint_title()

    # Export

    async def action_export(self) -> None:
        """Asks which dataset goes where, then writes it in the background."""
        store = self.app.store
        if self.data is None or store is None:
            return
        if "export" in self._doing:
            self.notify("an export is being written", severity="warning")
            return
        ready = [one for one in self.data.datasets if one.complete]
        if not ready:
            self.notify(
                "there is no complete dataset; the stage build_dataset makes them", severity="warning"
            )
            return
        chosen = self.dataset if self.dataset in ready else ready[0]
        assert chosen is not None
        rows = await asyncio.to_thread(lambda: {one.id: datasets.count(store, one.id) for one in ready})

        def start(order: ExportOrder | None) -> None:
            if order is not None:
                self._doing["export"] = "exporting …"
                self.run_worker(partial(self._export, store, order), thread=True, group="export")

        self.app.push_screen(ExportForm(ready, chosen, rows), start)

    def _export(self, store: Store, order: ExportOrder) -> None:
        from engine.export import export

        worker = get_current_worker()

        def progress(done: int, total: int) -> None:
            if worker.is_cancelled:  # the app is left: the unfinished file is removed on the way out
                raise PersynError("the export was given up")
            self.post_message(Doing("export", f"exporting {count(done)} of {count(total)}"))

        try:
            written = export(store, order.dataset, order.form, order.out, progress)
        except PersynError as problem:
            self.post_message(Said("export", problem=problem))
            return
        self.post_message(
            Said("export", f"{count(written.rows)} rows of `{order.dataset.name}` are in {written.path}")
        )

    # What comes from the background

    def on_doing(self, event: Doing) -> None:
        """The title says how far it is."""
        self._doing[event.what] = event.text
        self.paint_title()

    def on_said(self, event: Said) -> None:
        """Something ended, well or not."""
        self._doing.pop(event.what, None)
        if event.problem is not None:
            self.notify(str(event.problem), severity="error", timeout=15, markup=False)
            if event.what == "ids":
                self.reading = None
                self._paint_query()
        elif event.what == "export":
            self.notify(event.text, timeout=60, markup=False)
        elif event.text and self.wanted.words is not None:
            self._read_again()
        self._say_nothing()
        self.paint_title()

    def on_resize(self) -> None:
        """Where the screen is low, the answers stand alone."""
        self.set_class(self.app.size.height < 27, "low")
        super().on_resize()

    def on_sheet_highlighted(self) -> None:
        """Marks are counted in the title."""
        self.paint_title()


def _cells(card: Card) -> list[Cell | str]:
    tone: Tone = "dim" if card.excluded else "plain"
    good = card.status == "ok"
    more = f" +{card.more_datasets}" if card.more_datasets else ""
    within = card.dataset.rpartition("/")[2]
    quality = "–" if card.quality is None else f"{card.quality:.2f}"
    return [
        Cell(str(card.id), "dim"),
        Cell(card.prompt, tone),
        Cell(card.teacher, tone),
        Cell(count(card.tokens), tone),
        Cell(card.finish_reason if good else card.status, "dim" if good else "warn"),
        Cell(quality, tone),
        Cell(signed(card.learnability), tone),
        Cell(signed(card.reward), tone),
        Cell("✗ excluded", "warn") if card.excluded else Cell(within + more, "dim"),
    ]
