"""Screen 5: every stored response, filtered, sorted and searched; all responses to one prompt side by side."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input, Static
from textual.worker import Worker, WorkerState

from persyn_tui.app.base.formatting import count, sent
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.screens.data import background_tasks, query
from persyn_tui.app.screens.data.background_tasks import EXPORT, INDEX, Doing
from persyn_tui.app.screens.data.exclusions import Exclusions
from persyn_tui.app.screens.data.export_form import ExportForm, ExportOrder, choices
from persyn_tui.app.screens.data.filter_form import FilterForm
from persyn_tui.app.screens.data.formatting import in_words, query_line
from persyn_tui.app.screens.data.query import Stored
from persyn_tui.app.screens.data.response_table import PAUSE_S, SORTED, Ended, ResponseTable
from persyn_tui.app.screens.data.responses_panel import ResponsesPanel
from persyn_tui.app.screens.data.sort_menu import SortMenu
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.virtual_table import VirtualTable
from persyn_tui.views.dataset_view import Datasets
from storage import browse, responses
from storage.errors import PersynError
from storage.listing import Listing
from storage.records import Dataset
from storage.store import Store


class DataScreen(BaseScreen[Stored]):
    """Responses, newest first until asked otherwise."""

    NUMBER, NAME, LIST = 5, "Data", "#rows"
    EMPTY = (
        "No responses yet.\n\n"
        "{go.jobs:1}   goes to the jobs: {jobs.new:n} makes one, {jobs.demo:d} runs the demo on small models"
    )
    EVERY = inf  # nothing here depends on the clock
    DEFAULT_CSS = """
    DataScreen #rows { height: 1fr; min-height: 6; }
    DataScreen #query { display: none; height: auto; max-height: 2; color: $text-primary; }
    DataScreen #nothing { display: none; height: 1fr; content-align: center middle; color: $text-muted; }
    DataScreen #search { display: none; background: $surface; }
    DataScreen.filtered #query, DataScreen.none #nothing, DataScreen.searching #search { display: block; }
    DataScreen.none #rows { height: 2; min-height: 2; }
    DataScreen.responses ResponsesPanel { display: block; }
    DataScreen.responses.low #rows, DataScreen.responses.low #query { display: none; }
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
        """What works in the background → how far it is."""
        self._exclusions = Exclusions()
        self._looked_s = 0.0
        """When the responses to one prompt were read last."""
        self._beside: int | None = None
        """The response whose neighbours are shown, or are about to be; None while the list alone is shown."""

    def body(self) -> Iterable[Widget]:
        yield Static(id="query", markup=False)
        yield ResponseTable(id="rows")
        yield Static(id="nothing", markup=False)
        yield ResponsesPanel(id="responses")
        yield Input(
            placeholder="words, all of them in the response or all in its prompt", id="search", compact=True
        )

    @property
    def sheet(self) -> ResponseTable:
        return self.query_one("#rows", ResponseTable)

    @property
    def panel(self) -> ResponsesPanel:
        return self.query_one(ResponsesPanel)

    @property
    def _datasets(self) -> Datasets:
        return Datasets() if self.data is None else self.data.datasets

    @property
    def dataset(self) -> Dataset | None:
        """The dataset in view: the one that is filtered by, else the only one there is."""
        known = self._datasets
        if self.sheet.listing.dataset_id is None:
            return known.all[0] if len(known.all) == 1 else None
        return known.get(self.sheet.listing.dataset_id)

    # Following the store

    def question(self) -> Any:
        return None

    def read(self, store: Store, question: Any) -> Stored | None:
        return query.read(store)

    def show(self, data: Stored) -> None:
        """Reads the list when there is none yet, and what came after it."""
        sheet = self.sheet
        sheet.name_datasets(data.datasets)
        self._paint_query()
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
            self.new = await asyncio.to_thread(responses.count_above, store, upto) if upto else 0
            if self.frozen:
                self.paint_title()
                return
            self.sheet.outdate()
            if self._beside is not None and time.monotonic() > self._looked_s + PAUSE_S:
                self._look(self._beside)
        await super().follow(changed=changed)

    @on(ResponseTable.Changed)
    def _changed(self) -> None:
        sheet = self.sheet
        none = sheet.reading is None and sheet.upto > 0 and not len(sheet.rows)
        self.set_class(none, "none")
        if none:
            why = "What is indexed so far does not hold it" if INDEX in self._doing else "No response passes"
            self.query_one("#nothing", Static).update(
                f"{why}: {in_words(sheet.listing, self._datasets)}\n\n"
                + self.app.keyed("{data.back:esc} clears · {data.filter:f} changes the filter")
            )
        if sheet.reading is None and self.data is not None and not self.frozen:
            sheet.catch_up(self.data.newest)
        self._paint_query()
        self.paint_title()

    @on(Ended)
    def _ended(self, event: Ended) -> None:
        if event.problem is not None:
            self.app.notify(str(event.problem), severity="error", timeout=15, about="list responses")
        else:
            self.new = 0
            self.app.settle("list responses")

    def action_reread(self) -> None:
        if self.data is not None:
            self.sheet.read(self.sheet.wanted)
        self.ask()

    def about(self) -> str:
        if self.data is None:
            return ""
        sheet, reading = self.sheet, self.sheet.reading
        parts = [f"{count(len(sheet.rows))} responses"]
        if reading is not None and reading.how == "show":
            waits = "sorting …" if reading.listing.sort != "id" else "looking …"
            parts[0] = f"{parts[0]} …" if reading.begun else waits
        parts += self._doing.values()
        if self.new and (self.frozen or not sheet.listing.only_grows):
            parts.append(f"{count(self.new)} new rows" + ("" if self.frozen else ", {data.reread:r} reads"))
        if sheet.marked:
            parts.append(f"{count(len(sheet.marked))} marked")
        return " · ".join(parts)

    def idle(self) -> frozenset[str]:
        """Undoing what was not done; excluding is always offered, and says where a dataset must be chosen first."""
        return frozenset() if self._exclusions.done else frozenset({"undo"})

    # The list

    def list_responses(self, wanted: Listing | None) -> None:
        """Shows another list, unless None is; the present one stays until the first rows of the other are known."""
        if wanted is not None and wanted != self.sheet.wanted:
            self.sheet.read(wanted)

    def _paint_query(self) -> None:
        line = query_line(self.sheet.wanted, self._datasets, self.sheet.letters, self.app.keyed)
        shown = self.query_one("#query", Static)
        if line != shown.content:
            shown.update(line)
        self.set_class(bool(line), "filtered")

    # Search, filter, sort

    def action_search(self) -> None:
        line = self.query_one("#search", Input)
        line.value = self.sheet.wanted.words or ""
        self.add_class("searching")
        line.focus()

    @on(Input.Submitted, "#search")
    def _search(self, event: Input.Submitted) -> None:
        words = event.value.strip()
        self._close_search()
        self.list_responses(replace(self.sheet.wanted, words=words or None))
        store = self.app.store
        if words and store is not None and INDEX not in self._doing:
            self._do(INDEX, "indexing …", partial(background_tasks.index, store, self.post_message))

    def _do(self, what: str, text: str, work: Callable[[], int | str]) -> None:
        """Works in a thread; the title says how far it is."""
        self._doing[what] = text
        self.app.settle(what)
        self.run_worker(work, thread=True, group=what, exit_on_error=False)

    def _close_search(self) -> None:
        self.remove_class("searching")
        self.sheet.focus()

    def action_filter(self) -> None:
        if self.data is not None:
            form = FilterForm(self.sheet.wanted, self.data.teachers, self.data.datasets)
            self.app.push_screen(form, self.list_responses)

    def action_sort(self) -> None:
        wanted, letters = self.sheet.wanted, self.sheet.letters
        scales = self._datasets.scales if letters is None else len(letters)
        if wanted.dataset_id is not None:
            scales = 1
        self.app.push_screen(SortMenu(wanted, scales), self.list_responses)

    @on(VirtualTable.HeaderClicked, "#rows")
    def _sort_by(self, event: VirtualTable.HeaderClicked) -> None:
        """By the column that was clicked, highest first; the other way round when it is sorted by that already."""
        wanted = self.sheet.wanted
        for name, column in SORTED.items():
            if column == event.column:
                descending = not wanted.descending if name == wanted.sort else True
                self.list_responses(replace(wanted, sort=name, descending=descending))

    def action_back(self) -> None:
        """Closes what is open; then clears marks, the search, the filter."""
        sheet, wanted = self.sheet, self.sheet.wanted
        if self.has_class("searching"):
            self._close_search()
        elif self._beside is not None:
            self._beside = None
            sheet.follows = True
            self.panel.close()
            self.remove_class("responses")
            self.refresh_bindings()
            sheet.focus()
        elif sheet.marked:
            sheet.marked.clear()
            sheet.refresh()
            self.paint_title()
        elif wanted.words is not None:
            self.list_responses(replace(wanted, words=None))
        else:
            self.list_responses(Listing(sort=wanted.sort, descending=wanted.descending))

    # All responses to one prompt

    @on(VirtualTable.Chosen, "#rows")
    def _open(self, event: VirtualTable.Chosen) -> None:
        self.add_class("responses")
        self._look(cast(int, event.key))
        self.refresh_bindings()
        self.panel.focus()

    @on(VirtualTable.Highlighted, "#rows")
    def _moved(self, event: VirtualTable.Highlighted) -> None:
        if self._beside is not None and event.key is not None:
            self._look(cast(int, event.key))

    @on(ResponsesPanel.Row)
    def _next_row(self, event: ResponsesPanel.Row) -> None:
        self.sheet.action_move(event.by)

    def _look(self, response_id: int) -> None:
        self._beside, self._looked_s = response_id, time.monotonic()
        self.sheet.follows = False
        work = partial(self._show_responses, response_id)
        background(self, work, group="responses", exclusive=True, exit_on_error=False)

    async def _show_responses(self, response_id: int) -> None:
        store = self.app.store
        if store is None:
            return
        in_view = self.dataset.id if self.dataset else None
        await self.panel.read(store, response_id, in_view, lambda: response_id == self._beside)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What belongs to the list is not offered beside the responses, and nothing where there are none."""
        if action in ("search", "filter", "sort", "export", "exclude"):
            return self.data is not None and (self._beside is None or action == "exclude")
        return True

    def action_copy(self) -> None:
        background(self, self._copy, group="copy", exit_on_error=False)

    async def _copy(self) -> None:
        key, store = self.sheet.key, self.app.store
        if self._beside is not None:
            text = self.panel.text
            key = None if self.panel.chosen is None else self.panel.chosen["id"]
        elif isinstance(key, int) and store is not None:
            lines = await asyncio.to_thread(browse.lines, store, [key])
            text = lines[0].response.text if lines else ""
        else:
            return
        self.app.copy_to_clipboard(text)
        self.app.notify(sent(len(text), f" of response {key}"), about="copy")

    # Excluding

    def action_exclude(self) -> None:
        """Takes the marked rows, or the one under the cursor, out of the dataset in view, or puts them back."""
        dataset, store = self.dataset, self.app.store
        ids = [key for key in (self.sheet.marked or {self.sheet.key}) if isinstance(key, int)]
        if store is None or not ids:
            return
        if dataset is None:
            self.app.notify(
                "rows are excluded from one dataset: choose it first, {data.filter:f}", severity="warning"
            )
            return
        name = self._datasets.name(dataset)
        self._change(lambda: self._exclusions.turn(store, dataset, name, ids))
        self.sheet.marked.clear()

    def action_undo(self) -> None:
        """Takes the last exclusion or restoring back."""
        store = self.app.store
        if not self._exclusions.done or store is None:
            self.app.notify("nothing to undo", timeout=2)
            return
        self._change(lambda: self._exclusions.undo(store, self._datasets.name))

    def _change(self, change: Callable[[], str]) -> None:
        """Changes a dataset in a thread, and says what came of it."""

        async def do() -> None:
            self.app.notify(await asyncio.to_thread(change), about="exclude")
            self.sheet.outdate()
            self.paint_title()

        background(self, do, group="exclude", exit_on_error=False)

    # Export

    async def action_export(self) -> None:
        """Asks which dataset goes where, then writes it in the background."""
        # NumPy comes with it, which the first rows do not wait for.
        from engine.methods import strategy_kinds

        store = self.app.store
        if self.data is None or store is None:
            return
        if EXPORT in self._doing:
            self.app.notify("an export is being written", severity="warning")
            return
        known = self.data.datasets
        ready = [one for one in known.all if one.complete]
        if not ready:
            self.app.notify("no dataset is complete; the stage build_dataset makes them", severity="warning")
            return
        routed = [one for one in ready if strategy_kinds.uses_router(str(one.manifest.get("strategy")))]
        chosen = self.dataset if self.dataset in ready and self.dataset else (routed or ready)[0]
        wanted, marked = self.sheet.wanted, {int(str(key)) for key in self.sheet.marked}
        # A dataset in view is one to export; what else is filtered by chooses among its rows.
        words = in_words(wanted, known) if in_words(replace(wanted, dataset_id=None), known) else ""
        try:
            rows = await asyncio.to_thread(choices, store, ready, wanted, words, marked)
        except PersynError as problem:
            self.app.notify(str(problem), severity="error", about="export")
            return
        # Of marked or listed rows: a dataset that has some of them, most if the one in view has none.
        first = next(iter(rows.values())).counts
        if not first[chosen.id]:
            chosen = max(ready, key=lambda one: first[one.id])

        def start(order: ExportOrder | None) -> None:
            if order is not None:
                write = partial(background_tasks.write, store, order, self.post_message)
                self._do(EXPORT, "exporting …", write)

        self.app.push_screen(ExportForm(known, chosen, rows), start)

    # What comes from the background

    def on_doing(self, event: Doing) -> None:
        self._doing[event.what] = event.text
        self.paint_title()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        super().on_worker_state_changed(event)
        worker, well = event.worker, event.state is WorkerState.SUCCESS
        if worker.group not in (INDEX, EXPORT) or not (well or event.state is WorkerState.ERROR):
            return
        self._doing.pop(worker.group, None)
        if well and worker.group == EXPORT:
            self.app.notify(str(worker.result), timeout=15, about=EXPORT)
        elif well and worker.result and self.sheet.wanted.words is not None:
            self.sheet.read(self.sheet.wanted)  # more is indexed than when it was searched
        self._changed()

    def on_resize(self) -> None:
        """Where the screen is low, the responses stand alone."""
        self.set_class(self.app.size.height < 27, "low")
        super().on_resize()

    def on_virtual_table_highlighted(self) -> None:
        """Marks are counted in the title."""
        self.paint_title()
