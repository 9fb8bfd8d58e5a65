"""The engine's view of a job, read-only, for the screens that show what is stored of it."""

import threading
import time
from dataclasses import dataclass

from engine.config.run_file import Run
from engine.job.context import RunContext
from engine.pipeline.run_view import reader, run_of
from storage.errors import PersynError
from storage.job_records import Job
from storage.store import Store

KEPT = 4
RETRIED_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class View:
    """What this version of the program knows of a job."""

    run: Run | None
    """None where the job's run is not one that this version can go on with."""
    context: RunContext | None
    """None until its models and prompts are stored."""
    trouble: str = ""
    """Why there is no context."""
    at: float = 0.0


_lock = threading.Lock()
_known: dict[tuple[str, int], View] = {}


def view(store: Store, job: Job) -> View:
    """The job's run and context; what there is none of is looked for again after `RETRIED_EVERY_S`.

    Kept for the newest few jobs: making a context reads and hashes the models' files. Called in a thread.
    """
    key = store.name, job.id
    with _lock:
        kept = _known.get(key)
        if kept is None or (kept.context is None and time.monotonic() - kept.at >= RETRIED_EVERY_S):
            run, context, trouble = None, None, ""
            try:
                # A job of an older version may have a key that is no more; its store is still worth a look.
                run = run_of(job)
                context = reader(store, run)
            except PersynError as problem:
                trouble = str(problem)
            kept = _known[key] = View(run, context, trouble, time.monotonic())
            for old in list(_known)[:-KEPT]:
                del _known[old]
        return kept


def of(store: Store, job: Job) -> RunContext | None:
    """The job's context; None until its models and prompts are stored."""
    return view(store, job).context
