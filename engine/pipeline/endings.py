"""What ends a job, and how: one table.

An error that leaves the pipeline is looked up by its class, then by those that it derives from. Everything that was
committed is kept, whatever ends a job; "paused" says that the same command goes on with it.
"""

import errno
import os
from typing import Final, NamedTuple

from engine.base.errors import BudgetSpent, Cancelled, NeedsAttention, PersynError
from storage.errors import DiskFullError, FencedError, StoreMissingError
from storage.job_records import EventKind, JobState

_NO_SPACE = os.strerror(errno.ENOSPC)
"""Found in an error's text: safetensors and torch wrap the number away."""


class Paused(Cancelled):
    """The operator paused the job."""

    exit_code = 3


class Ending(NamedTuple):
    """How a job ends."""

    state: JobState | None
    """None: this process may write no more of the job, and leaves its state as it is."""
    event: EventKind
    """Kind of the event that tells why."""
    label: str = ""
    """Stands before the error, for programs that read it."""


DONE: Final = Ending("done", "info")

ENDINGS: Final[dict[type[BaseException], Ending]] = {  # exit code: the error's own, 1 where it has none
    Paused:            Ending("paused", "info"),                   # 3    the operator goes on with it later
    Cancelled:         Ending("cancelled", "warning"),             # 130  cancelled, or ctrl+c
    BudgetSpent:       Ending("paused", "error", "budget: "),      # 3    until the budget is raised
    DiskFullError:     Ending("paused", "error", "disk_full: "),   # 3    until there is space
    NeedsAttention:    Ending("needs_attention", "error"),         # 3    an endpoint or a judge cannot be used
    FencedError:       Ending(None, "error"),                      # 3    another process has the job
    StoreMissingError: Ending(None, "error"),                      # 2    the store's file has gone
    PersynError:       Ending("failed", "error"),                  #      run file, model, training, scores
    BaseException:     Ending("failed", "error"),                  # 1    a defect of ours, shown with its trace
}  # fmt: skip


def of(problem: BaseException) -> Ending:
    """How a job ends that meets this."""
    return next(ENDINGS[kind] for kind in type(problem).__mro__ if kind in ENDINGS)


def known(problem: BaseException, *, pausing: bool) -> BaseException:
    """The problem as one of our errors, with its remedy, where it is one in other clothes.

    Args:
        problem: what left the pipeline.
        pausing: whether the operator who stopped the job means to go on.
    """
    if isinstance(problem, KeyboardInterrupt):  # the second ctrl+c
        return Cancelled(
            "stopped at once; everything committed is kept", "run the same command again to go on"
        )
    if isinstance(problem, Cancelled) and pausing:
        return Paused("paused; everything committed is kept, and the same command goes on with this job")
    ours = isinstance(problem, PersynError) or not isinstance(problem, Exception)
    if not ours and _NO_SPACE in str(problem):
        return DiskFullError(f"{problem}", "free some space and run the same command again")
    return problem


def code(problem: BaseException) -> int:
    """The exit code of a process whose job meets this."""
    return problem.exit_code if isinstance(problem, PersynError) else 1
