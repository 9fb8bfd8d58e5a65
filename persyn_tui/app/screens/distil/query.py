"""What the distil screen reads: curves, where each strategy's training stands, checkpoints and evaluations.

Curves are read on from the last point. What is compared between strategies is summed anew only when an adapter
or an evaluation has become complete.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from engine.job import adapters_of_run
from engine.job.adapters_of_run import Trained
from engine.job.context import RunContext
from engine.job.progress import Snapshot, from_json
from engine.methods import strategy_kinds
from engine.pipeline.display import doing
from engine.report import summary
from persyn_tui.app.state import context_cache
from persyn_tui.app.state.cached_query import QueryCache
from persyn_tui.app.widgets.plot import Series
from storage import jobs, results
from storage.errors import PersynError
from storage.job_records import Job
from storage.records import Adapter, Checkpoint
from storage.store import Store

BEFORE = "before"
"""The student before training, among the strategies."""
EVERY_S = 1.0
PAGE = 5000
PAGES = 4
"""Pages of points taken at a time, so that a long history does not keep the screen waiting."""


class Accuracy(NamedTuple):
    """A share of right answers with its 95% interval, all in 0 to 1."""

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StrategyLine:
    """One strategy's row."""

    name: str
    phase: str
    """waiting, training, stopped, trained, evaluating or evaluated."""
    step: int = 0
    total: int = 0
    """Steps, or prompts while it is evaluated; 0 when not known."""
    loss: float | None = None
    """Nats per token: of the last step, or of the last epoch once it is trained."""
    tokens_per_second: float | None = None
    eta_s: float | None = None
    accuracy: Accuracy | None = None
    changed: bool = False
    """Whether its dataset has changed since it was trained."""
    compared: Mapping[str, Any] = field(default_factory=dict)
    """Its row of `engine.report.summary.build`; empty while there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Distilled:
    """What the screen shows."""

    job_id: int
    stage: str
    student: str
    lines: tuple[StrategyLine, ...]
    """The student before training first."""
    chosen: str
    """The strategy whose curves and checkpoints are here."""
    checkpoints: tuple[Checkpoint, ...]
    """Latest first."""
    points: int
    """Points read so far, of all curves."""
    more: bool
    """Whether there are more to read."""
    curves: Mapping[str, Series] = field(compare=False)
    """By metric; `points` tells whether they have changed."""
    doing: str = ""
    """What is done now, where nothing can be counted."""
    trouble: str = ""

    @property
    def line(self) -> StrategyLine:
        return next((line for line in self.lines if line.name == self.chosen), self.lines[0])


@dataclass
class _Curves:
    """Points of this job, and of those that it resumes."""

    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    """By strategy and metric."""
    after: dict[int, int] = field(default_factory=dict)
    """Job → its last point read."""
    points: int = 0


@dataclass(frozen=True, slots=True)
class _Settled:
    """What changes a few times in a job's life."""

    trained: Mapping[str, Trained] = field(default_factory=dict)
    accuracies: Mapping[str, Accuracy] = field(default_factory=dict)
    compared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By strategy, as in `StrategyLine`."""
    trouble: str = ""

    def shown(self, name: str) -> Adapter | None:
        """The adapter of a strategy's row: the one of its dataset as it is now, else the one before."""
        found = self.trained.get(name)
        return None if found is None else found.now or found.before


def read(store: Store, job_id: int | None, chosen: str | None, cache: QueryCache) -> Distilled | None:
    """What to show; None without a job.

    Curves are of the `chosen` strategy: None for the one in training, else the one that asks the router, else the last.
    """
    job = None if job_id is None else jobs.get(store, job_id)
    if job is None:
        return None
    cache.follow((store.name, job.id))
    snapshot, curves = from_json(job.progress), cache.keep("curves", _Curves)
    more = _read_on(store, job, curves)
    context, settled = context_cache.of(store, job), _Settled()
    if context is not None:
        state = job.effective_state
        settled = cache.get("settled", state, lambda: _settled(job, context, cache), lasts=EVERY_S)
    names = [str(name) for name in job.spec.get("strategies", ())]
    lines = [_before(settled, snapshot)]
    for name in names:
        loss = curves.series.get((name, "loss"), Series())
        lines.append(_line(name, settled, snapshot, job, loss))
    if chosen not in [line.name for line in lines]:
        going = (line.name for phase in ("training", "stopped") for line in lines if line.phase == phase)
        chosen = next(going, None) or strategy_kinds.routed(names) or lines[-1].name
    adapter = settled.shown(chosen)
    return Distilled(
        job_id=job.id,
        stage=job.stage,
        student=str(dict(job.spec.get("student", {})).get("name", "student")),
        lines=tuple(lines),
        chosen=chosen,
        checkpoints=() if adapter is None else tuple(results.checkpoints(store, adapter.id)),
        points=curves.points,
        more=more,
        curves={metric: found.copy() for (name, metric), found in curves.series.items() if name == chosen},
        doing=doing(snapshot)
        if job.effective_state == "running" and job.stage in ("distill", "evaluate")
        else "",
        trouble=settled.trouble,
    )


def _read_on(store: Store, job: Job, curves: _Curves) -> bool:
    """Whether points are left after reading the next ones of this job, and of those that it resumes."""
    left = PAGES
    for job_id in _same_run(store, job):
        while left:
            page = jobs.metrics(store, job_id, after_id=curves.after.get(job_id, 0), limit=PAGE)
            for point in page:
                name, _, metric = point.name.partition("/")
                if point.stage == "distill" and point.value is not None:
                    curves.series.setdefault((name, metric), Series()).add(point.step, point.value)
            if page:
                curves.after[job_id] = page[-1].id
                curves.points += len(page)
            if len(page) < PAGE:
                break
            left -= 1
        if not left:
            return True
    return False


def _same_run(store: Store, job: Job) -> list[int]:
    """This job and the earlier ones of the same run, oldest first: a stopped training goes on in a new job."""
    return [
        other.id
        for other in reversed(jobs.recent(store, limit=500))
        if other.spec_sha == job.spec_sha and other.id <= job.id
    ] or [job.id]


def _settled(job: Job, context: RunContext, cache: QueryCache) -> _Settled:
    # The context is kept for long: an operator goes on excluding rows and putting them back.
    context.exclusions.forget()

    def compared() -> dict[str, Mapping[str, Any]]:
        return {row.name: asdict(row) for row in summary.build(context, 0.0).strategies}

    try:
        trained = {name: adapters_of_run.trained(context, name) for name in context.run.strategies}
        accuracies = _accuracies(context, trained)
        rows = [(found.whole and found.whole.id, context.excluded(name)) for name, found in trained.items()]
        key = (job.effective_state, job.stage, rows, list(accuracies))
        return _Settled(trained, accuracies, cache.get("compared", key, compared))
    except PersynError as problem:  # a model's file that the hashes are made of is gone
        return _Settled(trouble=str(problem))


def _accuracies(context: RunContext, trained: Mapping[str, Trained]) -> dict[str, Accuracy]:
    """Of the student before training and of the strategies, those that are evaluated."""
    evaluations = {BEFORE: adapters_of_run.evaluation(context, None)}
    for name, found in trained.items():
        if found.whole is not None:
            evaluations[name] = adapters_of_run.evaluation(context, found.whole)
    return {
        name: Accuracy(*(found.summary[key] for key in ("accuracy", "ci_low", "ci_high")))
        for name, found in evaluations.items()
        if found is not None
    }


def _before(settled: _Settled, snapshot: Snapshot) -> StrategyLine:
    accuracy, row = settled.accuracies.get(BEFORE), snapshot.rows.get(BEFORE)
    if accuracy is None and row is not None and row.tokens and snapshot.stage == "evaluate":
        return StrategyLine(BEFORE, "evaluating", row.done, row.total, eta_s=row.eta_s)
    return StrategyLine(BEFORE, "waiting" if accuracy is None else "evaluated", accuracy=accuracy)


def _line(name: str, settled: _Settled, snapshot: Snapshot, job: Job, curve: Series) -> StrategyLine:
    """A strategy's row; `curve` is its loss so far."""
    adapter, row = settled.shown(name), snapshot.rows.get(name)
    live = job.effective_state == "running"
    phase, step, total = "waiting", 0, 0
    loss, speed, eta = curve.last, None, None
    if adapter is not None and adapter.complete:
        phase = "evaluated" if name in settled.accuracies else "trained"
        step = total = int(adapter.metrics.get("steps", 0))
        loss, speed = adapter.metrics.get("loss"), adapter.metrics.get("tokens_per_second")
        if live and job.stage == "evaluate" and row is not None and row.tokens and phase == "trained":
            phase, step, total, eta = "evaluating", row.done, row.total, row.eta_s
    elif row is not None and row.tokens and job.stage == "distill":
        phase = "training" if live else "stopped"
        step, total = row.done, row.total
        if live:
            speed, eta = row.tokens_per_second, row.eta_s
    elif len(curve):
        phase, step = "stopped", curve.steps[-1]
    return StrategyLine(
        name=name,
        phase=phase,
        step=step,
        total=total,
        loss=loss,
        tokens_per_second=speed,
        eta_s=eta,
        accuracy=settled.accuracies.get(name),
        changed=name in settled.trained and settled.trained[name].changed,
        compared=settled.compared.get(name, {}),
    )
