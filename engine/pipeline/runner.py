"""One engine process working on one job: claim, heartbeat, run the pipeline, end in a typed state."""

import errno
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from types import FrameType

from engine.base.errors import BudgetSpent, Cancelled, ConfigError, NeedsAttention, PersynError
from engine.job.context import RunContext
from engine.job.control import JobControl
from engine.job.progress import Progress, Snapshot, from_json
from engine.job.server_pool import ServerPool
from engine.pipeline import pipeline
from engine.pipeline.display import Display
from engine.pipeline.run_view import run_of
from engine.registry import models
from engine.teachers.vllm_server import orphans
from storage import jobs
from storage import registry as stored_models
from storage.errors import DiskFullError, FencedError, StoreError, StoreMissingError
from storage.job_records import EventKind, Job, JobState, Lease
from storage.store import Store

LEASE_S = 30.0
HEARTBEAT_S = 2.0
PAUSED = 3
"""Exit code of a job that an operator pauses: there is work undone, and the same command does it."""
LOOK_S = 0.25
"""Between two looks for commands once a stop is asked for: another one ends the waiting for answers."""
_NO_SPACE = os.strerror(errno.ENOSPC)
"""Found in an error's text: safetensors and torch wrap the number away."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended."""

    code: int
    """Exit code: 0 done, 2 configuration, 3 needs attention or paused, 130 cancelled, 1 a defect of ours."""
    context: RunContext | None
    """What it worked with; None when it did not get that far."""


def work(store: Store, job_id: int, display: Display) -> Outcome:
    """How the job ended, after working on it to its end; the store holds state, error and events."""
    job = jobs.get(store, job_id)
    if job is None:
        raise ConfigError(f"there is no job {job_id} in {store.name}", "list the jobs with `persyn jobs`")
    lease = jobs.claim(store, job_id, owner=f"{socket.gethostname()}:{os.getpid()}", lease_seconds=LEASE_S)
    control = JobControl()
    restore = _on_signals(control)
    ended = threading.Event()
    say = _say(store, lease, display)
    pulse = threading.Thread(
        target=_pulse, args=(store, lease, control, ended, say), name="heartbeat", daemon=True
    )
    pulse.start()
    state: JobState = "failed"
    error, notice, code = "", "", 1
    context = None
    lost = sum(row.in_flight for row in from_json(job.progress).rows.values())
    try:
        if job.state == "running" and lost:
            say(
                "info",
                f"{lost:,} requests were in flight at the last report before the interruption; "
                "those without an answer are sent again",
            )
        for teacher in orphans.sweep(store.folder / orphans.FOLDER):
            say("warning", f"ended the server of `{teacher}`, left by an engine that was killed")
        context = prepare(store, lease, job, display, control)
        with closing(context.servers):
            pipeline.run(context, until=job.until_stage)
        state, code = "done", 0
    except Cancelled as problem:
        if control.pausing:
            state, code = "paused", PAUSED
            notice = "paused; everything committed is kept, and the same command goes on with this job"
        else:
            state, error, code = "cancelled", str(problem), problem.exit_code
    except KeyboardInterrupt:  # the second ctrl+c
        stopped = Cancelled(
            "stopped at once; everything committed is kept", "run the same command again to go on"
        )
        state, error, code = "cancelled", str(stopped), stopped.exit_code
    except DiskFullError as problem:
        state, error, code = "paused", f"disk_full: {problem}", problem.exit_code
    except BudgetSpent as problem:
        state, error, code = "paused", f"budget: {problem}", problem.exit_code
    except (FencedError, StoreMissingError) as problem:
        control.fenced = problem
        display.say("error", str(problem))
        return Outcome(problem.exit_code, context)
    except NeedsAttention as problem:
        state, error, code = "needs_attention", str(problem), problem.exit_code
    except PersynError as problem:
        state, error, code = "failed", str(problem), problem.exit_code
    except Exception as problem:
        if _NO_SPACE in str(problem):
            full = DiskFullError(f"{problem}", "free some space and run the same command again")
            state, error, code = "paused", f"disk_full: {full}", full.exit_code
        else:
            state, error = "failed", f"{type(problem).__name__}: {problem}"
            display.say("error", "".join(traceback.format_exception(problem)))
    except BaseException as problem:
        state, error = "failed", f"{type(problem).__name__}: {problem}"
        display.say("error", "".join(traceback.format_exception(problem)))
        raise
    finally:
        ended.set()
        pulse.join(timeout=5)
        if control.fenced is None:
            try:
                if context is not None:
                    with suppress(StoreError):
                        context.progress.flush()  # where it stands, beside why it ended
                if error:
                    say("error" if code != 130 else "warning", error)
                elif notice:
                    say("info", notice)
                jobs.release(store, lease, state, error)
            except StoreError as problem:
                # A full disk cannot even note that it is full; the lease runs out and the job reads as interrupted.
                display.say("error", str(problem))
        restore()
    return Outcome(code, context)


def prepare(store: Store, lease: Lease, job: Job, display: Display, control: JobControl) -> RunContext:
    """The context of a job: its models registered, its progress wired to store and console."""
    run, before = run_of(job), from_json(job.progress)
    teachers = tuple(models.teacher(config, run.generation) for config in run.teachers)
    student = models.student(run)
    say = _say(store, lease, display)
    for teacher in teachers:
        others = [name for name in models.renamed(store, teacher) if name not in {t.name for t in teachers}]
        if others:
            say(
                "warning",
                f"teacher `{teacher.name}` has the settings of `{', '.join(others)}`, whose answers are stored; a name "
                "is part of a teacher, so it is asked anew. To use them, give it that name",
            )
    stored = [stored_models.put(store, model, models.identity_sha(model)) for model in (*teachers, student)]

    def store_snapshot(snapshot: Snapshot) -> None:
        jobs.progress(store, lease, snapshot.as_json())

    def store_metrics(rows: list[tuple[str, str, int, float]]) -> None:
        jobs.record_metrics(store, lease, rows)

    return RunContext(
        run=run,
        store=store,
        lease=lease,
        teachers=tuple(stored[:-1]),
        student=stored[-1],
        progress=Progress(store_snapshot, store_metrics, display.show, say, retries=before.retries),
        control=control,
        servers=ServerPool(store.folder),
    )


def _say(store: Store, lease: Lease, display: Display) -> Callable[[EventKind, str], None]:
    def say(kind: EventKind, message: str) -> None:
        display.say(kind, message)
        jobs.event(store, lease, kind, message)

    return say


def _pulse(
    store: Store,
    lease: Lease,
    control: JobControl,
    ended: threading.Event,
    say: Callable[[EventKind, str], None],
) -> None:
    """Renews the lease and takes the operator's commands until the job ends."""
    told = False
    while not ended.wait(min(LOOK_S, HEARTBEAT_S) if control.stopping else HEARTBEAT_S):
        try:
            jobs.renew(store, lease)
            for command in jobs.take_commands(store, lease):
                if command.kind in ("pause", "cancel"):
                    control.stop(pause=command.kind == "pause")
                elif command.kind == "checkpoint":
                    control.checkpoint()
                elif command.kind == "concurrency":
                    control.change_concurrency(
                        str(command.args["teacher"]), 1 if command.args["more"] else -1
                    )
            if control.stopping and not told:
                told = True
                doing = "pausing" if control.pausing else "cancelling"
                say("info", f"{doing}: the job stops at the next point where nothing is lost")
        except (FencedError, StoreMissingError) as problem:
            control.fenced = problem
            return
        except StoreError:
            continue  # busy or full for now; the lease outlives several missed beats


def _on_signals(control: JobControl) -> Callable[[], None]:
    """Makes ctrl+c and SIGTERM ask for a stop, as a cancel; a second one is immediate.

    Any more change nothing: they would hit the code that writes down how the job ended.
    """
    ending = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal ending
        if control.stopping and not ending:
            ending = True
            raise KeyboardInterrupt
        control.stop(pause=False)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    return restore
