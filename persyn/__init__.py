"""PerSyn from Python: run a run file, read what is stored, and use the method on arrays of your own.

    import persyn

    run = persyn.load_run("run.yaml")
    result = persyn.run(run, store="persyn.db", on_progress=lambda at: print(at.stage, at.done, at.total))
    with persyn.open_store("persyn.db") as store:
        rows = store.dataset("persyn")            # a datasets.Dataset, ready for any trainer

Importing this package imports no torch and opens no database; `score` and `Router` import torch when they are used.
docs/api.md has an example of each.
"""

from typing import TYPE_CHECKING, Any

from engine.base.errors import PersynError
from engine.config.run_file import Run
from engine.job.progress import Snapshot
from engine.methods.reward import combine
from engine.scorers.kinds.learnability import LogLikelihood
from persyn.runs import RunResult, load_run, run
from persyn.scores import score
from persyn.stored import StoreReader, open_store

if TYPE_CHECKING:
    from engine.router.model import Router

__all__ = [
    "LogLikelihood",
    "PersynError",
    "Router",
    "Run",
    "RunResult",
    "Snapshot",
    "StoreReader",
    "combine",
    "load_run",
    "open_store",
    "run",
    "score",
]


def __getattr__(name: str) -> Any:
    if name == "Router":
        from engine.router.model import Router  # torch takes seconds

        return Router
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
