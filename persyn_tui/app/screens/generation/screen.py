"""Screen 4: what each teacher has given, how fast, at what price; the newest responses as they come."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar, cast

from rich.cells import cell_len
from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from engine.job.control import PAUSE_S
from engine.pipeline import job_commands
from persyn_tui.app.screens.data.responses_panel import ResponsesPanel
from persyn_tui.app.screens.generation import formatting, query
from persyn_tui.app.screens.generation.query import STAGES, Generated, TeacherLine
from persyn_tui.app.screens.jobs.job_screen import JobScreen
from persyn_tui.app.state import stopping
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.one_line import OneLine
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage.job_records import Job
from storage.store import Store


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
    GenerationScreen.responses #teachers, GenerationScreen.responses #label { display: none; }
    GenerationScreen.responses #responses { display: block; }
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
        self._new = 0
        """Responses that came while the screen was frozen."""

    def body(self) -> Iterable[Widget]:
        yield OneLine(id="sums")
        yield VirtualTable(formatting.TEACHERS, id="teachers")
        yield Static(formatting.label(()), id="label", markup=False)
        yield VirtualTable(formatting.NEWEST, id="newest")
        yield ResponsesPanel(id="responses")

    def read(self, store: Store, question: Any) -> Generated | None:
        return query.read(store, question, self.cache)

    def show(self, data: Generated) -> None:
        self._new = 0
        sums = formatting.sums_line(data)
        if cell_len(sums) > self.app.size.width - 2:
            sums = formatting.sums_line(data, brief=True)
        self.query_one("#sums", OneLine).update(sums)
        teachers = self.query_one("#teachers", VirtualTable)
        teachers.styles.height = len(data.teachers) + 1
        rows = [(line.name, formatting.teacher_cells(line)) for line in data.teachers]
        teachers.fill(rows, formatting.teacher_columns([cells for _, cells in rows]))
        self.query_one("#label", Static).update(formatting.label(data.teachers))
        newest = self.query_one("#newest", VirtualTable)
        at_top = newest.place == 0
        newest.fill([(line.response.id, formatting.newest_cells(line)) for line in data.newest])
        if at_top:  # who has not moved the cursor sees the newest; who has stays on that row
            newest.action_top()

    async def follow(self, *, changed: bool) -> None:
        """Reads and shows; while frozen, only counts what comes."""
        await super().follow(changed=changed)
        store, shown = self.app.store, self.data
        if self.frozen and changed and store is not None and shown is not None:
            found = await asyncio.to_thread(self.read, store, shown.job_id)
            self._new = max(0, found.done - shown.done) if found is not None else 0
            self.paint_title()

    def about(self) -> str:
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
        """Why the job stopped, or why teachers give no responses."""
        teachers = () if self.data is None else self.data.teachers
        waits = [f"▲ {teacher.name}: {teacher.now.note}" for teacher in teachers if teacher.now.note]
        return "\n".join(waits) or super().trouble()

    @property
    def chosen(self) -> TeacherLine | None:
        return self.under_cursor("#teachers", self.data.teachers if self.data else (), lambda line: line.name)

    @on(VirtualTable.Highlighted, "#teachers")
    def _moved(self) -> None:
        self.paint_title()  # the keys that are offered depend on the teacher

    def text_to_copy(self) -> str:
        if self.data is None:
            return ""
        newest = self.query_one("#newest", VirtualTable)
        if self.has_class("responses"):
            return self.query_one(ResponsesPanel).text
        if newest.has_focus:
            return next(
                (line.response.text for line in self.data.newest if line.response.id == newest.key), ""
            )
        return "\n".join(
            [formatting.sums_line(self.data), *(f"{t.name}\t{t.done}/{t.wanted}" for t in self.data.teachers)]
        )

    @on(VirtualTable.Chosen, "#newest")
    def _open(self, event: VirtualTable.Chosen) -> None:
        background(self, partial(self._look, cast(int, event.key)), group="look", exclusive=True)

    async def _look(self, response_id: int) -> None:
        if self.app.store is None:
            return
        panel = self.query_one(ResponsesPanel)
        if not await panel.read(self.app.store, response_id):
            self.app.notify(f"response #{response_id} is not there", severity="warning")
            return
        self.add_class("responses")
        panel.focus()

    @on(ResponsesPanel.Row)
    def _next(self, event: ResponsesPanel.Row) -> None:
        newest = self.query_one("#newest", VirtualTable)
        newest.action_move(event.by)
        newest.action_choose()

    def action_close(self) -> None:
        if self.has_class("responses"):
            self.remove_class("responses")
            self.query_one("#newest", VirtualTable).focus()

    def action_pace(self, more: bool) -> None:
        """Asks for twice or half as many requests to the teacher under the cursor in flight."""
        if (chosen := self.chosen) is not None:
            self.act(lambda store, job: job_commands.pace(store, job.id, chosen.name, more=more))

    def action_retry(self) -> None:
        """Asks for failed responses again, where that can still change the run's data."""
        self.act(job_commands.retry_failed)
