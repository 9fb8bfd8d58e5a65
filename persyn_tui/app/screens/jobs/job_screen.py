"""What the live screens share: the job they follow, and what starts and stops it."""

from collections.abc import Callable
from typing import ClassVar, Literal, TypeVar

from persyn_tui.app.screens.jobs.control import JobControl
from persyn_tui.app.state import stopping
from storage import jobs
from storage.errors import StoreError
from storage.job_records import Job
from storage.store import Store

T = TypeVar("T")
TROUBLED = ("failed", "needs_attention", "paused")
"""States in which a job's error says what to do."""
NO_JOB = "no job yet: {go.jobs:1} goes to the jobs, {jobs.new:n} makes one there"


class JobScreen(JobControl[T]):
    """A screen that follows the app's job."""

    STAGES: ClassVar[tuple[str, ...]] = ()
    """Those whose work the screen shows: in them `x` stops that work, in others it would stop another's."""
    STOP: ClassVar[str]
    """The verb of `x`, for its question."""
    KEPT: ClassVar[str]
    """What stopping keeps and loses, with keys as `keymap.keyed` takes them."""

    def kept(self, job: Job) -> str:
        """What stopping this job keeps and loses."""
        return self.KEPT

    def trouble(self) -> str:
        """Why the job stopped, where it is not another that goes on."""
        job = self.app.followed.job
        if (
            job is None
            or self.app.followed.went_on is not None
            or job.effective_state not in TROUBLED
            or not job.error
        ):
            return ""
        return f"✗ job {job.id} {job.effective_state.replace('_', ' ')}: {job.error.strip()}"

    def idle(self) -> frozenset[str]:
        """Starting what runs or is done; stopping what does not work here, or is stopping already."""
        job = self.app.followed.job
        if job is None:
            return frozenset()
        state = self.app.followed.state_of(job)
        busy = state in ("starting", "running") or (state == "done" and not self.outdated())
        start = ["start"] if busy or self.app.followed.went_on is not None else []
        asked = self.app.followed.stopping
        stops = self._works and (asked is None or stopping.can_hurry(asked, job))
        return frozenset(start + ([] if stops else ["stop"]))

    @property
    def _works(self) -> bool:
        """Whether an engine is at one of this screen's stages of the job."""
        job = self.app.followed.job
        return job is not None and job.effective_state == "running" and job.stage in self.STAGES

    def outdated(self) -> bool:
        """Whether a job that is done has something to make anew."""
        return False

    def act(self, action: Callable[[Store, Job], Job | str]) -> None:
        """Does something to the followed job in a thread, and says what came of it."""
        job_id = self.app.followed.id
        if job_id is None:
            self.app.notify(NO_JOB, severity="warning")
            return

        def now(store: Store) -> Job | str:
            job = jobs.get(store, job_id)
            if job is None:
                raise StoreError(f"there is no job {job_id}")
            return action(store, job)

        self.do(now, self.app.followed.job)

    def action_start(self) -> None:
        """Starts an engine for the job, or a job that goes on where this one stopped."""
        job = self.app.followed.job
        if job is None:
            self.app.notify(NO_JOB, severity="warning")
        else:
            self.resume(job)

    def action_stop(self) -> None:
        """Asks, then stops the job as this screen does."""
        job = self.app.followed.job
        if job is None:
            self.app.notify("there is no job to stop", severity="warning")
            return
        asked = self.app.followed.stopping if job.effective_state == "running" else None
        if asked is not None and not stopping.can_hurry(asked, job):
            self.app.notify(f"job {job.id} is stopping already", severity="warning")
            return
        # A job that waits, or works on what another screen shows, is cancelled as on screen 1.
        verb = self.STOP if self._works else "Cancel"
        self.ask_to_stop(job, asked, "pause" if verb == "Pause" else "cancel", verb, self.kept(job))

    def stop(self, job: Job, kind: Literal["pause", "cancel"]) -> None:
        """Leaves the command; `s` goes on with this job, when another one runs too."""
        self.app.followed.stay()
        super().stop(job, kind)
