"""`persyn jobs`, `watch`, `cancel` and `concurrency`: what runs, what ran, how to stop it or to slow it down."""

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from engine.base.errors import ConfigError
from engine.job.progress import from_json
from engine.pipeline import display, job_commands
from engine.pipeline.display import time_left
from persyn_tui.commands.output import JsonOption, StoreOption, emit, say, table, tell
from storage import jobs
from storage.job_records import Job
from storage.store import Store

JobArgument = Annotated[
    int, typer.Argument(help="Job number, as `persyn jobs` lists it.", show_default=False)
]
POLL_S = 0.25


class Change(StrEnum):
    """Which way the concurrency goes."""

    more = "more"
    less = "less"


EXIT_CODES = {"done": 0, "failed": 3, "needs_attention": 3, "paused": 3, "interrupted": 3, "cancelled": 130}


def list_jobs(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List jobs, newest first: state, stage, progress, rate, ETA."""
    opened = Store.open(store, create=False)
    found = jobs.recent(opened)
    went_on = jobs.went_on(found)

    def show() -> None:
        rows: list[tuple[object, ...]] = []
        for job in found:
            progress = job.progress
            done, total = progress.get("done", 0), progress.get("total", 0)
            rate = progress.get("rate")
            rows.append(
                (
                    job.id,
                    job.name,
                    job.effective_state + (f" → {went_on[job.id]}" if job.id in went_on else ""),
                    job.stage or "–",
                    f"{done:,}/{total:,}" if total else "–",
                    f"{rate:,.1f}/s" if rate and job.effective_state == "running" else "–",
                    time_left(progress.get("eta_s"), rough=progress.get("rough", False))
                    if job.effective_state == "running"
                    else "–",
                    time.strftime("%m-%d %H:%M", time.localtime(job.created_at)),
                    (job.error.splitlines() or [""])[0],
                )
            )
        columns: tuple[str, ...] = ("job", "name", "state", "stage", "progress", "rate", "ETA", "created")
        if any(row[-1] for row in rows):
            columns += ("error",)
        rows = [row[: len(columns)] for row in rows]
        nothing = "no jobs yet; start one with `persyn run FILE.yaml` or `persyn demo`"
        table(columns, rows, right=("job", "progress", "rate", "ETA"), empty=nothing)

    emit([{**_as_json(opened, job), "went_on_as": went_on.get(job.id)} for job in found], as_json, show)


def watch(job: JobArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Follow a job until it ends; leaving (ctrl+c) does not touch the job. Exit code as the job's own."""
    opened = Store.open(store, create=False)
    screen = display.choose(quiet=as_json)
    last_event = 0
    try:
        while True:
            found = _find(opened, job)
            for event in jobs.events(opened, job, after_id=last_event, limit=500):
                screen.say(event.kind, event.message)
                last_event = event.id
            if found.progress.get("stage") and found.effective_state == "running":
                screen.show(from_json(found.progress))
            if found.effective_state not in ("queued", "running"):
                break
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        screen.close()
        say(f"left job {job}; it goes on. `persyn cancel {job}` stops it")
        raise typer.Exit(0) from None
    finally:
        screen.close()
    emit(_as_json(opened, found), as_json, lambda: tell(f"job {found.id}: {found.effective_state}"))
    raise typer.Exit(EXIT_CODES.get(found.effective_state, 1))


def cancel(job: JobArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Ask a job to stop at its next batch; everything committed is kept and the same run resumes.

    Responses in flight at endpoints are waited for, 5 s at most. Asked a second time, it stops at once.
    """
    opened = Store.open(store, create=False)
    _find(opened, job)
    message = job_commands.cancel(opened, job)
    emit({"job": job, "message": message}, as_json, lambda: tell(message))


def concurrency(
    job: JobArgument,
    teacher: Annotated[
        str, typer.Argument(help="Name of a teacher that the job asks now.", show_default=False)
    ],
    change: Annotated[
        Change, typer.Argument(help="Twice as many requests in flight, or half as many.", show_default=False)
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask more or less of a teacher's endpoint at a time, while a job runs.

    What is lowered stays so until it is raised again or the job ends.
    """
    opened = Store.open(store, create=False)
    _find(opened, job)
    message = job_commands.pace(opened, job, teacher, more=change is Change.more)
    emit({"job": job, "teacher": teacher, "message": message}, as_json, lambda: tell(message))


def _find(opened: Store, number: int) -> Job:
    found = jobs.get(opened, number)
    if found is None:
        raise ConfigError(f"there is no job {number} in {opened.name}", "list the jobs with `persyn jobs`")
    return found


def _as_json(opened: Store, job: Job) -> dict[str, Any]:
    log = jobs.log_path(opened, job.id)
    return {
        "id": job.id,
        "name": job.name,
        "state": job.effective_state,
        "stage": job.stage,
        "progress": dict(job.progress),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "pid": job.pid,
        "host": job.host,
        "error": job.error,
        "log": str(log) if log.exists() else "",
    }
