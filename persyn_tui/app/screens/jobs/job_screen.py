"""What the live screens share: the job they follow, and what starts and stops it."""

import asyncio
from collections.abc import Callable
from typing import ClassVar, TypeVar

from engine.job.progress import from_json
from engine.pipeline import job_commands
from persyn_tui.app import actions
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.screens.jobs.resume import go_on, starts
from persyn_tui.app.state import stopping
from persyn_tui.app.state.followed_job import STOPPABLE
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.message_bar import trouble
from storage import jobs
from storage.errors import PersynError, StoreError
from storage.job_records import Job
from storage.store import Store

T = TypeVar("T")


class JobScreen(BaseScreen[T]):
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
        return "" if self.app.followed.went_on is not None else trouble(self.app.followed.job)

    def idle(self) -> frozenset[str]:
        """Starting what runs or is done; stopping what does not work here, or is stopping already."""
        job = self.app.followed.job
        if job is None:
            return frozenset()
        state = self.app.followed.state_of(job)
        start = (
            []
            if (state not in ("starting", "running", "done") or (state == "done" and self.outdated()))
            and self.app.followed.went_on is None
            else ["start"]
        )
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

    def on_resize(self) -> None:
        """The title says what the new width hides, once it is laid out."""
        super().on_resize()
        self.call_after_refresh(self.paint_title)

    def act(self, action: Callable[[Store, Job], Job | str]) -> None:
        """Does something to the followed job in a thread, and says what came of it."""
        store, job_id = self.app.store, self.app.followed.id
        if store is None or job_id is None:
            self.notify(
                "no job yet: {go.jobs:1} goes to the jobs, {jobs.new:n} makes one there", severity="warning"
            )
            return

        def now(store: Store) -> Job | str:
            job = jobs.get(store, job_id)
            if job is None:
                raise StoreError(f"there is no job {job_id}")
            return action(store, job)

        async def run() -> None:
            try:
                found = await asyncio.to_thread(now, store)
            except PersynError as problem:
                self.notify(actions.with_keys(problem), severity="error", timeout=10, about="job")
                return
            if isinstance(found, Job):
                before = self.app.followed.job
                self.app.followed.started(found)
                found = starts(found, before)
            self.notify(found, about="job")
            self.ask()

        background(self, run, exit_on_error=False)

    def action_start(self) -> None:
        """Starts an engine for the job, or a job that goes on where this one stopped."""
        job = self.app.followed.job
        if job is None:
            self.act(job_commands.resume)
        else:
            go_on(self.app, job, lambda: self.act(job_commands.resume))

    def action_stop(self) -> None:
        """Asks, then leaves a command for the job's engine; a second time, one that lets nothing in flight come."""
        job = self.app.followed.job
        if job is None:
            self.notify("there is no job to stop", severity="warning")
            return
        if job.effective_state not in STOPPABLE:
            self.notify(f"job {job.id} has already ended ({job.effective_state})", severity="warning")
            return
        asked = self.app.followed.stopping if job.effective_state == "running" else None
        if asked is not None and stopping.can_hurry(asked, job):
            again = job_commands.pause if asked.kind == "pause" else job_commands.cancel
            self.app.push_screen(
                Confirm(*stopping.hurry(job), "Stop at once"), lambda yes: self._stop(again) if yes else None
            )
            return
        if asked is not None:
            self.notify(f"job {job.id} is stopping already", severity="warning")
            return
        # A job that waits, or works on what another screen shows, is cancelled as on screen 1.
        verb = self.STOP if self._works else "Cancel"
        snapshot = from_json(job.progress)
        place = f"It is in {job.stage or 'the queue'}"
        place += f", {snapshot.done:,} of {snapshot.total:,} {snapshot.unit}." if snapshot.total else "."
        self.app.push_screen(
            Confirm(f"{verb} job {job.id} ({job.name})?", f"{place} {self.app.keyed(self.kept(job))}", verb),
            lambda yes: (
                self._stop(job_commands.pause if verb == "Pause" else job_commands.cancel) if yes else None
            ),
        )

    def _stop(self, how: Callable[[Store, int], str]) -> None:
        self.app.followed.stay()  # s goes on with it, when another one runs too
        self.act(lambda store, job: how(store, job.id))
