"""What the generation screen reads: per teacher what is asked and what is there, and the newest responses.

While the job runs this is read several times a second. The sums over all responses are made again only so
often that they take a small part of the time; between two of them what the job has stored since is added. So
the counts and the rows below them are of what is stored, and never fall.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.base.plugins import TEACHERS
from engine.config.kinds import teacher_kind
from engine.job import spending
from engine.job.calibration import CALIBRATED, TRAINED
from engine.job.context import RunContext
from engine.job.plan_store import design_id
from engine.job.progress import Row, Snapshot, from_json
from persyn_tui.app.state import context_cache
from persyn_tui.app.state.cached_query import QueryCache
from storage import browse, jobs, prompts, responses, routing, speeds
from storage.errors import PersynError
from storage.listing import Listing
from storage.records import Coverage, ResponseLine
from storage.store import Store

STAGES = ("calibrate", "generate")
"""The stages in which teachers respond."""
EVERY_S = 1.0
PART = 20
PART_AT_REST = 200
"""The sums take at most one part in so many of the time."""
SHOWN = 60
"""Newest responses."""


@dataclass(frozen=True, slots=True)
class TeacherLine:
    """One teacher's row."""

    name: str
    backend: str
    wanted: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    """Responses by status."""
    retries: int | None = None
    """Requests sent again; None where the job has asked its endpoint nothing, and no stored row knows of any."""
    cost: float = 0.0
    """Dollars."""
    mean: float | None = None
    """Tokens per second over the responses that are stored; None where that is not known."""
    now: Row = field(default_factory=Row)
    """What the engine counts while the teacher is being asked; all zero where it is not."""

    @property
    def responses(self) -> int:
        """Responses of any status."""
        return sum(self.counts.values())

    @property
    def unusable(self) -> int:
        """Responses that are not `ok`."""
        return self.responses - self.counts.get("ok", 0)

    @property
    def done(self) -> int:
        """Responses of any status, of those that are wanted."""
        return min(self.wanted, self.responses)

    @property
    def tokens_per_second(self) -> float | None:
        """None where it does not respond now."""
        return self.now.tokens_per_second if self.now.done < self.now.total else None

    @property
    def held(self) -> str:
        """Why fewer requests may be in flight than the run file allows; empty where nothing stands in their way."""
        return self.now.held if self.now.allowed else ""


@dataclass(frozen=True, slots=True)
class Sums:
    """What is asked for in all, beside the routed run alone and the run in full; sums over the stored responses."""

    prompts: int
    """N: what all teachers would have to answer, each."""
    calibrated: int
    """C: those of them that every teacher answers for the router."""
    calibration_responses: int
    """C·M, or fewer where each of them is answered by some teachers only."""
    unrouted: int
    """Prompts that still wait for a teacher, each of which brings at least one response."""
    coverage: list[Coverage]
    """By teacher."""
    means: Mapping[str, float]
    """Teacher → tokens per second of its newest stored responses."""
    judged: float
    """Dollars that verdicts on these responses have cost."""
    trouble: str
    """Why the counts are not complete."""

    @property
    def routed(self) -> int:
        """C·M + (N − C): responses of the routed run alone."""
        return self.calibration_responses + self.prompts - self.calibrated

    @property
    def everything(self) -> int:
        """N·M: responses if every teacher answered every prompt."""
        return self.prompts * len(self.coverage)


@dataclass(frozen=True, slots=True)
class Generated:
    """What the screen shows."""

    job_id: int
    teachers: tuple[TeacherLine, ...]
    strategies: int
    """Whose plans, taken together, are what is asked for."""
    sums: Sums | None = None
    """None while the prompts are being read."""
    newest: tuple[ResponseLine, ...] = ()
    stage: Snapshot | None = None
    """None where no teacher is being asked."""

    @property
    def done(self) -> int:
        return sum(line.done for line in self.teachers)

    @property
    def wanted(self) -> int:
        """Responses that are asked for, as far as prompts have been routed."""
        return sum(line.wanted for line in self.teachers)

    @property
    def in_flight(self) -> int | None:
        """Requests sent to endpoints and not answered; None where none is being asked."""
        sent = [line.now.in_flight for line in self.teachers if line.now.allowed]
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
    def everything_cost(self) -> float | None:
        """Dollars if every teacher answered every prompt, at what its responses cost so far; None when unknown."""
        if self.sums is None or any(not line.done for line in self.teachers):
            return None
        return sum(self.sums.prompts * line.cost / line.done for line in self.teachers)


def read(store: Store, job_id: int | None, cache: QueryCache) -> Generated | None:
    """What to show of a job; None without one."""
    job = None if job_id is None else jobs.get(store, job_id)
    if job is None:
        return None
    strategies = len(job.spec.get("strategies", ()))
    context = context_cache.of(store, job)
    if context is None:  # nothing of its teachers is stored yet
        listed = job.spec.get("teachers", ())
        named = tuple(TeacherLine(str(t.get("name", "?")), str(t.get("backend", ""))) for t in listed)
        return Generated(job.id, named, strategies)
    snapshot = from_json(job.progress)
    live = job.effective_state == "running" and job.stage in STAGES
    cache.follow((store.name, job.id))
    sums = cache.get(
        "sums",
        (job.epoch, job.effective_state, job.stage),
        lambda: _sums(store, context),
        lasts=EVERY_S,
        times_cost=PART if live else PART_AT_REST,
    )
    last_id = max((cover.last_id for cover in sums.coverage), default=0)
    new = responses.since(store, job.id, last_id) if live else {}
    return Generated(
        job_id=job.id,
        teachers=_teachers(context, sums, new, snapshot, live),
        strategies=strategies,
        sums=sums,
        newest=cache.get("newest", (sums, new), lambda: _newest(store, context)),
        stage=snapshot if live else None,
    )


def _sums(store: Store, context: RunContext) -> Sums:
    plans, trouble = _plans(store, context)
    sizes = prompts.counts(store, context.prompt_set)
    everyone = context.calibration.answered_by_all
    design = [] if (designed := design_id(context)) is None else [designed]
    total = sum(sizes.get(split, 0) for split in TRAINED)
    several = sum(sizes.get(split, 0) for split in (CALIBRATED if design else everyone))
    teachers = zip(context.teachers, context.generations, strict=True)
    speed = {teacher.name: speeds.measured(store, which.teacher_id) for teacher, which in teachers}
    return Sums(
        prompts=total,
        calibrated=sum(sizes.get(split, 0) for split in CALIBRATED),
        calibration_responses=context.calibration.responses(sizes),
        unrouted=0 if plans else total - several,
        coverage=responses.coverage(
            store, context.generations, context.prompt_set, everyone, [*plans, *design]
        ),
        means={name: known.tokens_per_second for name, known in speed.items() if known is not None},
        judged=sum(spending.of_verdicts(context).values()),
        trouble=trouble,
    )


def _plans(store: Store, context: RunContext) -> tuple[list[int], str]:
    """Ids of the run's plans, as far as there are any, and why they cannot be found."""
    try:
        found = [routing.plan(store, context.identity.plan_sha(name)) for name in context.run.strategies]
    except PersynError as problem:  # a model's file that the plan's hash is made of is gone
        return [], str(problem)
    return [plan.id for plan in found if plan is not None], ""


def _newest(store: Store, context: RunContext) -> tuple[ResponseLine, ...]:
    ours = set(context.generations)
    lines = browse.browse(store, Listing(prompt_set_id=context.prompt_set), limit=SHOWN)
    return tuple(line for line in lines if (line.response.teacher_id, line.response.generation_sha) in ours)


def _teachers(
    context: RunContext,
    sums: Sums,
    new: Mapping[int, Mapping[str, tuple[int, float]]],
    snapshot: Snapshot,
    live: bool,
) -> tuple[TeacherLine, ...]:
    """The teachers by the sums, by what is stored since (`responses.since`), and by the running engine's counters."""
    lines = []
    for teacher, cover in zip(context.teachers, sums.coverage, strict=True):
        since = new.get(cover.teacher_id, {})
        retries = _retries(snapshot, teacher.name, teacher.backend)
        lines.append(
            TeacherLine(
                name=teacher.name,
                backend=teacher.backend,
                wanted=cover.wanted,
                counts={
                    status: cover.counts.get(status, 0) + since.get(status, (0, 0.0))[0]
                    for status in (*cover.counts, *since)
                },
                # What is sent again before it is answered is in no stored row: only the job's counters know it.
                retries=cover.retries or None if retries is None else max(cover.retries, retries),
                cost=cover.cost + sum(dollars for _, dollars in since.values()),
                mean=sums.means.get(teacher.name),
                now=snapshot.rows.get(teacher.name, Row()) if live else Row(),
            )
        )
    return tuple(lines)


def _retries(snapshot: Snapshot, name: str, backend: str) -> int | None:
    """What the job has sent again to the teacher's endpoint, in all stages; None where it has asked none."""
    counted = [rows[name] for stage in STAGES if name in (rows := snapshot.retries.get(stage, {}))]
    # Of a model in this process the store knows all; a kind that is not installed is taken for one.
    served = backend in TEACHERS.names() and teacher_kind(backend).served
    return sum(counted) if counted or not served else None
