"""The wizard's last step: what the run would take, and whether anything stands in its way."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from engine.base.sanitize import strip_control
from engine.config.run_file import Run
from engine.pipeline import preflight
from engine.report import dry_run, estimate
from engine.report.estimate import Estimate
from persyn_tui.app.screens.wizard.steps import Step
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.virtual_table import Cell, Column, VirtualTable
from storage.errors import PersynError
from storage.store import Store

TOTALS = (
    Column(""),
    Column("generations", 11, right=True),
    Column("tokens", 15, right=True),
    Column("cost", 13, right=True),
    Column("time", 13, right=True),
)
TOTALS_LEFT = (
    Column(""),
    Column("stored", 17, right=True),
    Column("left", 11, right=True),
    Column("tokens", 13, right=True, drop=1),
    Column("cost", 13, right=True),
    Column("time", 11, right=True),
)
TEACHERS = (
    Column("teacher"),
    Column("all", 9, right=True),
    Column("routed", 9, right=True),
    Column("$ all", 9, right=True, drop=1),
    Column("$ routed", 9, right=True, drop=2),
    Column("time all", 9, right=True, drop=3),
    Column("time routed", 11, right=True, drop=4),
)


class Still(VirtualTable, can_focus=False):
    """A table to read, on a page that scrolls: no cursor, and all of its rows."""

    def show(
        self,
        columns: Sequence[Column],
        rows: Sequence[tuple[str, ...]],
        cells: Callable[[tuple[str, ...]], Sequence[Cell | str]],
    ) -> None:
        """Shows these rows. They do not change, so a column may be as wide as its widest text."""
        self.display = bool(rows)
        self.styles.height = len(rows) + 1
        self.set_columns(
            [
                replace(column, width=max([column.width, *(cell_len(row[place]) for row in rows)]))
                if column.width
                else column
                for place, column in enumerate(columns)
            ]
        )
        self.fill([(row[0], cells(row)) for row in rows])


class Page(VerticalScroll):
    """What is longer than the screen, to be read from its beginning to its end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "Down", show=False, id="page.down"),
        Binding("k,up", "scroll_up", "Up", show=False, id="page.up"),
        Binding("pagedown,ctrl+f,space", "page_down", "Page down", show=False, id="page.page_down"),
        Binding("pageup", "page_up", "Page up", show=False, id="page.page_up"),
        Binding("g,home", "scroll_home", "Beginning", show=False, id="page.top"),
        Binding("G,end", "scroll_end", "End", show=False, id="page.bottom"),
    ]


class DryRunStep(Step):
    """What the run would take, and whether anything stands in its way."""

    TITLE = "dry run"

    def compose(self) -> ComposeResult:
        with Page(id="page"):
            yield Static(id="sums", markup=False)
            yield Still(TOTALS, id="totals")
            yield Still(TEACHERS, id="per-teacher")
            yield Static(id="assumed", markup=False)

    def enter(self) -> None:
        self.query_one("#page").focus()
        self.trouble = "the dry run is not finished"
        self.say("counting …")
        background(self, self._estimate, group="dry", exclusive=True)

    async def finish(self) -> bool:
        if self.trouble:
            self.say(f"✗ {self.trouble}", "bad")
        return not self.trouble

    async def _estimate(self) -> None:
        run = self.plan.run
        if run is None:
            return
        found, self.trouble = await asyncio.to_thread(_dry_run, run, self.dialog.app.store)
        for part in self.query_one("#page").children:
            part.display = found is not None
        if found is not None:
            said = [
                dry_run.summary(found),
                dry_run.formulas(found),
                *dry_run.already(found),
                *dry_run.judged(found),
                *dry_run.read(found),
            ]
            if found.speed_unknown:
                said.append(strip_control(dry_run.unknown_time(found)))
            self.query_one("#sums", Static).update("\n".join(said))
            columns = TOTALS if found.left is None else TOTALS_LEFT
            self.query_one("#totals", Still).show(columns, dry_run.totals(found), _strong)
            self.query_one("#per-teacher", Still).show(TEACHERS, dry_run.per_teacher(found), list)
            assumed = "\n".join(f"assumed: {line}" for line in found.assumptions)
            self.query_one("#assumed", Static).update(strip_control(assumed))
        self.call_after_refresh(self._conclude)

    def _conclude(self) -> None:
        """Says whether it can be started, once it is known whether all of the page is seen."""
        more = " · j: there is more below" if self.query_one("#page").max_scroll_y else ""
        if self.trouble:
            self.say(f"✗ {self.trouble}{more}", "bad")
        else:
            self.say(f"enter starts it in the background; it outlives this terminal{more}", "good")


def _strong(row: tuple[str, ...]) -> list[Cell | str]:
    """The two ways that the method compares stand out from the strategies."""
    return [Cell(text, "strong" if row[0] in ("all teachers", "routed") else "plain") for text in row]


def _dry_run(run: Run, store: Store | None) -> tuple[Estimate | None, str]:
    """(what it takes, why it cannot be started)."""
    found, refused = None, ""
    try:
        found = estimate.estimate(run) if store is None else estimate.from_store(run, store)
    except PersynError as problem:
        refused = str(problem)
    try:
        preflight.check(run)
    except PersynError as problem:  # the cause, where a source cannot be read
        refused = str(problem)
    return found, refused
