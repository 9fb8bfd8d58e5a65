"""Screen 1: every job with its progress; the history of the one under the cursor."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget

from engine.job.control import CANCEL_S
from engine.job.progress import Snapshot, from_json
from engine.pipeline.display import doing, time_left
from persyn_tui.app.base.formatting import bar, done_of, one_line, rate
from persyn_tui.app.screens.filtered import FilteredScreen, FilterLine, passes
from persyn_tui.app.screens.jobs.control import JobControl
from persyn_tui.app.state import stopping
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.state.followed_job import GLYPHS, LIVE, STOPPABLE
from persyn_tui.app.widgets.message_bar import MessageBar
from persyn_tui.app.widgets.virtual_table import Cell, Column, Tone, VirtualTable
from storage.job_records import Event, EventKind, Job, Stopping

if TYPE_CHECKING:
    # The first screen stands before the database's library is imported.
    from storage.store import Store

PROGRESS = 17
"""Cells of it."""
COLUMNS = (
    Column("job", 5, right=True),
    Column("name"),
    Column("state", 17),
    Column("stage", 13, drop=1),
    Column("progress", PROGRESS, right=True),
    Column("", 10, drop=4),
    Column("rate", 9, right=True, drop=3),
    Column("tok/s", 7, right=True, drop=5),
    Column("ETA", 7, right=True, drop=2),
    Column("started", 12, drop=6),
    Column("α", 4, right=True, drop=7),
)
HISTORY = 200
"""Newest events shown of a job."""
STATE_TONES: dict[str, Tone] = {
    "running": "accent",
    "done": "good",
    "failed": "bad",
    "needs_attention": "warn",
    "interrupted": "warn",
    "paused": "warn",
    "cancelled": "dim",
    "queued": "dim",
}
EVENT_TONES: dict[EventKind, Tone] = {"error": "bad", "warning": "warn"}
"""Kind of an event → its tone; `info` is plain."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """What the screen shows."""

    jobs: list[Job] = field(compare=False)
    shown: tuple[object, ...]
    """What of `jobs` is shown: a record's own clock changes with every read."""
    chosen: int | None
    events: list[Event]
    stopping: dict[int, Stopping]
    """Job → what it is asked to end with."""
    total: int
    """How many there are, whatever the filter."""
    active: int
    """How many of all have work to do."""
    went_on: "dict[int, int]"
    """Job that stopped → the one that its run went on as."""
    starting: int | None
    """The job whose engine was started here and has not claimed it."""


class JobsScreen(FilteredScreen[Jobs], JobControl[Jobs]):
    """Jobs, newest first."""

    NUMBER, NAME, LIST = 1, "Jobs", "#jobs"
    EMPTY = (
        "No jobs yet.\n\n"
        "{jobs.new:n}   make one: choose teachers, a student, prompts; or open a run file\n"
        "{jobs.demo:d}   run the demo on the small models that come along (two minutes)"
    )
    NEEDS_ROWS = frozenset({"open", "cancel", "resume", "filter"})
    WRITES = frozenset({"new", "demo", "cancel", "resume"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="jobs.new"),
        Binding("d", "demo", "Demo", id="jobs.demo", show=False),
        Binding("enter", "open", "Open", id="jobs.open", show=False),
        Binding("x", "cancel", "Cancel", id="jobs.cancel"),
        Binding("r", "resume", "Resume", id="jobs.resume"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._chosen: int | None = None

    def body(self) -> Iterable[Widget]:
        yield FilterLine("failed distill")
        yield VirtualTable(COLUMNS, id="jobs")
        with Vertical(id="history"):
            yield MessageBar(id="where")
            yield VirtualTable((Column("time", 8), Column("what happened")), id="events", newest_first=True)

    def question(self) -> Any:
        """The job under the cursor, the filter, and what starts: the store does not know of that."""
        return self._chosen, super().question(), self.app.followed.starting

    def read(self, store: "Store", question: Any) -> Jobs | None:
        from storage import jobs

        wanted, words, starting = question
        everything = jobs.recent(store, limit=500)
        if not everything:
            return None
        found = [job for job in everything if passes(_line(job), words)]
        ids = [job.id for job in found]
        chosen = wanted if wanted in ids else next(iter(ids), None)
        events = [] if chosen is None else jobs.newest_events(store, chosen, HISTORY)
        active = sum(job.effective_state in LIVE for job in everything)
        shown = tuple((job.id, job.effective_state, job.stage, job.progress, job.error) for job in found)
        return Jobs(
            jobs=found,
            shown=shown,
            chosen=chosen,
            events=events,
            stopping=jobs.stopping(store),
            total=len(everything),
            active=active,
            went_on=jobs.went_on(everything),
            starting=starting,
        )

    def show(self, data: Jobs) -> None:
        sheet, followed = self.query_one("#jobs", VirtualTable), self.app.followed
        sheet.fill([(job.id, _cells(job, followed.state_of(job), data)) for job in data.jobs])
        started = followed.newly_started
        if started is not None and any(job.id == started for job in data.jobs):
            sheet.go_to(started)
            followed.newly_started = None
        chosen = next((job for job in data.jobs if job.id == data.chosen), None)
        none = self.app.keyed("no job passes; {view.back:esc} clears the filter")
        where = none if chosen is None else _where(chosen, self.app, data)
        self.query_one("#where", MessageBar).tell(where)
        self.query_one("#events", VirtualTable).fill([(e.id, _event(e)) for e in reversed(data.events)])

    def about(self) -> str:
        if self.data is None:
            return ""
        running = self.data.active
        many, total = len(self.data.jobs), self.data.total
        part = f"{many} of " if many < total else ""
        return f"{part}{total} job{'' if total == 1 else 's'} · {running} active"

    def idle(self) -> frozenset[str]:
        """`d` where there are jobs; `x` on a job that has ended; `r` on one that runs or is done."""
        job = self.chosen
        if self.data is None or job is None:
            return frozenset() if self.data is None else frozenset({"demo", "cancel", "resume", "open"})
        state = self.app.followed.state_of(job)
        idle = {"demo"}
        if state not in (*STOPPABLE, "starting"):
            idle.add("cancel")
        if state in ("starting", "running", "done") or job.id in self.data.went_on:
            idle.add("resume")
        return frozenset(idle)

    def text_to_copy(self) -> str:
        job = self.chosen
        return "" if job is None else (job.error or f"persyn watch {job.id}")

    @property
    def chosen(self) -> Job | None:
        return self.under_cursor("#jobs", self.data.jobs if self.data else (), lambda job: job.id)

    @on(VirtualTable.Highlighted, "#jobs")
    def _look(self, event: VirtualTable.Highlighted) -> None:
        self._chosen = cast("int | None", event.key)
        self.paint_title()
        self.ask()

    @on(VirtualTable.Chosen, "#jobs")
    def action_open(self) -> None:
        job = self.chosen
        if job is not None:
            self.app.followed.choose(job)
            self.app.switch_mode(MODE_OF_STAGE.get(job.stage, "generation"))

    def action_new(self) -> None:
        from persyn_tui.app.screens.wizard.screen import Wizard

        self.app.push_screen(Wizard(), self.started)

    def action_demo(self) -> None:
        self.do(_demo)

    def action_resume(self) -> None:
        if (job := self.chosen) is not None:
            self.resume(job)

    def started(self, job: Job | None, before: Job | None = None) -> None:
        """Follows a job that was started; the cursor goes there once it is listed."""
        if job is not None:
            self._chosen = job.id
        super().started(job, before)

    def action_cancel(self) -> None:
        if (job := self.chosen) is not None:
            asked = None if self.data is None else self.data.stopping.get(job.id)
            self.ask_to_stop(job, asked, "cancel", "Cancel", _kept(job))


def _demo(store: "Store") -> Job:
    # The run file's models take their time to import: in the thread, and not before the first screen stands.
    from persyn_tui.app import actions

    return actions.demo(store)


MODE_OF_STAGE = {
    "score": "router",
    "train_router": "router",
    "route": "router",
    "calibrate": "generation",
    "generate": "generation",
    "build_dataset": "data",
    "distill": "distil",
    "evaluate": "distil",
}


def _cells(job: Job, state: str, data: Jobs) -> list[Cell | str]:
    snapshot = from_json(job.progress)
    live = state == "running"
    shown = Cell(f"{GLYPHS.get(state, '·')} {state.replace('_', ' ')}", STATE_TONES.get(state, "plain"))
    if live and job.id in data.stopping:
        shown = Cell(stopping.name(data.stopping[job.id]), "warn")
    if job.id in data.went_on and state != "starting":
        shown = Cell(f"→ job {data.went_on[job.id]}", "dim")
    return [
        str(job.id),
        job.name,
        shown,
        job.stage or "–",
        done_of(snapshot.done, snapshot.total, PROGRESS) if snapshot.total else "–",
        Cell(bar(snapshot.done / snapshot.total, 10) if snapshot.total else "", "accent" if live else "dim"),
        f"{rate(snapshot.rate)}/s" if live and snapshot.rate else "–",
        rate(snapshot.tokens_per_second) if live else "–",
        time_left(snapshot.eta_s, rough=snapshot.rough) if live else "–",
        time.strftime("%d %b %H:%M", time.localtime(job.started_at or job.created_at)),
        _alpha(job),
    ]


def _kept(job: Job) -> str:
    """What a cancel keeps and loses, with keys as `keymap.keyed` takes them."""
    kept = "Everything committed is kept; {jobs.resume:r} goes on from there, as another job."
    if job.effective_state != "running" or not job.stage:
        return kept
    if count := stopping.in_flight(job):
        return (
            f"{kept} {stopping.responses(count)} at endpoints {'is' if count == 1 else 'are'} waited for, "
            f"{CANCEL_S:.0f} s at most; what comes later is lost, and may be billed."
        )
    if job.stage == "distill":
        return f"{kept} A training stops at a checkpoint."
    return f"{kept} Lost is at most the batch in work."


def _alpha(job: Job) -> str:
    """α of its rewards, by which jobs of one name often differ."""
    found = dict(job.spec.get("reward") or {}).get("alpha")
    return f"{found:g}" if isinstance(found, int | float) else "–"


def _line(job: Job) -> str:
    """What the filter looks at."""
    return f"{job.id} {job.name} {job.effective_state} {job.stage} {job.error}"


def _where(job: Job, app: BaseApp, data: Jobs) -> str:
    state = app.followed.state_of(job)
    snapshot: Snapshot = from_json(job.progress)
    which = f"── job {job.id} · " + ("" if (alpha := _alpha(job)) == "–" else f"α {alpha} · ")
    if job.id in data.went_on and state != "starting":
        error = f": {job.error.strip()}" if job.error else ""
        return f"{which}{state.replace('_', ' ')}, went on as job {data.went_on[job.id]}{error}"
    if job.error:
        return f"{which}{job.error.strip()}"
    asked = data.stopping
    if state == "running" and job.id in asked:
        ends = (
            app.keyed("which are waited for; {jobs.cancel:x} stops at once")
            if stopping.can_hurry(asked[job.id], job)
            else "stops when the current batch ends"
        )
        return f"{which}{stopping.line(asked[job.id], job)}; {ends}"
    if state == "running" and (snapshot.total or snapshot.doing):
        counted = f": {snapshot.done:,} of {snapshot.total:,} {snapshot.unit}" if snapshot.total else ""
        left = doing(snapshot) or f"ETA {time_left(snapshot.eta_s, rough=snapshot.rough)}"
        return f"{which}{job.stage}{counted}, {left}"
    if state == "interrupted":
        return which + app.keyed("its engine is gone; {jobs.resume:r} goes on from what is stored")
    return f"{which}{state}"


def _event(event: Event) -> list[Cell | str]:
    return [
        Cell(time.strftime("%H:%M:%S", time.localtime(event.at)), "dim"),
        Cell(one_line(event.message), EVENT_TONES.get(event.kind, "plain")),
    ]
