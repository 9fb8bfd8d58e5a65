"""A job that is run once more: what it needs first, where it would else fail the same way, and what is said of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.widgets.confirm import Confirm

if TYPE_CHECKING:
    from storage.job_records import Job

REMEDY = "\n  → "
"""Stands in an error between what is wrong and what to do; an error of unknown cause has none."""


def starts(job: "Job", before: "Job | None" = None) -> str:
    """What is said of a job that was just started; `before` is the one that it goes on from."""
    if job.effective_state == "running":
        return f"job {job.id} ({job.name}) does this already; {{jobs.open:enter}} on screen 1 shows it"
    if before is not None and before.id != job.id:
        return f"job {job.id} ({job.name}) starts in the background, on what job {before.id} stored"
    return f"job {job.id} ({job.name}) starts in the background"


def go_on(app: BaseApp, job: "Job", start: Callable[[], object]) -> None:
    """Starts a job again; asks before, where it failed for a reason that is known to stay until something is done."""
    if job.effective_state != "failed" or REMEDY not in job.error:
        start()
        return

    def answered(yes: bool | None) -> None:
        if yes:
            start()

    what, _, remedy = job.error.partition(REMEDY)
    app.push_screen(
        Confirm(
            f"Run job {job.id} ({job.name}) again as it is?",
            f"First: {remedy.strip()}\n\nIt failed, and fails the same way until that is done: {what.strip()}\n\n"
            + app.keyed("A run file that was mended since is another job: {jobs.new:n} opens it."),
            "Run again",
        ),
        answered,
    )
