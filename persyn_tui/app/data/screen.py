"""Screen 5: every stored answer, filtered, sorted and searched; all answers to one prompt side by side."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static
from textual.worker import get_current_worker

from persyn_tui.app.data.answers import AnswersPanel, load
from persyn_tui.app.data.forms import ExportForm, ExportOrder, FilterForm, SortMenu, in_words
from persyn_tui.app.data.sheet import PAUSE_S, SORTED, AnswerSheet, Ended
from persyn_tui.app.frame import View
from persyn_tui.app.oneline import OneLine
from persyn_tui.app.sheet import Sheet
from persyn_tui.app.text import count
from storage import browse, datasets, listing, registry, search
from storage.errors import PersynError
from storage.listing import Listing
from storage.records import Dataset
from storage.store import Store

STEP = 5000
"""Texts indexed in one transaction: a job that writes waits no longer than this takes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the screen knows of the store apart from the rows."""

    newest: int
    """The highest response id."""
    datasets: Sequence[Dataset]
    """Newest first."""
    teachers: Sequence[str]


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


class DataScreen(View[Stored]):
    """Answers, newest first until asked otherwise."""

    NUMBER, NAME, LIST = 5, "Data", "#rows"
    EMPTY = "No answers yet.\n\n1   goes to the jobs: n makes one, d runs the demo on small models"
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
    WRITES = frozenset({"exclude", "undo"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", key_display="/", id="data.search"),
        Binding("f", "filter", "Filter", id="data.filter"),
        Binding("o", "sort", "Sort", id="data.sort"),
        Binding("x", "exclude", "Exclude", id="data.exclude"),
        Binding("u", "undo", "Undo exclude", id="data.undo"),
        Binding("e", "export", "Export", id="data.export"),
        Binding("r", "reread", "Read again", show=False, id="data.reread"),
        Binding("escape", "back", "Back, clear search, clear filter", show=False, id="data.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.new = 0
        """Responses that came after the list was read."""
        self._doing: dict[str, str] = {}
        self._undo: list[tuple[Dataset, list[int], bool]] = []
        self._looked_s = 0.0
        """When the answers to one prompt were read last."""
        self._beside: int | None = None
        """The response whose neighbours are shown, or are about to be; None while the list alone is shown."""

    def body(self) -> Iterable[Widget]:
        """The filters, the list, the answers to one prompt, the search line."""
        yield OneLine(id="query")
        yield AnswerSheet(id="rows")
        yield Static(id="nothing", markup=False)
        yield AnswersPanel(id="answers")
        yield Input(
            placeholder="words, all of them in the answer or all in its prompt", id="search", compact=True
        )

    @property
    def sheet(self) -> AnswerSheet:
        """The list."""
        return self.query_one("#rows", AnswerSheet)

    @property
    def panel(self) -> AnswersPanel:
        """The answers to one prompt."""
        return self.query_one(AnswersPanel)

    @property
    def _datasets(self) -> Sequence[Dataset]:
        return () if self.data is None else self.data.datasets

    @property
    def dataset(self) -> Dataset | None:
        """The dataset in view: the one that is filtered by, else the only one there is."""
        known = self._datasets
        if self.sheet.listing.dataset_id is None:
            return known[0] if len(known) == 1 else None
        return next((one for one in known if one.id == self.sheet.listing.dataset_id), None)

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
        sheet = self.sheet
        if sheet.upto == 0 and sheet.reading is None:
            sheet.read(sheet.wanted)
            self.refresh_bindings()
        else:
            sheet.catch_up(data.newest)

    async def follow(self, *, changed: bool) -> None:
        """Lines that changed are read anew; while frozen, new ones are only counted."""
        store = self.app.store
        if changed and self.data is not None and store is not None:
            upto = self.sheet.upto
            self.new = await asyncio.to_thread(listing.count_above, store, upto) if upto else 0
            if self.frozen:
                self.paint_title()
                return
            self.sheet.outdate()
            if self._beside is not None and time.monotonic() > self._looked_s + PAUSE_S:
                self._look(self._beside)
        await super().follow(changed=changed)

    @on(AnswerSheet.Changed)
    def _changed(self) -> None:
        sheet = self.sheet
        none = sheet.reading is None and sheet.upto > 0 and not len(sheet.rows)
        self.set_class(none, "none")
        if none:
            why = "What is indexed so far does not hold it" if "index" in self._doing else "No answer passes"
            self.query_one("#nothing", Static).update(
                f"{why}: {in_words(sheet.listing, self._datasets)}\n\nesc clears · f changes the filter"
            )
        if sheet.reading is None and self.data is not None and not self.frozen:
            sheet.catch_up(self.data.newest)
        self._paint_query()
        self.paint_title()

    @on(Ended)
    def _ended(self, event: Ended) -> None:
        if event.problem is not None:
            self.notify(str(event.problem), severity="error", timeout=15, markup=False)
        else:
            self.new = 0

    def action_reread(self) -> None:
        """Reads the whole list again."""
        if self.data is not None:
            self.sheet.read(self.sheet.wanted)
        self.ask()

    def about(self) -> str:
        """How many answers, what is going on."""
        if self.data is None:
            return ""
        sheet, reading = self.sheet, self.sheet.reading
        parts = [f"{count(len(sheet.rows))} answers"]
        if reading is not None and reading.how == "show":
            waits = "sorting …" if reading.listing.sort != "id" else "looking …"
            parts[0] = f"{parts[0]} …" if reading.begun else waits
        parts += self._doing.values()
        if self.new and (self.frozen or not sheet.listing.only_grows):
            parts.append(f"{count(self.new)} new rows" + ("" if self.frozen else ", r reads"))
        if sheet.marked:
            parts.append(f"{count(len(sheet.marked))} marked")
        return " · ".join(parts)

    def idle(self) -> frozenset[str]:
        """Excluding, while no dataset is in view."""
        idle = frozenset() if self.dataset is not None else frozenset({"exclude"})
        return idle if self._undo else idle | {"undo"}

    # The list

    def list_answers(self, wanted: Listing) -> None:
        """Shows another list; the present one stays until the first rows of the other are known."""
        if wanted != self.sheet.wanted:
            self.sheet.read(wanted)

    def _paint_query(self) -> None:
        wanted = self.sheet.wanted
        words = in_words(wanted, self._datasets)
        parts = [f"{words} · esc clears"] if words else []
        if (wanted.sort, wanted.descending) != ("id", True):
            parts.append(f"by {wanted.sort}, {'highest' if wanted.descending else 'lowest'} first")
        self.query_one("#query", OneLine).update(" · ".join(parts))
        self.set_class(bool(parts), "filtered")

    # Search, filter, sort

    def action_search(self) -> None:
        """Opens the search line."""
        line = self.query_one("#search", Input)
        line.value = self.sheet.wanted.words or ""
        self.add_class("searching")
        line.focus()

    @on(Input.Submitted, "#search")
    def _search(self, event: Input.Submitted) -> None:
        words = event.value.strip()
        self._close_search()
        if not words:
            self.list_answers(replace(self.sheet.wanted, words=None))
            return
        self.list_answers(replace(self.sheet.wanted, words=words))
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
            form = FilterForm(self.sheet.wanted, self.data.teachers, self.data.datasets)
            self.app.push_screen(form, lambda wanted: None if wanted is None else self.list_answers(wanted))

    def action_sort(self) -> None:
        """Asks by what to sort."""

        def chosen(order: tuple[listing.Sort, bool] | None) -> None:
            if order is not None:
                self.list_answers(replace(self.sheet.wanted, sort=order[0], descending=order[1]))

        self.app.push_screen(SortMenu(self.sheet.wanted.sort, self.sheet.wanted.descending), chosen)

    @on(Sheet.HeaderClicked, "#rows")
    def _sort_by(self, event: Sheet.HeaderClicked) -> None:
        """By the column that was clicked, highest first; the other way round when it is sorted by that already."""
        wanted = self.sheet.wanted
        for name, column in SORTED.items():
            if column == event.column:
                descending = not wanted.descending if name == wanted.sort else True
                self.list_answers(replace(wanted, sort=name, descending=descending))

    def action_back(self) -> None:
        """Closes what is open; then clears marks, the search, the filter."""
        sheet, wanted = self.sheet, self.sheet.wanted
        if self.has_class("searching"):
            self._close_search()
        elif self._beside is not None:
            self._beside = None
            sheet.follows = True
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
        self.sheet.follows = False
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
        characters = "1 character" if len(text) == 1 else f"{count(len(text))} characters"
        self.notify(f"copied {characters} of answer {key}", timeout=2)

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
        self.sheet.outdate()
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
            self.notify("no dataset is complete; the stage build_dataset makes them", severity="warning")
            return
        routed = [one for one in ready if one.manifest.get("strategy") == "persyn"]
        chosen = self.dataset if self.dataset in ready and self.dataset else (routed or ready)[0]
        try:
            await asyncio.to_thread(store.check_file)
            rows = await asyncio.to_thread(lambda: {one.id: datasets.count(store, one.id) for one in ready})
        except PersynError as problem:
            self.notify(str(problem), severity="error", markup=False)
            return

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
        elif event.what == "export":
            self.notify(event.text, timeout=15, markup=False)
        elif event.text and self.sheet.wanted.words is not None:
            self.sheet.read(self.sheet.wanted)
        self._changed()

    def on_resize(self) -> None:
        """Where the screen is low, the answers stand alone."""
        self.set_class(self.app.size.height < 27, "low")
        super().on_resize()

    def on_sheet_highlighted(self) -> None:
        """Marks are counted in the title."""
        self.paint_title()
