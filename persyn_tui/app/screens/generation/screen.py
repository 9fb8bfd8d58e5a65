"""Screen 4: what each teacher has given, how fast, at what price; the newest responses as they come."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, cast

from rich.cells import cell_len
from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from engine.base.sanitize import strip_control
from engine.job.control import PAUSE_S
from engine.pipeline import job_commands
from engine.pipeline.display import time_left
from persyn_tui.app.base.formatting import bar, count, done_of, money, rate
from persyn_tui.app.screens.data.responses_panel import AnswersPanel
from persyn_tui.app.screens.generation import query
from persyn_tui.app.screens.generation.query import STAGES, Generated, TeacherLine
from persyn_tui.app.screens.jobs.job_screen import JobScreen
from persyn_tui.app.state import stopping
from persyn_tui.app.state.cached_query import QueryCache
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.one_line import OneLine
from persyn_tui.app.widgets.virtual_table import Cell, Column, Tone, VirtualTable, text_of
from storage.job_records import Job
from storage.records import ResponseLine
from storage.store import Store

ASSIGNED = 15
"""Cells of `done / assigned`."""
TEACHERS = (
    Column("teacher", most=48),
    Column("backend", 12, drop=10),
    Column("done / assigned", ASSIGNED, right=True),
    Column("", 7, drop=7),
    Column("tok/s", 6, right=True),
    Column("ETA", 6, right=True, drop=1),
    Column("in flight", 9, right=True, drop=3),
    Column("retry", 5, right=True, drop=8),
    Column("trunc", 5, right=True, drop=4),
    Column("empty", 5, right=True, drop=5),
    Column("refused", 7, right=True, drop=5),
    Column("long", 4, right=True, drop=9),
    Column("error", 5, right=True, drop=2),
    Column("$", 7, right=True, drop=6),
)
NOTHING = ("–", "0", "0.00")
EMPTY_DROP = 20
"""Columns from `in flight` on that hold nothing go before all others."""
NEWEST = (
    Column("id", 9, right=True),
    Column("teacher", 14),
    Column("tok", 5, right=True, drop=1),
    Column("finish", 8, drop=2),
    Column("response"),
)
QUARANTINED = {
    "truncated": "quarantined: truncated at its limit",
    "empty": "quarantined: empty",
    "refused": "quarantined: refused",
    "too_long": "quarantined: the prompt is too long",
    "error": "error",
}
"""Status → why a response is not used."""
UNUSABLE = ("truncated", "empty", "refused", "too_long")
"""The statuses counted in columns of their own, beside `error`."""
TEXT = 400
"""Characters of a response among which its first line is looked for."""


class GenerationScreen(JobScreen[Generated]):
    """Teachers at work."""

    NUMBER, NAME, LIST = 4, "Generation", "#teachers"
    EMPTY = "No job yet.\n\n{go.jobs:1} goes to the jobs; {jobs.new:n} there makes one, and its teachers appear here."
    STAGES = ("", "prompts", *STAGES)
    STOP = "Pause"
    KEPT = "Everything committed is kept; {generation.start:s} goes on from there."
    DEFAULT_CSS = """
    GenerationScreen #teachers { height: auto; max-height: 60%; margin-top: 1; }
    GenerationScreen #label { height: 1; margin-top: 1; color: $quiet; text-wrap: nowrap; }
    GenerationScreen #newest { height: 1fr; min-height: 3; }
    GenerationScreen.answers #teachers, GenerationScreen.answers #label { display: none; }
    GenerationScreen.answers #answers { display: block; }
    """
    NEEDS_ROWS = frozenset({"start", "stop", "retry", "pace"})
    WRITES = frozenset({"start", "stop", "retry", "pace"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start", id="generation.start"),
        Binding("x", "stop", "Pause", id="generation.pause"),
        Binding("r", "retry", "Retry failed", id="generation.retry"),
        Binding("plus,equals_sign", "pace(True)", "In flight", key_display="+ -", id="generation.more"),
        Binding("minus", "pace(False)", "Fewer in flight", show=False, id="generation.fewer"),
        Binding("escape", "close", "Back", show=False, id="generation.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._cache = QueryCache()
        self._new = 0
        """Responses that came while the screen was frozen."""

    def body(self) -> Iterable[Widget]:
        """Sums, teachers, newest responses."""
        yield OneLine(id="sums")
        yield VirtualTable(TEACHERS, id="teachers")
        yield Static(_label(()), id="label", markup=False)
        yield VirtualTable(NEWEST, id="newest")
        yield AnswersPanel(id="answers")

    def read(self, store: Store, question: Any) -> Generated | None:
        """The followed job's counts and newest responses."""
        return query.read(store, question, self._cache)

    def show(self, data: Generated) -> None:
        """Sums and rows."""
        self._new = 0
        sums = _sums(data)
        fits = cell_len(sums) <= self.app.size.width - 2
        self.query_one("#sums", OneLine).update(sums if fits else _sums(data, brief=True))
        teachers = self.query_one("#teachers", VirtualTable)
        teachers.styles.height = len(data.teachers) + 1
        rows = [(line.name, _teacher(line)) for line in data.teachers]
        teachers.fill(rows, _columns([cells for _, cells in rows]))
        self.query_one("#label", Static).update(_label(data.teachers))
        newest = self.query_one("#newest", VirtualTable)
        at_top = newest.place == 0
        newest.fill([(line.response.id, _newest(line)) for line in data.newest])
        if at_top:  # who has not moved the cursor sees the newest; who has stays on that row
            newest.action_top()
        self.call_after_refresh(self.paint_title)

    async def follow(self, *, changed: bool) -> None:
        """Reads and shows; while frozen, only counts what comes."""
        await super().follow(changed=changed)
        store, shown = self.app.store, self.data
        if self.frozen and changed and store is not None and shown is not None:
            found = await asyncio.to_thread(self.read, store, shown.job_id)
            self._new = max(0, found.done - shown.done) if found is not None else 0
            self.paint_title()

    def about(self) -> str:
        """The job; what came while frozen."""
        return self.job_line + (f" · {self._new:,} new" if self.frozen and self._new else "")

    def idle(self) -> frozenset[str]:
        """Asking failed ones again, where none failed or the job does it itself, as well."""
        job = self.app.followed.job
        live = job is not None and job.effective_state == "running"
        failed = self.data is not None and self.data.errors > 0
        idle = super().idle() | (frozenset() if failed and not live else {"retry"})
        chosen = self.chosen
        return idle if chosen is not None and chosen.now.allowed else idle | {"pace(True)", "pace(False)"}

    @property
    def _works(self) -> bool:
        """Whether an engine works on the job: here `x` pauses it at any stage, which may just have changed."""
        job = self.app.followed.job
        return job is not None and job.effective_state == "running"

    def kept(self, job: Job) -> str:
        """That, and what is waited for."""
        if job.effective_state != "running":
            return self.KEPT
        if count := stopping.in_flight(job):
            return (
                f"{self.KEPT} Nothing more is sent; {stopping.responses(count)} at endpoints "
                f"{'is' if count == 1 else 'are'} waited for, {PAUSE_S:.0f} s at most "
                "({generation.pause:x} again: no longer), and kept."
            )
        if job.stage in STAGES:
            return f"{self.KEPT} A local model stops at its next token."
        return f"{self.KEPT} {job.stage or 'The job'} stops at the next point where nothing is lost."

    def trouble(self) -> str:
        """Why the job stopped, or why teachers give no answers."""
        waits = (
            []
            if self.data is None
            else [f"▲ {t.name}: {t.now.note}" for t in self.data.teachers if t.now.note]
        )
        return "\n".join(waits) or super().trouble()

    @property
    def chosen(self) -> TeacherLine | None:
        """The teacher under the cursor."""
        if self.data is None:
            return None
        key = self.query_one("#teachers", VirtualTable).key
        return next((line for line in self.data.teachers if line.name == key), None)

    @on(VirtualTable.Highlighted, "#teachers")
    def _moved(self) -> None:
        self.paint_title()  # the keys that are offered depend on the teacher

    def text_to_copy(self) -> str:
        """The teachers as lines of text, or the response under the cursor."""
        if self.data is None:
            return ""
        newest = self.query_one("#newest", VirtualTable)
        if self.has_class("answers"):
            return self.query_one(AnswersPanel).text
        if newest.has_focus:
            return next(
                (line.response.text for line in self.data.newest if line.response.id == newest.key), ""
            )
        return "\n".join([_sums(self.data), *(f"{t.name}\t{t.done}/{t.wanted}" for t in self.data.teachers)])

    @on(VirtualTable.Chosen, "#newest")
    def _open(self, event: VirtualTable.Chosen) -> None:
        background(self, partial(self._look, cast(int, event.key)), group="look", exclusive=True)

    async def _look(self, response_id: int) -> None:
        """Shows all answers to the prompt of this one."""
        if self.app.store is None:
            return
        panel = self.query_one(AnswersPanel)
        if not await panel.read(self.app.store, response_id):
            self.notify(f"response #{response_id} is not there", severity="warning")
            return
        self.add_class("answers")
        panel.focus()

    @on(AnswersPanel.Row)
    def _next(self, event: AnswersPanel.Row) -> None:
        newest = self.query_one("#newest", VirtualTable)
        newest.action_move(event.by)
        newest.action_choose()

    def action_close(self) -> None:
        """Back from the answers to the list."""
        if self.has_class("answers"):
            self.remove_class("answers")
            self.query_one("#newest", VirtualTable).focus()

    def action_pace(self, more: bool) -> None:
        """Asks for twice or half as many requests to the teacher under the cursor in flight."""
        if (chosen := self.chosen) is not None:
            self.act(lambda store, job: job_commands.pace(store, job.id, chosen.name, more=more))

    def action_retry(self) -> None:
        """Asks for failed responses again, where that can still change the run's data."""
        self.act(job_commands.retry_failed)


def _sums(data: Generated, *, brief: bool = False) -> str:
    if data.sizes is None:
        return "there are no prompts yet; nothing has been asked yet"
    parts = [f"{data.done:,} / {data.wanted:,}"]
    # A narrow line has room for the strategies, or for how fast it goes.
    several = data.strategies > 1 and not (brief and data.tokens_per_second is not None)
    if not (brief and several):
        parts[0] += " responses"
    if several:
        parts[0] += f" of {data.strategies} strategies"
    if data.sizes.unrouted:
        parts[0] += f" + {data.sizes.unrouted:,} to route"
    if data.tokens_per_second is not None:
        parts.append(f"{rate(data.tokens_per_second)} tok/s")
    if data.eta_s is not None:
        parts.append(f"ETA {time_left(data.eta_s, rough=data.rough)}")
    if data.in_flight is not None and not brief:
        parts.append(f"in flight {count(data.in_flight)}")
    if data.cost:
        parts.append(money(data.cost))
    if data.judged:
        parts.append(f"{money(data.judged)} for verdicts")
    # What the run asks for is that of all its strategies: the two ways that are compared are said apart from it.
    if several:
        parts.append(f"routed{'' if brief else ' alone would be'} {count(data.sizes.routed)}")
    parts.append(f"all teachers{'' if brief else ' would be'} {count(data.everything)}")
    if data.cost and data.everything_cost is not None:
        parts[-1] += f" / {money(data.everything_cost)}"
    if data.trouble:
        parts.append(f"▲ {strip_control(data.trouble)}")
    return ("  " if brief else "   ").join(parts)


def _teacher(line: TeacherLine) -> list[Cell | str]:
    now, speed = line.now, line.tokens_per_second
    return [
        Cell(line.name, "plain" if speed is None else "strong"),
        Cell(line.backend, "dim"),
        done_of(line.done, line.wanted, ASSIGNED) if line.wanted else "–",
        Cell(bar(line.done / line.wanted, 7), "accent" if line.done < line.wanted else "dim")
        if line.wanted
        else "",
        Cell(f"⌀{rate(line.mean)}", "dim") if speed is None and line.mean is not None else rate(speed),
        Cell("waits", "warn") if now.note else time_left(now.eta_s if now.done < now.total else None),
        Cell(f"{now.in_flight}/{now.allowed}", "warn" if line.held else "plain") if now.allowed else "–",
        Cell("–", "dim") if line.retries is None else _some(line.retries, "warn"),
        *(_some(line.counts.get(status, 0), "warn") for status in UNUSABLE),
        _some(line.counts.get("error", 0), "bad"),
        f"{line.cost:,.2f}" if line.cost < 1000 else f"{line.cost:,.0f}",
    ]


def _columns(rows: Sequence[Sequence[Cell | str]]) -> tuple[Column, ...]:
    """The columns of the teachers; those in which no row says anything go first where it is narrow."""
    first = next(place for place, column in enumerate(TEACHERS) if column.title == "in flight")
    return tuple(
        replace(column, drop=column.drop + EMPTY_DROP)
        if place >= first and all(text_of(row[place]) in NOTHING for row in rows)
        else column
        for place, column in enumerate(TEACHERS)
    )


def _label(teachers: Iterable[TeacherLine]) -> str:
    """The line between teachers and newest responses, with the limits that are held below what the run file allows."""
    held = (f"── {t.name} held at {t.now.allowed:,} of {t.now.most:,}: {t.held} " for t in teachers if t.held)
    return strip_control(f"newest {''.join(held)}{'─' * 300}")


def _some(number: int, tone: Tone) -> Cell:
    """A count that is coloured where there is something to look at."""
    return Cell(f"{number:,}", tone if number else "dim")


def _newest(line: ResponseLine) -> list[Cell | str]:
    response = line.response
    said = next(filter(str.strip, response.text[:TEXT].splitlines()), "")
    why = QUARANTINED.get(response.status)
    if why is not None:
        said = " · ".join(filter(None, (why, response.error or said)))
    tone: Tone = "plain" if why is None else "bad" if response.status == "error" else "warn"
    return [
        Cell(f"#{response.id}", "dim"),
        line.teacher,
        f"{response.completion_tokens:,}",
        Cell(response.finish_reason, "dim"),
        Cell(said, tone),
    ]
