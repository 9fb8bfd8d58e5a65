"""Running a run file from Python. The engine works in a process of its own, as everywhere: it gives its memory back
when it ends, and a notebook that is restarted does not stop it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.base.errors import ConfigError
from engine.config.run_file import Run
from engine.job.progress import Snapshot, from_json
from engine.job.stage_names import STAGES
from engine.pipeline import launch, run_view
from engine.registry import run_files
from engine.report import summary
from storage import jobs
from storage.job_records import Job
from storage.store import Store

POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    job_id: int
    state: str
    """`done`, `paused`, `cancelled`, `needs_attention`, `failed` or `interrupted` (its process was killed)."""
    error: str
    """Why it is not done, with the remedy; empty when it is."""
    report: Mapping[str, Any]
    """What `persyn run --json` prints: strategies, router, cost. Empty unless the run is done through all stages."""


def load_run(path: str | Path, store: str | Path | None = None) -> Run:
    """The run that a YAML file describes, validated; relative paths are resolved against the file's folder.

    Args:
        path: of the run file.
        store: where models are looked up that the file gives as a bare name; None: the usual store.

    Raises:
        ConfigError: the file is missing or wrong; every problem is named with its line.
    """
    return run_files.load(path, None if store is None else str(store))


def run(
    run: Run,
    store: str | Path | None = None,
    *,
    until: str | None = None,
    on_progress: Callable[[Snapshot], None] | None = None,
) -> RunResult:
    """How the run ended, after it has gone through its stages. What is stored already is not done again.

    A keyboard interrupt leaves the job at work in the background; calling this again follows it.

    Args:
        run: from `load_run`.
        store: path or URL of the store, made where there is none; None: `PERSYN_STORE` or the platform's data folder.
        until: the last stage to run, such as "score"; None: all.
        on_progress: called with where the stage stands, each time that has changed; at most 4 times a second.

    Raises:
        ConfigError: something in the run cannot work; nothing was started.
        StoreError: the store cannot be used.
    """
    if until is not None and until not in STAGES:
        raise ConfigError(f"there is no stage `{until}`", f"use one of {', '.join(STAGES)}")
    with Store.open(store) as opened:
        job, _ = launch.submit(opened, run, until=until)
        works: Callable[[Job], bool] = jobs.alive
        if not jobs.alive(job):
            pid = launch.detach(opened, job)
            works = lambda _: psutil.pid_exists(pid)  # noqa: E731
        ended = _follow(opened, job.id, works, on_progress)
        if ended.effective_state == "queued":
            raise ConfigError(
                f"the engine of job {job.id} could not start", f"see {jobs.log_path(opened, job.id)}"
            )
        report: Mapping[str, Any] = {}
        if ended.state == "done" and until in (None, STAGES[-1]):
            seconds = (ended.finished_at or 0.0) - (ended.started_at or 0.0)
            report = summary.as_json(summary.build(run_view.reader(opened, run), seconds))
        return RunResult(ended.id, ended.effective_state, ended.error, report)


def _follow(
    store: Store, job_id: int, works: Callable[[Job], bool], on_progress: Callable[[Snapshot], None] | None
) -> Job:
    """The job once no process works on it any more."""
    shown: Mapping[str, Any] = {}
    while True:
        job = jobs.get(store, job_id)
        assert job is not None  # jobs are never deleted
        at_work = works(job)
        if on_progress is not None and job.progress.get("stage") and job.progress != shown:
            shown = job.progress
            on_progress(from_json(shown))
        if not at_work:
            return job if (last := jobs.get(store, job_id)) is None else last
        time.sleep(POLL_S)
