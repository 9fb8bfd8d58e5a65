"""What the distil screen reads: curves, where each strategy's training stands, checkpoints and evaluations.

Curves are read on from the last point. What is compared between strategies is summed anew only when an adapter
or an evaluation has become complete.
"""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.job.progress import Snapshot, from_json
from persyn_tui.app.state import context_cache
from persyn_tui.app.widgets.plot import Series
from storage import jobs, results
from storage.errors import PersynError
from storage.job_records import Job
from storage.records import Adapter, Checkpoint
from storage.store import Store

if TYPE_CHECKING:
    from engine.job.adapters_of_run import Trained
    from engine.job.context import RunContext

BEFORE = "before"
"""The student before training, among the strategies."""
EVERY_S = 1.0
PAGE = 5000
PAGES = 4
"""Pages of points taken at a time, so that a long history does not keep the screen waiting."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An evaluation: a share of right answers with its 95% interval, all in 0 to 1."""

    accuracy: float
    low: float
    high: float
    count: int
    """Prompts."""


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
    rows: int | None = None
    generations: int | None = None
    """Responses of teachers that it rests on."""
    measured: Measured | None = None
    difference: float | None = None
    """persyn's accuracy − this one's, on the same prompts."""
    p: float | None = None
    changed: bool = False
    """Whether its dataset has changed since it was trained."""
    trained_rows: int | None = None
    """Rows it was trained on, where that is known."""


@dataclass(frozen=True, slots=True)
class Distilled:
    """What the screen shows."""

    job_id: int
    state: str
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
    curves: dict[str, Series] = field(compare=False)
    """By metric; `points` tells whether they have changed."""
    trouble: str = ""

    @property
    def line(self) -> StrategyLine:
        """The chosen strategy's row."""
        return next((line for line in self.lines if line.name == self.chosen), self.lines[0])


@dataclass(frozen=True, slots=True)
class _Settled:
    """What changes a few times in a job's life, and when it was read."""

    key: tuple[Any, ...]
    at: float
    trained: "dict[str, Trained]"
    evaluated: dict[str, Measured]
    compared: dict[str, dict[str, Any]]
    """Rows of `engine.report.summary.build`, by strategy."""
    trouble: str = ""

    def shown(self, name: str) -> Adapter | None:
        """The adapter of a strategy's row: the one of its dataset as it is now, else the one before."""
        found = self.trained.get(name)
        return None if found is None else found.now or found.before


@dataclass
class _Read:
    """What has been read of a job."""

    job_id: int
    curves: dict[tuple[str, str], Series] = field(default_factory=dict)
    """By strategy and metric."""
    after: dict[int, int] = field(default_factory=dict)
    """Job → its last point read."""
    points: int = 0
    settled: _Settled | None = None


class Reader:
    """Reads for one screen; for one thread at a time."""

    def __init__(self) -> None:
        self._read = _Read(0)

    def read(self, store: Store, job_id: int | None, chosen: str | None) -> Distilled | None:
        """What to show; None without a job.

        Args:
            store: an open store.
            job_id: the job.
            chosen: the strategy to read curves of; None for the one in training, else persyn, else the first.
        """
        from engine.methods import strategy_kinds

        job = None if job_id is None else jobs.get(store, job_id)
        if job is None:
            return None
        if self._read.job_id != job.id:
            self._read = _Read(job.id)
        snapshot = from_json(job.progress)
        more = self._read_on(store, job)
        context = context_cache.of(store, job)
        settled = self._settle(store, job, context)
        names = [str(name) for name in job.spec.get("strategies", ())]
        lines = [_before(settled, snapshot)]
        lines += [self._line(name, settled, snapshot, job) for name in names]
        if chosen not in [line.name for line in lines]:
            going = (line.name for phase in ("training", "stopped") for line in lines if line.phase == phase)
            chosen = next(going, None) or strategy_kinds.routed(names) or lines[-1].name
        adapter = settled.shown(chosen)
        return Distilled(
            job_id=job.id,
            state=job.effective_state,
            stage=job.stage,
            student=str(dict(job.spec.get("student", {})).get("name", "student")),
            lines=tuple(lines),
            chosen=chosen,
            checkpoints=() if adapter is None else tuple(results.checkpoints(store, adapter.id)),
            points=self._read.points,
            more=more,
            curves={
                metric: series.copy()
                for (name, metric), series in self._read.curves.items()
                if name == chosen
            },
            trouble=settled.trouble,
        )

    def _read_on(self, store: Store, job: Job) -> bool:
        """Whether points are left after reading the next ones of this job, and of those that it resumes."""
        left = PAGES
        for job_id in _same_run(store, job):
            while left:
                page = jobs.metrics(store, job_id, after_id=self._read.after.get(job_id, 0), limit=PAGE)
                for point in page:
                    name, _, metric = point.name.partition("/")
                    if point.stage == "distill" and point.value is not None:
                        self._read.curves.setdefault((name, metric), Series()).add(point.step, point.value)
                if page:
                    self._read.after[job_id] = page[-1].id
                    self._read.points += len(page)
                if len(page) < PAGE:
                    break
                left -= 1
            if not left:
                return True
        return False

    def _settle(self, store: Store, job: Job, context: "RunContext | None") -> _Settled:
        old, clock = self._read.settled, time.monotonic()
        if context is None:
            return _Settled((), clock, {}, {}, {})
        if old is not None and old.key[0] == job.effective_state and clock - old.at < EVERY_S:
            return old
        try:
            self._read.settled = _settle(store, job, context, old)
        except PersynError as problem:  # a model's file that the hashes are made of is gone
            self._read.settled = _Settled((job.effective_state,), clock, {}, {}, {}, str(problem))
        return self._read.settled

    def _line(self, name: str, settled: _Settled, snapshot: Snapshot, job: Job) -> StrategyLine:
        adapter, compared = settled.shown(name), settled.compared.get(name, {})
        row = snapshot.rows.get(name)
        curve = self._read.curves.get((name, "loss"), Series())
        versus = compared.get("persyn_minus_this") or {}
        live = job.effective_state == "running"
        phase, step, total = "waiting", 0, 0
        loss, speed, eta = curve.last, None, None
        if adapter is not None and adapter.complete:
            phase = "evaluated" if name in settled.evaluated else "trained"
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
            rows=compared.get("rows"),
            generations=compared.get("generations"),
            measured=settled.evaluated.get(name),
            difference=versus.get("difference"),
            p=versus.get("p"),
            changed=name in settled.trained and settled.trained[name].changed,
            trained_rows=compared.get("trained_rows"),
        )


def _same_run(store: Store, job: Job) -> list[int]:
    """This job and the earlier ones of the same run, oldest first: a stopped training goes on in a new job."""
    return [
        other.id
        for other in reversed(jobs.recent(store, limit=500))
        if other.spec_sha == job.spec_sha and other.id <= job.id
    ] or [job.id]


def _settle(store: Store, job: Job, context: "RunContext", old: _Settled | None) -> _Settled:
    from engine.job import adapters_of_run
    from engine.report import summary as report

    # The context is kept for long: an operator goes on excluding rows and putting them back.
    context.exclusions.forget()
    trained = {name: adapters_of_run.trained(context, name) for name in context.run.strategies}
    evaluated = dict[str, Measured]()
    for name, adapter in [(BEFORE, None), *((name, found.whole) for name, found in trained.items())]:
        evaluation = adapters_of_run.evaluation(context, adapter) if adapter or name == BEFORE else None
        if evaluation is not None:
            summary = evaluation.summary
            evaluated[name] = Measured(
                summary["accuracy"], summary["ci_low"], summary["ci_high"], summary["n"]
            )
    rows = tuple((found.whole and found.whole.id, context.excluded(name)) for name, found in trained.items())
    key = (job.effective_state, job.stage, rows, tuple(evaluated))
    if old is not None and old.key == key:
        compared = old.compared
    else:
        compared = {row["name"]: row for row in report.build(context, 0.0)["strategies"]}
    return _Settled(key, time.monotonic(), trained, evaluated, compared)


def _before(settled: _Settled, snapshot: Snapshot) -> StrategyLine:
    measured, row = settled.evaluated.get(BEFORE), snapshot.rows.get(BEFORE)
    if measured is None and row is not None and row.tokens and snapshot.stage == "evaluate":
        return StrategyLine(BEFORE, "evaluating", row.done, row.total, eta_s=row.eta_s)
    return StrategyLine(BEFORE, "waiting" if measured is None else "evaluated", measured=measured)
