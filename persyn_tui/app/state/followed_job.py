"""The job that the live screens show: which one, and what is known of it beyond what the store says."""

import asyncio
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from persyn_tui.app.state import stopping
from storage.job_records import Job, Stopping

if TYPE_CHECKING:
    # The database's library takes longer to import than everything else: it comes after the first paint.
    from storage.store import Store

LIVE = ("queued", "running")
STOPPABLE = (*LIVE, "interrupted", "paused")
"""States of a job that can be stopped: an engine works on it, or it is kept to go on."""
Choice = Literal["none", "live", "ended"]
"""Whether the operator has chosen the followed job, and whether it was live then."""
STARTING_S = 30.0
"""So long an engine that was started here may take to claim its job."""
LOOKED_AT = 20
"""Jobs that are looked through for one to follow, the newest."""
GLYPHS = {
    "queued": "○",
    "starting": "○",
    "running": "●",
    "paused": "‖",
    "done": "✓",
    "failed": "✗",
    "cancelled": "■",
    "needs_attention": "▲",
    "interrupted": "▲",
}
"""State → glyph; a state is never told by colour alone."""


class Picked(NamedTuple):
    """What the store says of the job to follow."""

    job: Job | None
    chosen: Choice
    others: tuple[int, ...]
    stopping: Stopping | None
    went_on: int | None
    """The job that its run went on as."""


class Followed:
    """The followed job."""

    def __init__(self) -> None:
        self.id: int | None = None
        """None until there is one."""
        self.job: Job | None = None
        """As it was read last."""
        self.stopping: Stopping | None = None
        """What it is asked to end with; None when it is not."""
        self.others: tuple[int, ...] = ()
        """Other jobs that run while it does not."""
        self.went_on: int | None = None
        """The job that its run went on as, after it had stopped."""
        self.newly_started: int | None = None
        """The job that an engine was started for here last, until the list of jobs has gone to it."""
        self._chosen: Choice = "none"
        self._started: tuple[int, int, float] | None = None
        """The job that an engine was started for here last, how often it had been claimed then, and when."""

    async def read(self, store: "Store") -> None:
        """Reads which job to follow, and what is known of it. What the operator chooses meanwhile stands."""
        before = self.id, self._chosen
        found = await asyncio.to_thread(_pick, store, *before)
        if before == (self.id, self._chosen):
            self.job, self._chosen, self.others, self.stopping, self.went_on = found
            self.id = None if found.job is None else found.job.id

    def choose(self, job: Job) -> None:
        """The live screens show this job from now on, their titles too; a live one until another runs after it."""
        self.job, self.id = job, job.id
        self._chosen = "live" if job.effective_state in LIVE else "ended"
        self.stopping, self.others, self.went_on = None, (), None

    def started(self, job: Job) -> None:
        """An engine was started for this job: the screens follow it, and say that it starts until it has claimed it."""
        self._started = job.id, job.epoch, time.monotonic()
        self.newly_started = job.id
        self.choose(job)

    def stay(self) -> None:
        """The live screens go on showing this job, whatever else runs."""
        self._chosen = "ended"

    def state_of(self, job: Job) -> str:
        """A job's state; `starting` where its engine was started here just now."""
        state = job.effective_state
        if self._started is None or self._started[0] != job.id:
            return state
        _, epoch, at = self._started
        if state == "running" or job.epoch != epoch or state not in STOPPABLE:
            self._started = None  # an engine has claimed it: from here on it is as it says
            return state
        return "starting" if time.monotonic() - at < STARTING_S else state

    @property
    def starting(self) -> int | None:
        """The job whose engine was started here and has not claimed it, as far as is known."""
        if self._started is None or time.monotonic() - self._started[2] > STARTING_S:
            return None
        return self._started[0]

    @property
    def active(self) -> bool:
        """Whether it still has work to do."""
        return self.job is not None and self.job.effective_state in LIVE

    @property
    def line(self) -> str:
        """`job 12 · ● generate`, for title lines."""
        if self.job is None:
            return ""
        state = self.state_of(self.job)
        if self.stopping is not None and state == "running":
            return f"job {self.job.id} · {stopping.line(self.stopping, self.job)}"
        what = self.job.stage if state == "running" and self.job.stage else state
        runs = f" (job {self.others[0]} is running)" if self.others else ""
        runs = f", went on as job {self.went_on}" if self.went_on is not None else runs
        return f"job {self.job.id} · {GLYPHS.get(state, '·')} {what.replace('_', ' ')}{runs}"


def _pick(store: "Store", followed: int | None, chosen: Choice) -> Picked:
    """The job that was chosen: a live one until it has ended and another runs, an ended one until the operator chooses
    again or the same run goes on as another job, wherever that was started. Else the newest that runs, else the
    newest that waits, else the newest.
    """
    from storage import jobs

    newest = jobs.recent(store, limit=LOOKED_AT)
    running = [job for job in newest if job.effective_state == "running"]
    job = None if followed is None else jobs.get(store, followed)
    over = job is None or job.effective_state not in LIVE
    if job is not None and over and (again := _goes_on_as(job, newest)):
        job, chosen, over = again, "live", False
    if chosen == "none" or (chosen == "live" and over and running):
        waiting = [job for job in newest if job.effective_state in LIVE]
        job, chosen = next(iter(running or waiting or newest), None), "none"
    live = job is not None and job.effective_state == "running"
    others = () if live else tuple(one.id for one in running if job is None or one.id != job.id)
    asked = jobs.stopping(store).get(job.id) if live and job is not None else None
    went_on = None if job is None else jobs.went_on([job, *newest]).get(job.id)
    return Picked(job, chosen, others, asked, went_on)


def _goes_on_as(job: Job, newest: list[Job]) -> Job | None:
    """The live job of the same run that came after this one; None where there is none."""
    later = (one for one in newest if one.id > job.id and one.spec_sha == job.spec_sha)
    return next((one for one in later if one.effective_state in LIVE), None)
