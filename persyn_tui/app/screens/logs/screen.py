"""Screen 7: what happened in every job, with a filter; the machine, the store, theme and keys."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from engine.base.sanitize import strip_control
from persyn_tui.app.base import bug_report
from persyn_tui.app.base.formatting import one_line
from persyn_tui.app.base.settings import settings_path
from persyn_tui.app.screens.filtered import FilteredScreen, FilterLine, passes
from persyn_tui.app.screens.jobs.screen import EVENT_TONES
from persyn_tui.app.widgets.message_bar import MessageBar
from persyn_tui.app.widgets.virtual_table import Cell, Column, VirtualTable
from storage import jobs
from storage.job_records import Event
from storage.store import Store

COLUMNS = (
    Column("time", 15, drop=1),
    Column("job", 4, right=True),
    Column("kind", 8, drop=2),
    Column("what happened"),
)
KEPT = 2000
"""Newest events that the log holds."""


@dataclass(frozen=True, slots=True)
class Log:
    """What the screen shows."""

    events: list[Event]
    """Newest first, those that pass the filter."""
    total: int
    size_mb: float | None


class LogsScreen(FilteredScreen[Log]):
    """Log, diagnostics and settings."""

    NUMBER, NAME = 7, "Logs & settings"
    EMPTY = (
        "Nothing has happened in this store yet.\n\n"
        "{go.jobs:1} goes to the jobs, where {jobs.new:n} makes the first one."
    )
    NEEDS_ROWS = frozenset({"filter"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "theme", "Theme", id="logs.theme"),
        Binding("b", "report", "Copy a bug report", id="logs.report"),
    ]

    def body(self) -> Iterable[Widget]:
        yield FilterLine("error calibrate")
        with Horizontal():
            with Vertical(id="lines"):
                yield VirtualTable(COLUMNS, id="log", newest_first=True)
                yield MessageBar(id="whole")
            with VerticalScroll(id="facts", can_focus=False):
                yield Static(id="diagnostics", markup=False)

    def read(self, store: Store, question: Any) -> Log | None:
        found = jobs.newest_events(store, limit=KEPT)
        if not found:
            return None
        size = None if store.path is None else sum(map(_bytes, (store.path, Path(f"{store.path}-wal")))) / 1e6
        return Log([event for event in reversed(found) if passes(_line(event), question)], len(found), size)

    def show(self, data: Log) -> None:
        self.query_one("#log", VirtualTable).fill([(event.id, _cells(event)) for event in data.events])
        facts = Table.grid(padding=(0, 2))
        for name, value in self.facts():
            facts.add_row(name, Text(strip_control(value), overflow="fold"))
        self.query_one("#diagnostics", Static).update(facts)

    @on(VirtualTable.Highlighted, "#log")
    def _moved(self) -> None:
        self.query_one("#whole", MessageBar).tell(
            self.text_to_copy() or " "
        )  # it keeps its place: rows would jump

    def about(self) -> str:
        if self.data is None:
            return ""
        return f"{len(self.data.events):,} of the newest {self.data.total:,} lines"

    def without(self) -> Sequence[str]:
        """The settings, where there is no room beside the log."""
        return () if self.query_one("#facts").display else ["settings"]

    def facts(self) -> list[tuple[str, str]]:
        """(what, value): store, settings, machine."""
        settings, store = self.app.settings, self.app.store
        size = f" ({self.data.size_mb:,.1f} MB)" if self.data and self.data.size_mb is not None else ""
        gpus = self.app.machine[-1].gpus if self.app.machine else ()
        own_keys = ", ".join(f"{name} = {keys}" for name, keys in self.app.works.items())
        return [
            ("store", f"{store.name if store else '…'}{size}"),
            ("settings", str(settings_path())),
            ("theme", self.app.keyed(f"{self.app.theme} ({{logs.theme:t}})")),
            ("looks every", f"{settings.interval:g} s"),
            ("own keys", own_keys or "none; set `keys` in the settings file: binding id → key"),
            ("GPU", ", ".join(gpu.name for gpu in gpus) or "none found"),
            *bug_report.machine(),
        ]

    def text_to_copy(self) -> str:
        key = self.query_one("#log", VirtualTable).key
        return next((e.message for e in self.data.events if e.id == key), "") if self.data else ""

    def action_theme(self) -> None:
        self.app.search_themes()

    def action_report(self) -> None:
        """Copies a bug report: no paths below the home folder, no keys, no prompts or responses."""
        events = [
            f"{_when(event)} job {event.job_id} {event.kind} {event.message}"
            for event in (self.data.events if self.data else [])
        ]
        specs = [self.app.followed.job.spec] if self.app.followed.job else []
        text = bug_report.write(self.facts(), events[:30], bug_report.secrets(specs))
        self.app.copy_to_clipboard(text)
        lines = f"a bug report of {len(text.splitlines())} lines was sent to the terminal's clipboard"
        self.app.notify(
            f"{lines} and written to\n{bug_report.keep(text, 'report')}", timeout=15, about="report"
        )


def _when(event: Event) -> str:
    return time.strftime("%d %b %H:%M:%S", time.localtime(event.at))


def _bytes(path: Path) -> int:
    """Of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _line(event: Event) -> str:
    return f"{event.kind} job {event.job_id} {event.message}"


def _cells(event: Event) -> list[Cell | str]:
    return [
        Cell(_when(event), "dim"),
        str(event.job_id),
        Cell(event.kind, EVENT_TONES.get(event.kind, "dim")),
        Cell(one_line(event.message), EVENT_TONES.get(event.kind, "plain")),
    ]
