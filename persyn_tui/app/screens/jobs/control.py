"""Starting, going on with and stopping a job, from the list of jobs and from the screens that follow one."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeVar

from engine.job.progress import from_json
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.state import stopping
from persyn_tui.app.state.followed_job import STOPPABLE
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.confirm import Confirm
from storage.errors import PersynError
from storage.job_records import Job, Stopping

if TYPE_CHECKING:
    # The first screen stands before the database's library is imported.
    from storage.store import Store

T = TypeVar("T")
REMEDY = "\n  → "
"""Stands in an error between what is wrong and what to do; an error of unknown cause has none."""


class JobControl(BaseScreen[T]):
    """A screen that can start and stop jobs.

    What is done to a job needs the run file's models, which take their time to import: when it is done, and not before.
    """

    def do(self, action: "Callable[[Store], Job | str]", before: Job | None = None) -> None:
        """Does something to a job in a thread, and says what came of it, or what `action` returns.

        A job that it returns was started, perhaps to go on from the one `before`: it is followed.
        """

        async def run() -> None:
            if self.app.store is None:
                return
            try:
                found = await asyncio.to_thread(action, self.app.store)
            except PersynError as problem:
                from persyn_tui.app import actions

                self.app.notify(actions.with_keys(problem), severity="error", timeout=10, about="job")
                return
            if isinstance(found, str):
                self.app.notify(found, about="job")
                self.ask()
            else:
                self.started(found, before)

        background(self, run, exit_on_error=False)

    def started(self, job: Job | None, before: Job | None = None) -> None:
        """Follows a job that was started; `before` is the one that it goes on from."""
        if job is not None:
            self.app.followed.started(job)
            self.app.notify(starts(job, before), about="job")
            self.ask()

    def resume(self, job: Job) -> None:
        """Starts an engine for a job, or a job that goes on where this one stopped; asks where it would fail again."""

        def resumed(store: "Store") -> Job:
            from engine.pipeline import job_commands
            from storage import jobs

            return job_commands.resume(store, jobs.get(store, job.id) or job)

        def start() -> None:
            self.do(resumed, job)

        if job.effective_state != "failed" or REMEDY not in job.error:
            start()
            return
        # It failed for a reason that is known to stay until something is done.
        what, _, remedy = job.error.partition(REMEDY)
        question = Confirm(
            f"Run job {job.id} ({job.name}) again as it is?",
            f"First: {remedy.strip()}\n\nIt failed, and fails the same way until that is done: {what.strip()}\n\n"
            + self.app.keyed("A run file that was mended since is another job: {jobs.new:n} opens it."),
            "Run again",
        )
        self.app.push_screen(question, lambda yes: start() if yes else None)

    def ask_to_stop(
        self, job: Job, asked: Stopping | None, kind: Literal["pause", "cancel"], verb: str, kept: str
    ) -> None:
        """Asks, then leaves a command for the job's engine; a second time, one that lets nothing in flight come.

        `asked` is what it is asked to end with already, `verb` names `kind`, and `kept` says what stopping keeps and
        loses, with keys as `keymap.keyed` takes them.
        """
        if job.effective_state not in STOPPABLE:
            self.app.notify(f"job {job.id} has already ended ({job.effective_state})", severity="warning")
            return
        if asked is not None and job.effective_state == "running" and stopping.can_hurry(asked, job):
            question, label = Confirm(*stopping.hurry(job), "Stop at once"), asked.kind
        else:
            snapshot = from_json(job.progress)
            place = f"is at stage {job.stage}" if job.stage else "has not begun"
            if snapshot.total and job.stage:
                place += f", {snapshot.done:,} of {snapshot.total:,} {snapshot.unit}"
            loss = f"It {place}. {self.app.keyed(kept)}"
            question, label = Confirm(f"{verb} job {job.id} ({job.name})?", loss, f"{verb} the job"), kind
        self.app.push_screen(question, lambda yes: self.stop(job, label) if yes else None)

    def stop(self, job: Job, kind: Literal["pause", "cancel"]) -> None:
        def leave(store: "Store") -> str:
            from engine.pipeline import job_commands

            return (job_commands.pause if kind == "pause" else job_commands.cancel)(store, job.id)

        self.do(leave)


def starts(job: Job, before: Job | None = None) -> str:
    """What is said of a job that was just started; `before` is the one that it goes on from."""
    if job.effective_state == "running":
        return f"job {job.id} ({job.name}) does this already; {{jobs.open:enter}} on screen 1 shows it"
    if before is not None and before.id != job.id:
        return f"job {job.id} ({job.name}) starts in the background, on what job {before.id} stored"
    return f"job {job.id} ({job.name}) starts in the background"
