"""Jobs: one active job per specification, and a lease that only one process can hold.

A claim raises the job's epoch in one UPDATE. Every write of the holder first renews the lease by (id,
epoch, owner) in its own transaction, so a process that slept through its lease cannot write after another
one took over.
"""

import math
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Connection, Select, and_, delete, func, or_, select, update

from storage.errors import StoreError
from storage.job_records import (
    ACTIVE_STATES,
    STOPPED,
    Command,
    CommandKind,
    Event,
    EventKind,
    Job,
    JobState,
    Lease,
    Metric,
    Stopping,
)
from storage.rows import Columns
from storage.schema import CommandRow, EventRow, JobRow, MetricRow
from storage.store import Store

_EVENT = Columns(Event, EventRow)
_METRIC = Columns(Metric, MetricRow)
_COMMAND = Columns(Command, CommandRow)


def _read(store: Store, connection: Connection, query: Select[Any]) -> list[Job]:
    """The jobs of a query on the table.

    One whose process is gone from this machine holds no lease, so that it shows as interrupted at once.
    """
    columns = Columns(Job, JobRow, seen_at=store.clock())
    result = connection.execute(query.with_only_columns(*columns))
    return [
        replace(job, lease_until=0.0) if job.state == "running" and _holder_is_gone(job) else job
        for job in map(columns.reader(result), result)
    ]


def _required(store: Store, connection: Connection, job_id: int) -> Job:
    found = _read(store, connection, select(JobRow).where(JobRow.id == job_id))
    if not found:
        raise StoreError(f"there is no job {job_id}", "List the jobs with: persyn jobs")
    return found[0]


def submit(
    store: Store, spec: Mapping[str, Any], spec_sha: str, name: str, until: str | None = None
) -> tuple[Job, bool]:
    """The job of this specification, and whether it was made now; an active one is returned as it is.

    Args:
        spec: the run file, resolved.
        spec_sha: its hash.
        name: what to show.
        until: the last stage to run; None for all.
    """
    # A new job is only made when none is active: the newest is the active one.
    newest = select(JobRow).where(JobRow.spec_sha == spec_sha).order_by(JobRow.id.desc()).limit(1)
    with store.write() as connection:
        created = connection.execute(
            store.insert(JobRow)
            .values(
                name=name,
                spec=dict(spec),
                spec_sha=spec_sha,
                until_stage=until,
                state="queued",
                stage="",
                epoch=0,
                host="",
                lease_until=0.0,
                created_at=time.time(),
                error="",
                progress={},
            )
            .on_conflict_do_nothing()
        ).rowcount
        (job,) = _read(store, connection, newest)
    return job, created == 1


def _holder_is_gone(job: Job) -> bool:
    """True when the holder was a process of this machine that no longer runs."""
    if job.host != socket.gethostname() or job.pid is None:
        return False
    try:
        # One that was killed stays in the list of processes until who started it asks for its end.
        return bool(psutil.Process(job.pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def log_path(store: Store, job_id: int) -> Path:
    """Where a job in the background writes what it would have shown; one in the foreground has no such file."""
    return store.folder / "logs" / f"job-{job_id}.log"


def claim(store: Store, job_id: int, owner: str, lease_seconds: float = 30.0) -> Lease:
    """The lease of the job; whoever held it before is fenced off.

    A job is free when nobody holds it, its lease has run out, or its holder was a process of this machine
    that has died.

    Args:
        job_id: an active job.
        owner: a name that no other process uses.
        lease_seconds: how long the lease lasts after each write.

    Raises:
        StoreError: there is no such job, it is finished, or another process holds it.
    """
    with store.write() as connection:
        job = _required(store, connection, job_id)
        if job.state not in ACTIVE_STATES:
            raise StoreError(
                f"job {job_id} is {job.state}",
                "Run the same file again: a new job goes on from what is stored.",
            )
        clock = store.clock()
        free = or_(JobRow.owner.is_(None), JobRow.owner == owner, JobRow.lease_until < clock)
        if _holder_is_gone(job):
            free = or_(free, JobRow.epoch == job.epoch)
        epoch = connection.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.state.in_(ACTIVE_STATES), free)
            .values(
                epoch=JobRow.epoch + 1,
                owner=owner,
                pid=os.getpid(),
                host=socket.gethostname(),
                lease_until=clock + lease_seconds,
                state="running",
                started_at=func.coalesce(JobRow.started_at, clock),
                finished_at=None,
                error="",
            )
            .returning(JobRow.epoch)
        ).scalar()
        if epoch is None:
            raise StoreError(
                f"job {job_id} is being run by process {job.pid} on {job.host}",
                f"Watch it with: persyn watch {job_id}",
            )
        # What an earlier process took and did not live to do is no wish to this one.
        connection.execute(
            delete(CommandRow).where(CommandRow.job_id == job_id, CommandRow.taken_at.is_not(None))
        )
    return Lease(job_id, epoch, owner, lease_seconds)


def renew(store: Store, lease: Lease) -> None:
    """Keep the lease for another `lease.seconds`."""
    with store.write(lease):
        pass


def release(store: Store, lease: Lease, state: JobState, error: str = "") -> None:
    """Give the job up in this state; later writes under the lease are refused.

    Args:
        state: queued or paused to be claimed again, or a final state.
        error: why, when it did not end well.
    """
    with store.write(lease) as connection:
        finished = None if state in ACTIVE_STATES else store.clock()
        connection.execute(
            update(JobRow)
            .where(JobRow.id == lease.job_id)
            .values(state=state, error=error, owner=None, pid=None, lease_until=0.0, finished_at=finished)
        )
        # What this process was told too late is no wish to the next one.
        connection.execute(delete(CommandRow).where(CommandRow.job_id == lease.job_id))


def set_stage(store: Store, lease: Lease, stage: str, progress: Mapping[str, Any]) -> None:
    """Say which stage the job is in, with its first progress."""
    _update(store, lease, stage=stage, progress=dict(progress))


def progress(store: Store, lease: Lease, progress: Mapping[str, Any]) -> None:
    """Replace the job's progress."""
    _update(store, lease, progress=dict(progress))


def _update(store: Store, lease: Lease, **values: Any) -> None:
    store.execute(update(JobRow).where(JobRow.id == lease.job_id).values(values), lease)


def event(store: Store, lease: Lease, kind: EventKind, message: str) -> None:
    """Append a sentence for the operator to the job's history."""
    values = {"job_id": lease.job_id, "at": store.clock(), "kind": kind, "message": message}
    store.execute(store.insert(EventRow).values(values), lease)


def record_metrics(store: Store, lease: Lease, rows: Sequence[tuple[str, str, int, float]]) -> None:
    """Append points (stage, name, step, value) to the job's curves; NaN and infinities become None."""
    clock = time.time()
    values = [
        {
            "job_id": lease.job_id,
            "at": clock,
            "stage": stage,
            "name": name,
            "step": step,
            "value": float(value) if math.isfinite(value) else None,
        }
        for stage, name, step, value in rows
    ]
    store.add(MetricRow, values, lease)


def get(store: Store, job_id: int) -> Job | None:
    """The job of this id, or None."""
    with store.read() as connection:
        return next(iter(_read(store, connection, select(JobRow).where(JobRow.id == job_id))), None)


def recent(store: Store, before_id: int | None = None, limit: int = 100) -> list[Job]:
    """The newest jobs first; of the next page those before the last job already seen."""
    query = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(JobRow.id < before_id)
    with store.read() as connection:
        return _read(store, connection, query)


def went_on(listed: Iterable[Job]) -> dict[int, int]:
    """Job that stopped before its end → the newest one that the same run went on as, of those among `listed`."""
    newest: dict[str, int] = {}
    found: dict[int, int] = {}
    for job in sorted(listed, key=lambda job: -job.id):
        if job.spec_sha not in newest:
            newest[job.spec_sha] = job.id
        elif job.id != newest[job.spec_sha] and job.effective_state in STOPPED:
            found[job.id] = newest[job.spec_sha]
    return found


def events(store: Store, job_id: int, after_id: int = 0, limit: int = 500) -> list[Event]:
    """The job's next events, oldest first."""
    query = select(*_EVENT).where(EventRow.job_id == job_id, EventRow.id > after_id)
    return _EVENT.all(store, query.order_by(EventRow.id).limit(limit))


def newest_events(store: Store, job_id: int | None = None, limit: int = 100) -> list[Event]:
    """The last events of one job, or of all of them, oldest first."""
    query = select(*_EVENT).order_by(EventRow.id.desc()).limit(limit)
    if job_id is not None:
        query = query.where(EventRow.job_id == job_id)
    return _EVENT.all(store, query)[::-1]


def metrics(
    store: Store, job_id: int, name: str | None = None, after_id: int = 0, limit: int = 5000
) -> list[Metric]:
    """The job's next metric points, oldest first; of one curve when a name is given."""
    query = select(*_METRIC).where(MetricRow.job_id == job_id, MetricRow.id > after_id)
    if name is not None:
        query = query.where(MetricRow.name == name)
    return _METRIC.all(store, query.order_by(MetricRow.id).limit(limit))


def command(store: Store, job_id: int, kind: CommandKind, args: Mapping[str, Any] | None = None) -> int:
    """The id of a command left for the job's process.

    Raises:
        StoreError: there is no such job.
    """
    with store.write() as connection:
        _required(store, connection, job_id)
        return connection.execute(
            store.insert(CommandRow)
            .values(job_id=job_id, kind=kind, args=dict(args or {}), created_at=time.time())
            .returning(CommandRow.id)
        ).scalar_one()


def stopping(store: Store) -> dict[int, Stopping]:
    """Running jobs that were asked to pause or to cancel → what of it and since when."""
    query = (
        select(CommandRow.job_id, CommandRow.kind, CommandRow.created_at)
        .join(JobRow, JobRow.id == CommandRow.job_id)
        .where(CommandRow.kind.in_(("pause", "cancel")), JobRow.state == "running")
        .order_by(CommandRow.id)
    )
    found: dict[int, Stopping] = {}
    for job_id, kind, since in store.rows(query):
        first = found.get(job_id)
        # Who asks for a cancel after a pause wants the job to end; after a cancel it ends anyway.
        pauses = kind == "pause" and (first is None or first.kind == "pause")
        began = float(since) if first is None else first.since
        found[job_id] = Stopping("pause" if pauses else "cancel", began, at_once=first is not None)
    return found


def take_commands(store: Store, lease: Lease) -> list[Command]:
    """The commands left since the last call, oldest first; each is given once.

    Raises:
        FencedError: another process has claimed the job, and there were commands.
    """
    waiting = and_(CommandRow.job_id == lease.job_id, CommandRow.taken_at.is_(None))
    # Polled several times a second: nothing is written while there is nothing to take.
    if not store.scalars(select(CommandRow.id).where(waiting).limit(1)):
        return []
    with store.write(lease) as connection:
        taken = update(CommandRow).where(waiting).values(taken_at=time.time()).returning(*_COMMAND)
        result = connection.execute(taken)
        command = _COMMAND.reader(result)
        return sorted((command(row) for row in result), key=lambda item: item.id)


def respecify(store: Store, job_id: int, spec: Mapping[str, Any]) -> None:
    """Replace the specification of an active job by one of the same hash; its next process reads it."""
    active = (JobRow.id == job_id, JobRow.state.in_(ACTIVE_STATES))
    store.execute(update(JobRow).where(*active).values(spec=dict(spec)))


def alive(job: Job) -> bool:
    """Whether a process is working on the job now, as far as this machine can tell."""
    return job.effective_state == "running" and not _holder_is_gone(job)


def end_unowned(store: Store, job_id: int, state: JobState) -> bool:
    """Whether a job that no process works on was put into this final state; False when one does."""
    with store.write() as connection:
        job = _required(store, connection, job_id)
        if alive(job) or job.state not in ACTIVE_STATES:
            return False
        connection.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.epoch == job.epoch)
            .values(state=state, owner=None, pid=None, lease_until=0.0, finished_at=store.clock())
        )
    return True
