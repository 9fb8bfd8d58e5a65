"""One engine process working on one job: claim, heartbeat, run the pipeline, end in a typed state."""

import errno
import os
import signal
import socket
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from types import FrameType

from engine import pipeline
from engine.answers.servers import Servers
from engine.backends import _orphans
from engine.config import Run
from engine.context import Context
from engine.display import Display
from engine.errors import BudgetSpent, Cancelled, ConfigError, NeedsAttention, PersynError
from engine.models import registry
from engine.progress import Progress, Snapshot, from_json
from engine.reader import run_of
from storage import jobs
from storage import registry as stored_models
from storage.errors import DiskFullError, FencedError, StoreError, StoreMissingError
from storage.job_records import JobState
from storage.jobs import Lease
from storage.store import Store

LEASE_S = 30.0
HEARTBEAT_S = 2.0
_NO_SPACE = os.strerror(errno.ENOSPC)
"""Found in an error's text: safetensors and torch wrap the number away."""


class Stop:
    """Whether the job was asked to stop, and why."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.save = threading.Event()
        """Set when the operator asked for a checkpoint."""
        self.fenced: FencedError | StoreMissingError | None = None
        """Why nothing more may be written."""
        self._paces = Counter[str]()
        self._paces_lock = threading.Lock()

    def asked(self) -> bool:
        """True once a signal, a command or a lost lease asks the job to stop."""
        if self.fenced is not None:
            raise self.fenced
        return self.event.is_set()

    def take_save(self) -> bool:
        """True once after each time that the operator asked for a checkpoint."""
        asked = self.save.is_set()
        self.save.clear()
        return asked

    def pace(self, teacher: str, steps: int) -> None:
        """Notes that the operator wants more (steps > 0) or fewer requests of a teacher in flight."""
        with self._paces_lock:
            self._paces[teacher] += steps

    def take_paces(self) -> Counter[str]:
        """What was noted since the last call."""
        with self._paces_lock:
            taken, self._paces = self._paces, Counter()
        return taken


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended."""

    code: int
    """Exit code: 0 done, 2 configuration, 3 needs attention, 130 cancelled, 1 a defect of ours."""
    context: Context | None
    """What it worked with; None when it did not get that far."""


def work(store: Store, job_id: int, display: Display) -> Outcome:
    """How the job ended, after working on it to its end; the store holds state, error and events."""
    job = jobs.get(store, job_id)
    if job is None:
        raise ConfigError(f"there is no job {job_id} in {store.name}", "list the jobs with `persyn jobs`")
    lease = jobs.claim(store, job_id, owner=f"{socket.gethostname()}:{os.getpid()}", lease_seconds=LEASE_S)
    stop = Stop()
    restore = _on_signals(stop)
    ended = threading.Event()
    say = _say(store, lease, display)
    pulse = threading.Thread(
        target=_pulse, args=(store, lease, stop, ended, say), name="heartbeat", daemon=True
    )
    pulse.start()
    state: JobState = "failed"
    error, code = "", 1
    context = None
    lost = sum(row.in_flight for row in from_json(job.progress).rows.values())
    try:
        if job.state == "running" and lost:
            say(
                "info",
                f"{lost:,} requests were in flight at the last report before the interruption; "
                "those without an answer are sent again",
            )
        for teacher in _orphans.sweep(store.folder / _orphans.FOLDER):
            say("warning", f"ended the server of `{teacher}`, left by an engine that was killed")
        context = prepare(store, lease, run_of(job), display, stop)
        with closing(context.servers):
            pipeline.run(context, until=job.until_stage)
        state, code = "done", 0
    except Cancelled as problem:
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
        stop.fenced = problem
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
        if stop.fenced is None:
            try:
                if context is not None:
                    with suppress(StoreError):
                        context.progress.flush()  # where it stands, beside why it ended
                if error:
                    say("error" if code != 130 else "warning", error)
                jobs.release(store, lease, state, error)
            except StoreError as problem:
                # A full disk cannot even note that it is full; the lease runs out and the job reads as interrupted.
                display.say("error", str(problem))
        restore()
    return Outcome(code, context)


def prepare(store: Store, lease: Lease, run: Run, display: Display, stop: Stop) -> Context:
    """The context of a job: its models registered, its progress wired to store and console."""
    teachers = tuple(registry.teacher(config, run.generation) for config in run.teachers)
    student = registry.student(run)
    say = _say(store, lease, display)
    for teacher in teachers:
        others = [name for name in registry.renamed(store, teacher) if name not in {t.name for t in teachers}]
        if others:
            say(
                "warning",
                f"teacher `{teacher.name}` has the settings of `{', '.join(others)}`, whose answers are stored; a name "
                "is part of a teacher, so it is asked anew. To use them, give it that name",
            )
    stored = [stored_models.put(store, model, registry.identity_sha(model)) for model in (*teachers, student)]

    def store_snapshot(snapshot: Snapshot) -> None:
        jobs.progress(store, lease, snapshot.as_json())

    def store_metrics(rows: list[tuple[str, str, int, float]]) -> None:
        jobs.record_metrics(store, lease, rows)

    return Context(
        run=run,
        store=store,
        lease=lease,
        teachers=tuple(stored[:-1]),
        student=stored[-1],
        progress=Progress(store_snapshot, store_metrics, display.show, say),
        cancelled=stop.asked,
        servers=Servers(store.folder),
        take_save=stop.take_save,
        take_paces=stop.take_paces,
    )


def _say(store: Store, lease: Lease, display: Display) -> Callable[[str, str], None]:
    def say(kind: str, message: str) -> None:
        display.say(kind, message)
        jobs.event(store, lease, kind, message)

    return say


def _pulse(
    store: Store, lease: Lease, stop: Stop, ended: threading.Event, say: Callable[[str, str], None]
) -> None:
    """Renews the lease and takes the operator's commands until the job ends."""
    told = False
    while not ended.wait(HEARTBEAT_S):
        try:
            jobs.renew(store, lease)
            for command in jobs.take_commands(store, lease):
                if command.kind == "cancel":
                    stop.event.set()
                elif command.kind == "checkpoint":
                    stop.save.set()
                elif command.kind == "concurrency":
                    stop.pace(str(command.args["teacher"]), 1 if command.args["more"] else -1)
            if stop.event.is_set() and not told:
                told = True
                say("info", "cancelling: the job stops at the next point where nothing is lost")
        except (FencedError, StoreMissingError) as problem:
            stop.fenced = problem
            return
        except StoreError:
            continue  # busy or full for now; the lease outlives several missed beats


def _on_signals(stop: Stop) -> Callable[[], None]:
    """Makes ctrl+c and SIGTERM ask for a stop at the next batch; a second one is immediate.

    Any more change nothing: they would hit the code that writes down how the job ended.
    """
    ending = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal ending
        if stop.event.is_set() and not ending:
            ending = True
            raise KeyboardInterrupt
        stop.event.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    return restore
