"""What a finished run has to show: strategies side by side, and the router beside chance. All from the store."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.job import adapters_of_run, failing_teachers, plan_store, reward_config, scorer_ids, spending
from engine.job.calibration import CALIBRATED
from engine.job.context import RunContext
from engine.job.failing_teachers import FailingTeacher
from engine.methods import statistics, strategy_kinds
from engine.scoring import score_table
from storage import datasets, jobs, prompts, results, routing
from storage.records import Dataset, Evaluation
from storage.store import Store

COLUMNS = ("generations", "rows", "after", "95 %", "mean\nreward", "{} − this,\npoints (p)")
"""The last with the strategy that asks the router, which all others are compared with."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """How many prompts each part of the run has."""

    calibration: int
    """C of C·M + (N − C): everything that all teachers answer, the router's held-out prompts included."""
    calibration_answers: int
    """Responses to them."""
    held_out: int
    synthesis: int
    evaluation: int


@dataclass(frozen=True, slots=True)
class Router:
    """How well the trained router finds the best teacher; None where it was not measured."""

    hit_at_1: float
    hit_at_3: float
    regret: float
    chance_hit_at_1: float
    chance_hit_at_3: float
    random_regret: float
    n: int
    """Prompts that it was measured on."""
    hit_at_1_low: float | None
    hit_at_1_high: float | None
    on: str
    """What these prompts are."""
    best_single_hit_at_1: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars."""

    answers: float
    verdicts: Mapping[str, float]
    """By scorer that is asked at an endpoint."""
    budget: float | None

    def __str__(self) -> str:
        """One line; empty when the run was free."""
        parts = {"responses": self.answers, **self.verdicts}
        total = sum(parts.values())
        if not total and self.budget is None:
            return ""
        of = "" if self.budget is None else f" of ${self.budget:,.2f}"
        return f"spent ${total:,.4f}{of}: " + ", ".join(
            f"${spent:,.4f} for {name}" for name, spent in parts.items()
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of the strategy that asks the router minus that of another, on the same prompts."""

    difference: float
    ci_low: float
    ci_high: float
    p: float

    def __str__(self) -> str:
        """In points: `-22.5 (0.031)`, the p value in brackets."""
        return f"{100 * self.difference:+.1f} ({'<.001' if self.p < 0.001 else format(self.p, '.3f')})"


@dataclass(frozen=True, slots=True)
class Strategy:
    """What a strategy has led to; None for what is not there."""

    name: str
    generations: int | None
    rows: int | None
    accuracy_before: float | None
    accuracy_after: float | None
    ci_low: float | None
    ci_high: float | None
    mean_reward: float | None
    """By this run's settings, whatever the dataset was made with."""
    mean_quality: float | None
    mean_learnability: float | None
    adapter: str | None
    """Its folder."""
    trained_rows: int | None
    changed_since: bool
    """Whether the dataset has changed since the adapter was trained."""
    merged: str | None
    """Folder of the student with the adapter merged into it."""
    persyn_minus_this: Difference | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A run's results."""

    seconds: float
    prompts: Prompts
    teachers: int
    student: str
    store: str
    router: Router | None
    cost: Cost
    verdicts: Mapping[str, Mapping[str, int]]
    """Scorer → status → how many of its scores."""
    strategies: tuple[Strategy, ...]
    failing_teachers: tuple[FailingTeacher, ...] = ()
    """Those that have no usable response to more than half of their prompts."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show yet: the run stopped before any strategy was routed."""
        return all(row.generations is None for row in self.strategies)


def build(context: RunContext, seconds: float) -> Summary:
    """The results of a run that has gone through its stages; `seconds` is the wall time to report."""
    counts = prompts.counts(context.store, context.prompt_set)
    routed = strategy_kinds.routed(context.run.strategies)
    router = None if routed is None else routing.router(context.store, context.identity.router_sha)
    metrics: Mapping[str, Any] = {} if router is None else router.metrics
    measured: dict[str, Any] = {field.name: metrics.get(field.name) for field in fields(Router)}
    before = adapters_of_run.evaluation(context, None)
    accuracy = None if before is None else before.summary["accuracy"]
    return Summary(
        seconds=round(seconds, 1),
        prompts=Prompts(
            calibration=sum(counts.get(split, 0) for split in CALIBRATED),
            calibration_answers=context.calibration.responses(counts),
            held_out=counts.get("validation", 0),
            synthesis=counts.get("synthesis", 0),
            evaluation=counts.get("evaluation", 0),
        ),
        teachers=len(context.teachers),
        student=context.student.name,
        store=context.store.name,
        router=None if router is None else Router(**measured),
        cost=_cost(context),
        verdicts={name: scorer_ids.statuses(context, name) for name in scorer_ids.names(context)},
        strategies=tuple(_strategy(context, name, routed, accuracy) for name in context.run.strategies),
        failing_teachers=failing_teachers.find(context),
    )


def as_json(found: Summary) -> dict[str, Any]:
    """The results as plain JSON."""
    data = asdict(found)
    for row in data["strategies"]:
        if row["persyn_minus_this"] is None:
            del row["persyn_minus_this"]
    return data


def unfinished(store: Store, job_id: int, context: RunContext | None) -> dict[str, Any]:
    """What a job that did not reach its end has to say, as plain JSON: where it stands, why, and what it has cost.

    `context` is what it worked with; None where it did not get that far.
    """
    job = jobs.get(store, job_id)
    progress = job.progress if job else {}
    return {
        "job": job_id,
        "state": job.effective_state if job else None,
        "stage": job.stage if job else None,
        "done": progress.get("done"),
        "total": progress.get("total"),
        "error": job.error if job else None,
        "store": store.name,
        "cost": asdict(_cost(context)) if context and context.prompt_set else None,
        "failing_teachers": [asdict(teacher) for teacher in failing_teachers.find(context)]
        if context and context.prompt_set
        else [],
    }


def _cost(context: RunContext) -> Cost:
    return Cost(
        spending.of_responses(context), spending.of_verdicts(context), context.run.generation.budget_usd
    )


def _strategy(context: RunContext, name: str, routed: str | None, before: float | None) -> Strategy:
    store, identity = context.store, context.identity
    plan = routing.plan(store, identity.plan_sha(name))
    dataset = datasets.find(store, identity.dataset_sha(name))
    found = adapters_of_run.trained(context, name)
    adapter = found.whole
    after = adapters_of_run.evaluation(context, adapter) if adapter else None
    measured: Mapping[str, Any] = after.summary if after else {}
    means = datasets.means(store, dataset.id) if dataset else {}
    merged = adapter.metrics.get("merged") if adapter else None
    generations = None
    if plan is not None:
        generations = routing.generations_used(
            store,
            plan.id,
            context.generations,
            calibration=context.calibration.needed_by(name),
            full=strategy_kinds.load(name).needs_full_parallel,
            design_id=plan_store.design_id(context),
        )
    return Strategy(
        name=name,
        generations=generations,
        rows=datasets.count(store, dataset.id) if dataset else None,
        accuracy_before=before,
        accuracy_after=measured.get("accuracy"),
        ci_low=measured.get("ci_low"),
        ci_high=measured.get("ci_high"),
        mean_reward=_mean_reward(context, dataset, means.get("reward")) if dataset else None,
        mean_quality=means.get("quality"),
        mean_learnability=means.get("learnability"),
        adapter=str(store.folder / adapter.path) if adapter else None,
        trained_rows=adapters_of_run.rows(adapter) if adapter else None,
        changed_since=found.changed,
        merged=str(store.folder / str(merged)) if merged else None,
        persyn_minus_this=_difference(context, routed, after)
        if after and routed not in (None, name)
        else None,
    )


def _mean_reward(context: RunContext, dataset: Dataset, stored: float | None) -> float | None:
    """Over the rows that are not excluded, by this run's settings, so that strategies are compared on one scale.

    A dataset that does not depend on rewards may be of an earlier run with other settings; `stored` is the mean of its
    own rewards.
    """
    own = reward_config.recorded(dataset.manifest)
    if own is not None and own.includes(context.reward_provenance):
        return stored
    known, found, after = score_table.rewards(context), [], 0
    while page := datasets.rows(context.store, dataset.id, after_prompt_id=after):
        rewards = (known.get((row.response.prompt_id, row.response.teacher_id)) for row in page)
        found += [reward for reward in rewards if reward is not None]
        after = page[-1].response.prompt_id
    return sum(found) / len(found) if found else None


def _difference(context: RunContext, routed: str | None, other: Evaluation) -> Difference | None:
    adapter = adapters_of_run.trained(context, routed or "").whole
    best = adapters_of_run.evaluation(context, adapter) if adapter else None
    if best is None:
        return None
    values, others = (results.values(context.store, evaluation.id) for evaluation in (best, other))
    pairs = [(value, others.get(prompt)) for prompt, value in values.items()]
    right = [(one >= 1, other >= 1) for one, other in pairs if one is not None and other is not None]
    config = context.run.evaluation
    found = statistics.paired_bootstrap(
        *np.array(right, dtype=float).reshape(-1, 2).T,
        draws=config.bootstrap,
        seed=config.seed,
    )
    return Difference(found.difference, found.low, found.high, found.p)


def render(found: Summary) -> RenderableType:
    """The results as tables for a terminal of 80 columns."""
    routed = strategy_kinds.routed([row.name for row in found.strategies])
    lines = [] if found.router is None else [_router(found.router)]
    lines.append(_generations(found, routed))
    if spent := str(found.cost):
        lines.append(spent)
    lines += [f"▲ {teacher}" for teacher in found.failing_teachers]
    for name, statuses in found.verdicts.items():
        # Where a verifier has nothing to verify is as the prompts are.
        odd = [f"{n:,} {status}" for status, n in statuses.items() if status not in ("ok", "unverifiable")]
        if odd:
            lines.append(f"▲ {name}: {sum(statuses.values()):,} verdicts, without a score: {', '.join(odd)}")
    lines += [
        f"▲ {row.name}: trained on {_number(row.trained_rows, '{:,}')} rows; its dataset has changed since "
        "(run again to retrain)"
        for row in found.strategies
        if row.changed_since
    ]
    parts: list[RenderableType] = [_table(found, routed), *map(Text, lines)]
    trained = sorted((row for row in found.strategies if row.adapter), key=lambda row: row.name != routed)
    if trained:
        parts.append(Text(f"\nThe student distilled by `{trained[0].name}`:"))
        places = (("adapter", trained[0].adapter), ("merged ", trained[0].merged))
        # The terminal may break a path over lines but never cut it.
        parts += [Text(f"  {what}  {path}", overflow="fold") for what, path in places if path]
        if len(trained) > 1:
            more = "1 more is" if len(trained) == 2 else f"{len(trained) - 1} more are"
            parts.append(Text(f"({more} named by --json)", style="dim"))
    parts.append(Text("\nBrowse it all in the terminal app:"))
    parts.append(Text(f"persyn --store {found.store}", overflow="fold"))
    return Group(*parts)


def _table(found: Summary, routed: str | None) -> Table:
    n = found.prompts.calibration + found.prompts.synthesis
    title = f"{n:,} training prompts, {found.teachers} teachers, student {found.student}"
    if (before := found.strategies[0].accuracy_before) is not None:
        title += f": {before:.1%} before"
    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("strategy", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column.format(routed or "persyn"), justify="right", no_wrap=True)
    for row in found.strategies:
        table.add_row(
            row.name,
            _number(row.generations, "{:,}"),
            _number(row.rows, "{:,}"),
            _number(row.accuracy_after, "{:.1%}"),
            "–" if row.ci_low is None else f"{row.ci_low:.1%}–{row.ci_high:.1%}".replace("%–", "–"),
            _number(row.mean_reward, "{:+.3f}"),
            str(row.persyn_minus_this or ""),
        )
    return table


def _router(router: Router) -> str:
    low, high = router.hit_at_1_low, router.hit_at_1_high
    interval = "" if low is None or high is None else f", 95 % {low:.2f}–{high:.2f}"
    return (
        f"router on {router.n:,} {router.on}: Hit@1 {router.hit_at_1:.2f}{interval} "
        f"(chance {router.chance_hit_at_1:.2f}, always the teacher of the highest mean reward "
        f"{router.best_single_hit_at_1:.2f}), Hit@3 {router.hit_at_3:.2f} (chance {router.chance_hit_at_3:.2f}), "
        f"regret {router.regret:.3f} (random {router.random_regret:.3f})"
    )


def _generations(found: Summary, routed: str | None) -> str:
    """How many the strategy that asks the router took, with the formula, and how many all teachers would take."""
    c, m, responses = found.prompts.calibration, found.teachers, found.prompts.calibration_answers
    n = c + found.prompts.synthesis
    formula = (
        f"C·M + (N − C) = {c:,}·{m} + {n - c:,}"
        if responses == c * m
        else f"{responses:,} of C·M = {c:,}·{m}, and (N − C) = {n - c:,}: in all"
    )
    planned = responses + n - c
    used = next((row.generations for row in found.strategies if row.name == routed), None) or planned
    if used > planned:
        formula += f" + {used - planned:,} fallback" + ("s" if used > planned + 1 else "")
    return f"PerSyn: {formula} = {max(used, planned):,} generations; all teachers on all prompts: {n * m:,}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
