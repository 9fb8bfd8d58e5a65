"""One engine process working on one job: claim, heartbeat, run the pipeline, end in a typed state."""

import os
import signal
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType, ModuleType

from engine.base.errors import ConfigError
from engine.job import failing_teachers
from engine.job.context import RunContext
from engine.job.control import JobControl
from engine.job.progress import Metric, Progress, Snapshot, from_json
from engine.job.server_pool import ServerPool
from engine.pipeline import endings
from engine.pipeline.display import Display
from engine.pipeline.launch import STOP_SIGNALS
from engine.pipeline.run_view import run_of
from engine.registry import models, run_files
from engine.teachers.vllm_server import orphans
from storage import jobs
from storage import registry as stored_models
from storage.errors import FencedError, PersynError, StoreError, StoreLostError, StoreMissingError
from storage.job_records import EventKind, Job, Lease
from storage.store import Store

LEASE_S = 30.0
HEARTBEAT_S = 2.0
TICK_S = 1.0
LOOK_S = 0.25
"""Between two looks for commands once a stop is asked for: another one ends the waiting for responses."""
RESTARTS = 10
"""Of the database server in one run: a statement that it cannot bear would end it again and again."""
_HEAR = signal.SIGUSR1
"""What the heartbeat sends to the main thread while that is within `JobControl.at_once`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended."""

    code: int
    """Exit code; see `engine.pipeline.endings`."""
    context: RunContext | None
    """What it worked with; None when it did not get that far."""


class JobLog:
    """The sink of a job's progress: stored, so that any screen can follow, and shown here. For two threads.

    Args:
        store: the job's.
        lease: the job's.
        display: where it is shown here.
    """

    def __init__(self, store: Store, lease: Lease, display: Display) -> None:
        self.store, self.lease, self.display = store, lease, display
        self._lock = threading.Lock()
        self._last, self._at = Snapshot(), time.monotonic()

    def publish(self, snapshot: Snapshot, metrics: Sequence[Metric]) -> None:
        """Stores and shows where the stage stands."""
        with self._lock:
            self._last, self._at = snapshot, time.monotonic()
            self._show(snapshot, metrics)

    def starting(self) -> None:
        """Shows that this process loads its modules; what is stored of an earlier process stays."""
        self.publish(Snapshot(doing="starting: loading torch and transformers"), ())

    def tick(self) -> None:
        """Shows how long what cannot be counted has taken by now: a large model is loaded for minutes."""
        with self._lock:
            if self._last.doing:
                passed = time.monotonic() - self._at
                self._show(replace(self._last, doing_s=self._last.doing_s + passed), ())

    def _show(self, snapshot: Snapshot, metrics: Sequence[Metric]) -> None:
        if snapshot.stage:
            jobs.progress(self.store, self.lease, snapshot.as_json())
            jobs.record_metrics(self.store, self.lease, metrics)
        self.display.show(snapshot)

    def say(self, kind: EventKind, message: str) -> None:
        """Shows and stores one line."""
        self.display.say(kind, message)
        jobs.event(self.store, self.lease, kind, message)


def work(store: Store, job_id: int, display: Display) -> Outcome:
    """How the job ended, after working on it to its end; the store holds state, error and events."""
    job = jobs.get(store, job_id)
    if job is None:
        raise ConfigError(f"there is no job {job_id} in {store.name}", "list the jobs with `persyn jobs`")
    control = JobControl()
    with _signals_stop(control):
        lease = jobs.claim(
            store, job_id, owner=f"{socket.gethostname()}:{os.getpid()}", lease_seconds=LEASE_S
        )
        return _work_on(job, JobLog(store, lease, display), control)


def _work_on(job: Job, log: JobLog, control: JobControl) -> Outcome:
    """As `work`, for a job that is ours."""
    ended = threading.Event()
    pulse = threading.Thread(target=_pulse, args=(log, control, ended), name="heartbeat", daemon=True)
    pulse.start()
    context, problem = None, None
    try:
        log.starting()
        _tell_of_interruption(job, log)
        with control.at_once():
            stages = _pipeline()
        context = prepare(job, log, control)
        with closing(context.servers):
            _through_restarts(log, partial(stages.run, context, until=job.until_stage))
    except BaseException as met:
        problem = endings.known(met, pausing=control.pausing)
        if not isinstance(met, Exception | KeyboardInterrupt):
            raise
    finally:
        ended.set()
        pulse.join(timeout=5)
        _write_down(log, control, context, problem)
    return Outcome(0 if problem is None else endings.code(problem), context)


def _through_restarts(log: JobLog, run: Callable[[], object]) -> None:
    """Runs the stages; where the database server goes away they go on from what is stored, once it is back."""
    for left in reversed(range(RESTARTS)):
        try:
            run()
            return
        except StoreLostError as lost:
            if not left:
                raise
            log.say("warning", f"{lost.message}: going on from what is stored")


def _pipeline() -> ModuleType:
    """The stages, and all that they import.

    Only now: torch and transformers take seconds, in which the job is already claimed, is seen and can be stopped.
    """
    from transformers.utils import logging as transformers_logging

    from engine.pipeline import pipeline

    # One loading bar per model would tear the job's own display apart.
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    return pipeline


def _tell_of_interruption(job: Job, log: JobLog) -> None:
    """What an engine that was killed at this job has left: requests in flight, and servers."""
    lost = sum(row.in_flight for row in from_json(job.progress).rows.values())
    if job.state == "running" and lost:
        log.say(
            "info",
            f"{lost:,} requests were in flight at the last report before the interruption; "
            "those without a response are sent again",
        )
    for teacher in orphans.sweep(log.store.folder / orphans.FOLDER):
        log.say("warning", f"ended the server of `{teacher}`, left by an engine that was killed")


def _write_down(
    log: JobLog, control: JobControl, context: RunContext | None, problem: BaseException | None
) -> None:
    """Notes how the job ended, where this process may still write."""
    ending = endings.DONE if problem is None else endings.of(problem)
    ours = isinstance(problem, PersynError)
    said = "" if problem is None else str(problem) if ours else f"{type(problem).__name__}: {problem}"
    if problem is not None and not ours:
        log.display.say("error", "".join(traceback.format_exception(problem)))
    if ending.state is None:
        log.display.say(ending.event, said)
    if ending.state is None or control.fenced is not None:
        return
    try:
        if context is not None:
            with suppress(StoreError):
                context.progress.flush()  # where it stands, beside why it ended
            if context.prompt_set:
                for teacher in failing_teachers.find(context):
                    log.say("warning", str(teacher))
        if said:
            log.say(ending.event, ending.label + said)
        kept = "" if isinstance(problem, endings.Paused) else ending.label + said
        jobs.release(log.store, log.lease, ending.state, kept)
    except StoreError as full:
        # A full disk cannot even note that it is full; the lease runs out and the job reads as interrupted.
        log.display.say("error", str(full))


def prepare(job: Job, log: JobLog, control: JobControl) -> RunContext:
    """The context of a job: its models registered, its progress wired to store and console."""
    run, store = run_of(job), log.store
    teachers = tuple(models.teacher(config, run.generation) for config in run.teachers)
    for teacher in teachers:
        others = [name for name in models.renamed(store, teacher) if name not in {t.name for t in teachers}]
        if others:
            log.say(
                "warning",
                f"teacher `{teacher.name}` has the settings of `{', '.join(others)}`, whose responses are stored; a "
                "name is part of a teacher, so it is asked anew. To use them, give it that name",
            )
    if formats := run_files.number_formats(run):
        log.say("info", f"number formats: {formats}")
    stored = [
        stored_models.put(store, model, models.identity_sha(model), by_run=True)
        for model in (*teachers, models.student(run))
    ]
    return RunContext(
        run=run,
        store=store,
        lease=log.lease,
        teachers=tuple(stored[:-1]),
        student=stored[-1],
        progress=Progress(log, retries=from_json(job.progress).retries),
        control=control,
        servers=ServerPool(store.folder),
    )


def _pulse(log: JobLog, control: JobControl, ended: threading.Event) -> None:
    """Renews the lease and takes the operator's commands until the job ends."""
    told, renewed = False, time.monotonic()
    while not ended.wait(LOOK_S if control.stopping else TICK_S):
        try:
            if control.stopping or time.monotonic() - renewed >= HEARTBEAT_S:
                renewed = time.monotonic()
                jobs.renew(log.store, log.lease)
            for command in jobs.take_commands(log.store, log.lease):
                if command.kind in ("pause", "cancel"):
                    control.stop(pause=command.kind == "pause")
                elif command.kind == "checkpoint":
                    control.checkpoint()
                elif command.kind == "concurrency":
                    steps = 1 if command.args["more"] else -1
                    control.change_concurrency(str(command.args["teacher"]), steps)
            if control.stopping and control.heard_at_once:
                signal.pthread_kill(threading.main_thread().ident or 0, _HEAR)
            if control.stopping and not told:
                told = True
                doing = "pausing" if control.pausing else "cancelling"
                log.say("info", f"{doing}: what is stored stays, and the same command goes on with it")
            log.tick()
        except (FencedError, StoreMissingError) as problem:
            control.fenced = problem
            return
        except StoreError:
            continue  # busy or full for now; the lease outlives several missed beats


@contextmanager
def _signals_stop(control: JobControl) -> Iterator[None]:
    """Makes ctrl+c and SIGTERM ask for a stop, as a cancel; a second one is immediate, and so is any in `at_once`.

    Any more change nothing: they would hit the code that writes down how the job ended.
    """
    ending = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal ending
        second = control.stopping
        control.stop(pause=False)
        if control.heard_at_once or (second and not ending):
            ending = ending or second
            raise KeyboardInterrupt

    def hear(signum: int, frame: FrameType | None) -> None:
        if control.heard_at_once:
            raise KeyboardInterrupt

    handlers = {signal.SIGINT: handle, signal.SIGTERM: handle, _HEAR: hear}
    previous = {number: signal.signal(number, handlers[number]) for number in handlers}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # what was sent since `launch.here` comes now
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
