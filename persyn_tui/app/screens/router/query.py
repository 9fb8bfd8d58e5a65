"""What the router screen reads: where the job stands, a plan's allocation and its newest assignments.

Reads run four times a second while a job writes. What is read every time is bounded; a sum over the whole
plan is made at most once a second, and never again once the plan is complete. What a run's results are a
function of (files are hashed for it) is worked out once for each job.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.job.progress import Snapshot, from_json
from storage import jobs, prompts, routing
from storage.errors import PersynError
from storage.job_records import Job
from storage.records import Assignment, Messages, Plan, RouterRecord, Share
from storage.store import Store

if TYPE_CHECKING:
    from engine.job.context import RunContext

SUMMED_EVERY_S = 1.0
RETRIED_EVERY_S = 2.0
SHOWN = 200
"""Assignments in the list."""
NEAR_TIE = 0.2
"""Log-odds: below it the choice beats the next best with a probability under 55%."""
TEXT = 400
"""Characters kept of a prompt in the list."""
CURVES = ("loss", "held_out_loss", "hit_at_1", "hit_at_3", "regret")


@dataclass(frozen=True, slots=True)
class Choice:
    """One assignment as the list shows it."""

    prompt_id: int
    text: str
    teacher: str
    strengths: tuple[float, ...] | None
    margin: float | None
    measured: bool
    """The router would have chosen another teacher: the rewards of this prompt's answers are known."""

    @property
    def near_tie(self) -> bool:
        """Whether the router could as well have chosen the next best."""
        return self.margin is not None and self.margin < NEAR_TIE and not self.measured


@dataclass(frozen=True, slots=True)
class Curve:
    """One measure of a router's training."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What the screen wants to see."""

    job_id: int | None
    strategy: str | None
    teacher_id: int | None
    """Only this teacher's prompts."""
    closest: bool
    """Smallest margins first, instead of the newest."""


@dataclass(frozen=True, slots=True)
class Routed:
    """What the screen shows."""

    question: Question
    job_id: int
    stage: str
    state: str
    snapshot: Snapshot
    strategies: tuple[str, ...]
    strategy: str
    plan: Plan | None
    total: int
    """Prompts that the plan has to assign; 0 while not known."""
    assigned: int
    teachers: tuple[str, ...]
    """In the order of the strengths."""
    shares: tuple[tuple[str, Share], ...] = ()
    choices: tuple[Choice, ...] = ()
    router: RouterRecord | None = None
    curves: tuple[Curve, ...] = ()
    trouble: str = ""
    """Why the plans of this job cannot be found."""
    unknown: bool = False
    """The job's run is not one that this version can go on with."""


@dataclass
class _Followed:
    """What is kept of the job that is followed."""

    job_id: int
    context: "RunContext | None" = None
    trouble: str = ""
    unknown: bool = False
    tried_at: float = 0.0
    strategies: tuple[str, ...] = ()
    total: int = 0
    summed: dict[int, tuple[bool, float, list[Share]]] = field(default_factory=dict)
    """Plan id → (it was complete, when, shares)."""
    curves: dict[str, list[float]] = field(default_factory=dict)
    last_metric: int = 0
    texts: dict[int, str] = field(default_factory=dict)


class Reader:
    """Reads for one screen; for one thread at a time."""

    def __init__(self) -> None:
        self._followed = _Followed(0)

    @property
    def context(self) -> "RunContext | None":
        """The followed job's context, once its prompts and models are stored."""
        return self._followed.context

    def read(self, store: Store, question: Question) -> Routed | None:
        """What to show; None without a job."""
        from engine.methods import strategy_kinds

        job = None if question.job_id is None else jobs.get(store, question.job_id)
        if job is None:
            return None
        if self._followed.job_id != job.id:
            self._followed = _Followed(job.id)
        known, snapshot = self._followed, from_json(job.progress)
        self._understand(store, job)
        strategy = question.strategy if question.strategy in known.strategies else _first(known.strategies)
        context = known.context
        plan = router = None
        if context is not None:
            plan = routing.plan(store, context.identity.plan_sha(strategy))
            if strategy_kinds.routed(known.strategies):
                router = routing.router(store, context.identity.router_sha)
        shares = self._shares(store, plan)
        names = {} if context is None else {who.id: who.name for who in context.teachers}
        assigned = sum(share.prompts for share in shares)
        if job.stage == "route" and strategy in snapshot.rows:
            assigned = max(assigned, snapshot.rows[strategy].done)
        return Routed(
            question=question,
            job_id=job.id,
            stage=job.stage,
            state=job.effective_state,
            snapshot=snapshot,
            strategies=known.strategies,
            strategy=strategy,
            plan=plan,
            total=known.total,
            assigned=assigned,
            teachers=tuple(str(name) for name in job_teachers(job)),
            shares=tuple((names.get(share.teacher_id, "?"), share) for share in shares),
            choices=() if plan is None else self._choices(store, plan, question, names),
            router=router,
            curves=self._curves(store, job) if job.stage == "train_router" else (),
            trouble=known.trouble,
            unknown=known.unknown,
        )

    def _understand(self, store: Store, job: Job) -> None:
        """Finds the job's models and prompts, once they are stored."""
        known = self._followed
        clock = time.monotonic()
        if known.context is not None or clock - known.tried_at < RETRIED_EVERY_S:
            return
        from engine.job.calibration import TRAINED
        from engine.pipeline.run_view import reader, run_of

        known.tried_at = clock
        try:
            run = run_of(job)
        except PersynError as problem:
            known.trouble, known.unknown = str(problem), True
            return
        try:
            known.strategies = tuple(run.strategies)
            context = reader(store, run)
            for strategy in run.strategies:
                context.identity.plan_sha(strategy)  # hashes the models' files, which may fail, once
        except PersynError as problem:
            known.trouble = str(problem)
            return
        counts = prompts.counts(store, context.prompt_set)
        known.total = sum(counts.get(split, 0) for split in TRAINED)
        known.context, known.trouble = context, ""

    def _shares(self, store: Store, plan: Plan | None) -> list[Share]:
        if plan is None:
            return []
        clock = time.monotonic()
        complete, when, found = self._followed.summed.get(plan.id, (False, -SUMMED_EVERY_S, []))
        if not complete and clock - when >= SUMMED_EVERY_S:
            found = routing.shares(store, plan.id)
            self._followed.summed[plan.id] = (plan.complete, clock, found)
        return found

    def _choices(
        self, store: Store, plan: Plan, question: Question, names: dict[int | None, str]
    ) -> tuple[Choice, ...]:
        select = routing.closest if question.closest else routing.newest
        rows = select(store, plan.id, question.teacher_id, SHOWN)
        texts = self._followed.texts
        if len(texts) > 20 * SHOWN:
            texts.clear()
        missing = [row.prompt_id for row in rows if row.prompt_id not in texts]
        for number, prompt in prompts.get(store, missing).items():
            texts[number] = last_words(prompt.messages)[:TEXT]
        order = plan.manifest.get("teachers", [])
        return tuple(choice_of(row, names, order, texts.get(row.prompt_id, "")) for row in rows)

    def _curves(self, store: Store, job: Job) -> tuple[Curve, ...]:
        known = self._followed
        for point in jobs.metrics(store, job.id, after_id=known.last_metric):
            known.last_metric = point.id
            if point.stage == "train_router" and point.value is not None:
                known.curves.setdefault(point.name, []).append(point.value)
        return tuple(Curve(name, tuple(known.curves[name])) for name in CURVES if name in known.curves)


def choice_of(row: Assignment, names: dict[int | None, str], order: Sequence[str], text: str) -> Choice:
    """An assignment with the names of its teachers."""
    teacher = names.get(row.teacher_id, "?")
    measured = False
    if row.strengths and len(order) == len(row.strengths):
        measured = order[row.strengths.index(max(row.strengths))] != teacher
    return Choice(row.prompt_id, text, teacher, row.strengths, None if measured else row.margin, measured)


def last_words(messages: Messages) -> str:
    """The text of a conversation's last turn."""
    return str(messages[-1]["content"]) if messages else ""


def job_teachers(job: Job) -> list[Any]:
    """The names of a job's teachers, in its run file's order."""
    return [teacher.get("name", "?") for teacher in job.spec.get("teachers", [])]


def _first(strategies: Sequence[str]) -> str:
    """The one that asks the router where the run has it: this screen is about the router."""
    from engine.methods import strategy_kinds

    return strategy_kinds.routed(strategies) or (strategies[0] if strategies else "persyn")
