"""What is stored of jobs: their states, who holds them, what happened in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

JobState = Literal["queued", "running", "paused", "done", "failed", "cancelled", "needs_attention"]
STOPPED = ("paused", "failed", "cancelled", "needs_attention", "interrupted")
"""Effective states of jobs that have stopped before their end."""
ACTIVE_STATES: tuple[JobState, ...] = ("queued", "running", "paused")
"""States in which a job still has work to do: at most one such job exists per specification."""


EventKind = Literal["info", "warning", "error"]
CommandKind = Literal["pause", "cancel", "checkpoint", "concurrency"]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for a job. A later claim raises the epoch and makes this one worthless."""

    job_id: int
    epoch: int
    owner: str
    seconds: float = 30.0
    """How long the right lasts after each write."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run of a specification. Times are seconds since the epoch, None when not reached."""

    id: int
    name: str
    spec: Mapping[str, Any]
    spec_sha: str
    until_stage: str | None
    state: JobState
    """As stored; `effective_state` is what to show."""
    stage: str
    epoch: int
    owner: str | None
    pid: int | None
    host: str
    lease_until: float
    """0 when nobody holds the job."""
    created_at: float
    started_at: float | None
    finished_at: float | None
    error: str
    """Why it failed or paused; empty otherwise."""
    progress: Mapping[str, Any]
    seen_at: float
    """The database's clock when this record was read."""

    @property
    def effective_state(self) -> str:
        """The state, or `interrupted` for a running job whose lease has run out."""
        return "interrupted" if self.state == "running" and self.lease_until < self.seen_at else self.state


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a job."""

    id: int
    job_id: int
    at: float
    kind: EventKind
    message: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One point of a curve."""

    id: int
    job_id: int
    at: float
    stage: str
    name: str
    step: int
    value: float | None
    """None when the number was NaN or infinite."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """What a running job was asked to end with."""

    kind: Literal["pause", "cancel"]
    since: float
    """Unix seconds of the first time that it was asked."""
    at_once: bool
    """Whether it was asked again, so that responses in flight are not waited for any more."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator asks of a running job."""

    id: int
    job_id: int
    kind: CommandKind
    args: Mapping[str, Any]
    created_at: float
