"""The engine's view of a job, read-only, for the screens that show what is stored of it."""

import threading
import time
from typing import TYPE_CHECKING

from storage.job_records import Job
from storage.store import Store

if TYPE_CHECKING:
    from engine.job.context import RunContext

KEPT = 4
RETRIED_EVERY_S = 1.0
_lock = threading.Lock()
_known: "dict[tuple[str, int], RunContext]" = {}
_missed: dict[tuple[str, int], float] = {}
"""When a job's context was last looked for in vain."""


def of(store: Store, job: Job) -> "RunContext | None":
    """The job's context; None until its models and prompts are stored.

    Kept for the newest few jobs: making one reads and hashes the models' files. Called in a thread.
    """
    from engine.base.errors import ConfigError
    from engine.pipeline.run_view import reader, run_of

    key = store.name, job.id
    with _lock:
        if key not in _known:
            if time.monotonic() - _missed.get(key, -RETRIED_EVERY_S) < RETRIED_EVERY_S:
                return None
            try:
                # A job of an older version may have a key that is no more; its store is still worth a look.
                _known[key] = reader(store, run_of(job))
            except ConfigError:
                _missed[key] = time.monotonic()
                return None
            for old in list(_known)[:-KEPT]:
                del _known[old]
        return _known[key]
