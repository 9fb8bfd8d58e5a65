"""What the generation screen reads: per teacher what is asked and what is there, and the newest responses.

While the job runs this is read several times a second. The sums over all responses are made again only so
often that they take a small part of the time; between two of them what the job has stored since is added. So
the counts and the rows below them are of what is stored, and never fall.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.base.plugins import TEACHERS
from engine.config.kinds import teacher_kind
from engine.job.progress import Row, Snapshot, from_json
from persyn_tui.app.state import context_cache
from storage import jobs, prompts, responses, routing, speeds
from storage.errors import PersynError
from storage.job_records import Job
from storage.records import Coverage, ResponseLine, Status
from storage.store import Store

if TYPE_CHECKING:
    from engine.job.context import RunContext

STAGES = ("calibrate", "generate")
"""The stages in which teachers answer."""
EVERY_S = 1.0
PART = 20
PART_AT_REST = 200
"""The sums take at most one part in so many of the time."""
SHOWN = 60
"""Newest responses."""
TEXT = 400
"""Characters kept of a response."""


@dataclass(frozen=True, slots=True)
class TeacherLine:
    """One teacher's row."""

    name: str
    backend: str
    model_id: int | None
    done: int
    wanted: int
    counts: dict[str, int]
    """Responses by status."""
    retries: int | None
    """Requests sent again; None where the job has asked its endpoint nothing, and no stored row knows of any."""
    cost: float
    """Dollars."""
    tokens_per_second: float | None = None
    eta_s: float | None = None
    in_flight: int | None = None
    """Requests sent to its endpoint and not answered; None where none is being asked."""
    allowed: int = 0
    """How many may be."""
    most: int = 0
    """How many the run file allows."""
    held: str = ""
    """Why fewer than that may be, where something stands in their way."""
    note: str = ""
    """Why it gives no answers now."""
    mean: float | None = None
    """Tokens per second over the answers that it has given, where it does not answer now."""

    @property
    def busy(self) -> bool:
        """Whether it answers now."""
        return self.tokens_per_second is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the newest responses."""

    id: int
    prompt_id: int
    teacher: str
    tokens: int
    status: Status
    finish_reason: str
    text: str
    """Its beginning."""
    error: str


@dataclass(frozen=True, slots=True)
class Generated:
    """What the screen shows."""

    job_id: int
    state: str
    stage: str
    teachers: tuple[TeacherLine, ...]
    newest: tuple[Answer, ...]
    unrouted: int | None
    """Prompts that still wait for a teacher, each of which brings at least one response; None when unknown."""
    prompts: int | None
    """N: what all teachers would have to answer, each; None while the prompts are being read."""
    calibrated: int | None
    """C: those of them that every teacher answers for the router."""
    calibration_answers: int | None
    """C·M, or fewer where each of them is answered by some teachers only."""
    strategies: int
    """Whose plans, taken together, are what is asked for."""
    tokens_per_second: float | None
    eta_s: float | None
    """Of the stage, from the speed of each teacher."""
    judged: float = 0.0
    """Dollars that verdicts on these responses have cost."""
    trouble: str = ""
    """Why the counts are not complete."""
    rough: bool = False
    """The ETA takes teachers of unknown speed for as fast as the others."""

    @property
    def done(self) -> int:
        """Responses there are."""
        return sum(line.done for line in self.teachers)

    @property
    def wanted(self) -> int:
        """Responses that are asked for, as far as prompts have been routed."""
        return sum(line.wanted for line in self.teachers)

    @property
    def in_flight(self) -> int | None:
        """Requests sent to endpoints and not answered; None where none is being asked."""
        sent = [line.in_flight for line in self.teachers if line.in_flight is not None]
        return sum(sent) if sent else None

    @property
    def cost(self) -> float:
        """Dollars so far."""
        return sum(line.cost for line in self.teachers)

    @property
    def errors(self) -> int:
        """Prompts whose last attempt ended in an error."""
        return sum(line.counts.get("error", 0) for line in self.teachers)

    @property
    def everything(self) -> int | None:
        """N·M: responses if every teacher answered every prompt."""
        return None if self.prompts is None else self.prompts * len(self.teachers)

    @property
    def routed(self) -> int | None:
        """C·M + (N − C): responses of the routed run alone."""
        if self.prompts is None or self.calibrated is None or self.calibration_answers is None:
            return None
        return self.calibration_answers + self.prompts - self.calibrated

    @property
    def everything_cost(self) -> float | None:
        """Dollars if every teacher answered every prompt, at what its responses cost so far; None when unknown."""
        if self.prompts is None or any(not line.done for line in self.teachers):
            return None
        return sum(self.prompts * line.cost / line.done for line in self.teachers)


@dataclass(frozen=True, slots=True)
class _Counted:
    """Sums over the stored responses, and when they were made."""

    key: tuple[Any, ...]
    at: float
    seconds: float
    coverage: list[Coverage]
    means: dict[str, float]
    """Teacher → tokens per second of its newest stored answers."""
    last_id: int
    """The newest response that is in them."""
    unrouted: int
    prompts: int
    calibrated: int
    calibration_answers: int
    judged: float
    trouble: str


class Reader:
    """Reads for one screen; for one thread at a time."""

    def __init__(self) -> None:
        self._counted: _Counted | None = None
        self._newest: tuple[Any, tuple[Answer, ...]] = (None, ())
        """(what it was read at, the newest responses)."""

    def read(self, store: Store, job_id: int | None) -> Generated | None:
        """What to show; None without a job."""
        job = None if job_id is None else jobs.get(store, job_id)
        if job is None:
            return None
        snapshot = from_json(job.progress)
        live = job.effective_state == "running" and job.stage in STAGES
        context = context_cache.of(store, job)
        if context is None:
            return _unknown(job)
        counted = self._count(store, job, context, live)
        new = responses.since(store, job.id, counted.last_id) if live else {}
        lines = tuple(
            _line(
                teacher.name,
                teacher.backend,
                cover,
                new.get(cover.teacher_id, {}),
                snapshot.rows.get(teacher.name) if live else None,
                _retries(snapshot, teacher.name, teacher.backend),
                counted.means.get(teacher.name),
            )
            for teacher, cover in zip(context.teachers, counted.coverage, strict=True)
        )
        return Generated(
            job_id=job.id,
            state=job.effective_state,
            stage=job.stage,
            teachers=lines,
            newest=self._read_newest(store, context, (counted.at, new)),
            unrouted=counted.unrouted,
            prompts=counted.prompts,
            calibrated=counted.calibrated,
            calibration_answers=counted.calibration_answers,
            strategies=len(context.run.strategies),
            tokens_per_second=snapshot.tokens_per_second if live else None,
            eta_s=snapshot.eta_s if live else None,
            judged=counted.judged,
            trouble=counted.trouble,
            rough=snapshot.rough,
        )

    def _count(self, store: Store, job: Job, context: "RunContext", live: bool) -> _Counted:
        key = (store.name, job.id, job.epoch, job.effective_state, job.stage)
        clock, old = time.monotonic(), self._counted
        part = PART if live else PART_AT_REST
        if old is not None and old.key == key and clock - old.at < max(EVERY_S, part * old.seconds):
            return old
        from engine.job import spending
        from engine.job.calibration import CALIBRATED, TRAINED
        from engine.job.plan_store import design_id

        plans, trouble = _plans(store, context)
        sizes = prompts.counts(store, context.prompt_set)
        everyone = context.calibration.answered_by_all
        design = [] if (designed := design_id(context)) is None else [designed]
        coverage = responses.coverage(
            store, context.generations, context.prompt_set, everyone, [*plans, *design]
        )
        total = sum(sizes.get(split, 0) for split in TRAINED)
        several = sum(sizes.get(split, 0) for split in (CALIBRATED if design else everyone))
        self._counted = _Counted(
            key=key,
            at=clock,
            seconds=time.monotonic() - clock,
            coverage=coverage,
            means=_means(store, context),
            last_id=max((cover.last_id for cover in coverage), default=0),
            unrouted=0 if plans else total - several,
            prompts=total,
            calibrated=sum(sizes.get(split, 0) for split in CALIBRATED),
            calibration_answers=context.calibration.responses(sizes),
            judged=sum(spending.verdicts(context).values()),
            trouble=trouble,
        )
        return self._counted

    def _read_newest(self, store: Store, context: "RunContext", at: Any) -> tuple[Answer, ...]:
        """The newest responses, read anew where more is stored than when they were read."""
        if self._newest[0] != at:
            self._newest = at, _newest(store, context)
        return self._newest[1]


def _plans(store: Store, context: "RunContext") -> tuple[list[int], str]:
    """Ids of the run's plans, as far as there are any, and why they cannot be found."""
    try:
        found = [routing.plan(store, context.identity.plan_sha(name)) for name in context.run.strategies]
    except PersynError as problem:  # a model's file that the plan's hash is made of is gone
        return [], str(problem)
    return [plan.id for plan in found if plan is not None], ""


def _means(store: Store, context: "RunContext") -> dict[str, float]:
    found = {
        teacher.name: speeds.measured(store, which.teacher_id)
        for teacher, which in zip(context.teachers, context.generations, strict=True)
    }
    return {name: speed.tokens_per_second for name, speed in found.items() if speed is not None}


def _newest(store: Store, context: "RunContext") -> tuple[Answer, ...]:
    ours = set(context.generations)
    lines = responses.browse(store, prompt_set_id=context.prompt_set, limit=SHOWN, newest_first=True)
    return tuple(
        _answer(line) for line in lines if (line.response.teacher_id, line.response.generation_sha) in ours
    )


def _answer(line: ResponseLine) -> Answer:
    response = line.response
    return Answer(
        id=response.id,
        prompt_id=response.prompt_id,
        teacher=line.teacher,
        tokens=response.completion_tokens,
        status=response.status,
        finish_reason=response.finish_reason,
        text=response.text[:TEXT],
        error=response.error[:TEXT],
    )


def _served(backend: str) -> bool:
    """Whether its requests may be sent again before they are answered; not so of a kind that is not installed."""
    return backend in TEACHERS.names() and teacher_kind(backend).served


def _retries(snapshot: Snapshot, name: str, backend: str) -> int | None:
    """What the job has sent again to the teacher's endpoint, in all stages; None where it has asked none."""
    counted = [rows[name] for stage in STAGES if name in (rows := snapshot.retries.get(stage, {}))]
    if counted or not _served(backend):  # of a model in this process the store knows all
        return sum(counted)
    return None


def _line(
    name: str,
    backend: str,
    cover: Coverage,
    new: Mapping[str, tuple[int, float]],
    row: Row | None,
    retries: int | None,
    mean: float | None,
) -> TeacherLine:
    counts = {
        status: cover.counts.get(status, 0) + new.get(status, (0, 0.0))[0] for status in (*cover.counts, *new)
    }
    speed = row.tokens_per_second if row and row.done < row.total else None
    return TeacherLine(
        name=name,
        backend=backend,
        model_id=cover.teacher_id,
        done=min(cover.wanted, sum(counts.values())),
        wanted=cover.wanted,
        counts=counts,
        # What is sent again before it is answered is in no stored row: only the job's counters know it.
        retries=cover.retries or None if retries is None else max(cover.retries, retries),
        cost=cover.cost + sum(dollars for _, dollars in new.values()),
        tokens_per_second=speed,
        eta_s=row.eta_s if row and row.done < row.total else None,
        in_flight=row.in_flight if row and row.allowed else None,
        allowed=row.allowed if row else 0,
        most=row.most if row else 0,
        held=row.held if row and row.allowed else "",
        note=row.note if row else "",
        mean=mean if speed is None else None,
    )


def _unknown(job: Job) -> Generated:
    """The teachers as the run file names them, before anything of them is stored."""
    listed: Any = job.spec.get("teachers", ())
    return Generated(
        job_id=job.id,
        state=job.effective_state,
        stage=job.stage,
        teachers=tuple(
            TeacherLine(
                str(teacher.get("name", "?")), str(teacher.get("backend", "")), None, 0, 0, {}, None, 0.0
            )
            for teacher in listed
        ),
        newest=(),
        unrouted=None,
        prompts=None,
        calibrated=None,
        calibration_answers=None,
        strategies=len(job.spec.get("strategies", ())),
        tokens_per_second=None,
        eta_s=None,
    )
