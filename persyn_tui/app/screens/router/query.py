"""What the router screen reads: where the job stands, a plan's allocation and its newest assignments.

Reads run four times a second while a job writes. What is read every time is bounded; a sum over the whole
plan is made at most once a second, and never again once the plan is complete. What a run's results are a
function of (files are hashed for it) is worked out once for each job.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from engine.job.calibration import TRAINED
from engine.job.context import RunContext
from engine.job.progress import Snapshot, from_json
from engine.methods import strategy_kinds
from persyn_tui.app.state import context_cache
from persyn_tui.app.state.cached_query import QueryCache
from persyn_tui.app.widgets.plot import Series
from storage import jobs, prompts, routing
from storage.errors import PersynError
from storage.job_records import Job
from storage.records import Messages, Plan, RouterRecord, Share
from storage.store import Store

SUMMED_EVERY_S = 1.0
RETRIED_EVERY_S = 2.0
SHOWN = 200
"""Assignments in the list."""
NEAR_TIE = 0.2
"""Log-odds: below it the choice beats the next best with a probability under 55%."""
TEXT = 400
"""Characters kept of a prompt in the list."""
EARLY_STAGES = ("", "prompts", "calibrate", "score", "train_router")
"""Stages before there is anything to allocate."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One assignment as the list shows it."""

    prompt_id: int
    text: str
    teacher: str
    strengths: Mapping[str, float]
    """Teacher → the router's coefficient; empty for a strategy that does not ask it."""
    margin: float | None
    measured: bool
    """The router would have chosen another teacher: the rewards of the responses to this prompt are known."""

    @property
    def near_tie(self) -> bool:
        """Whether the router could as well have chosen the next best."""
        return self.margin is not None and self.margin < NEAR_TIE and not self.measured


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
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Measure → its values so far, while the router trains."""
    trouble: str = ""
    """Why the plans of this job cannot be found."""
    unknown: bool = False
    """The job's run is not one that this version can go on with."""
    context: RunContext | None = field(default=None, compare=False, repr=False)
    """The job's run, for what other reward settings would change; None until its prompts and models are stored."""

    @property
    def early(self) -> bool:
        return self.stage in EARLY_STAGES and not self.shares


@dataclass
class _Curves:
    """What the training of the router has measured, read on from the last point."""

    last: int = 0
    series: dict[str, Series] = field(default_factory=dict)


def read(store: Store, question: Question, cache: QueryCache) -> Routed | None:
    """What to show; None without a job."""
    job = None if question.job_id is None else jobs.get(store, question.job_id)
    if job is None:
        return None
    cache.follow((store.name, job.id))
    view, snapshot = context_cache.view(store, job), from_json(job.progress)
    strategies = () if view.run is None else tuple(view.run.strategies)
    strategy = question.strategy if question.strategy in strategies else _first(strategies)
    context, trouble = view.context, view.trouble
    shas: Mapping[str, str] = {}
    if context is not None:
        known = context
        shas, trouble = cache.get("plan shas", None, lambda: _plan_shas(known), lasts=RETRIED_EVERY_S)
    if trouble:
        context = None
    plan = router = None
    shares: list[Share] = []
    choices: tuple[Choice, ...] = ()
    names: dict[int | None, str] = {}
    total = 0
    if context is not None:
        names = {who.id: who.name for who in context.teachers}
        total = cache.get("total", None, lambda: _to_assign(store, context))
        plan = routing.plan(store, shas[strategy])
        if strategy_kinds.routed(strategies):
            router = routing.router(store, context.identity.router_sha)
    if plan is not None:
        shares = _shares(store, plan, cache)
        choices = _choices(store, plan, question, names, cache.keep("texts", dict[int, str]))
    assigned = sum(share.prompts for share in shares)
    if job.stage == "route" and strategy in snapshot.rows:
        assigned = max(assigned, snapshot.rows[strategy].done)
    return Routed(
        question=question,
        job_id=job.id,
        stage=job.stage,
        state=job.effective_state,
        snapshot=snapshot,
        strategies=strategies,
        strategy=strategy,
        plan=plan,
        total=total,
        assigned=assigned,
        teachers=tuple(str(teacher.get("name", "?")) for teacher in job.spec.get("teachers", [])),
        shares=tuple((names.get(share.teacher_id, "?"), share) for share in shares),
        choices=choices,
        router=router,
        curves=_curves(store, job, cache.keep("curves", _Curves)) if job.stage == "train_router" else {},
        trouble=trouble,
        unknown=view.run is None,
        context=context,
    )


def _first(strategies: Sequence[str]) -> str:
    """The one that asks the router where the run has it: this screen is about the router."""
    among = strategies or strategy_kinds.names()
    return strategy_kinds.routed(among) or among[0]


def _plan_shas(context: RunContext) -> tuple[Mapping[str, str], str]:
    """(strategy → hash of its plan, why there are none): the models' files are hashed, which may fail."""
    try:
        return {name: context.identity.plan_sha(name) for name in context.run.strategies}, ""
    except PersynError as problem:
        return {}, str(problem)


def _to_assign(store: Store, context: RunContext) -> int:
    counts = prompts.counts(store, context.prompt_set)
    return sum(counts.get(split, 0) for split in TRAINED)


def _shares(store: Store, plan: Plan, cache: QueryCache) -> list[Share]:
    lasts = inf if plan.complete else SUMMED_EVERY_S
    return cache.get(("shares", plan.id), plan.complete, lambda: routing.shares(store, plan.id), lasts=lasts)


def _choices(
    store: Store, plan: Plan, question: Question, names: Mapping[int | None, str], texts: dict[int, str]
) -> tuple[Choice, ...]:
    """The assignments of the list; `texts` keeps what is shown of their prompts."""
    select = routing.closest if question.closest else routing.newest
    rows = select(store, plan.id, question.teacher_id, SHOWN)
    if len(texts) > 20 * SHOWN:
        texts.clear()
    missing = [row.prompt_id for row in rows if row.prompt_id not in texts]
    for number, prompt in prompts.get(store, missing).items():
        texts[number] = last_words(prompt.messages)[:TEXT]
    order = plan.manifest.get("teachers", [])
    found = []
    for row in rows:
        teacher, values = names.get(row.teacher_id, "?"), row.strengths or ()
        strengths = dict(zip(order, values, strict=True)) if len(order) == len(values) else {}
        measured = bool(strengths) and max(strengths, key=strengths.__getitem__) != teacher
        margin, text = None if measured else row.margin, texts.get(row.prompt_id, "")
        found.append(Choice(row.prompt_id, text, teacher, strengths, margin, measured))
    return tuple(found)


def _curves(store: Store, job: Job, known: _Curves) -> Mapping[str, Sequence[float]]:
    for point in jobs.metrics(store, job.id, after_id=known.last):
        known.last = point.id
        if point.stage == "train_router" and point.value is not None:
            known.series.setdefault(point.name, Series()).add(point.step, point.value)
    return {name: tuple(series.values) for name, series in known.series.items()}


def last_words(messages: Messages) -> str:
    """The text of a conversation's last turn."""
    return str(messages[-1]["content"]) if messages else ""
