"""What a finished run has to show: strategies side by side, and the router beside chance. All from the store."""

from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.job import adapters_of_run, plan_store, reward_config, scorer_ids, spending
from engine.job.calibration import CALIBRATED
from engine.job.context import RunContext
from engine.methods import statistics, strategy_kinds
from engine.scoring import score_table
from storage import datasets, jobs, prompts, results, routing
from storage.records import Adapter, Dataset
from storage.store import Store

COLUMNS = ("generations", "rows", "after", "95 %", "mean\nreward", "{} − this,\npoints (p)")
"""The last with the strategy that asks the router, which all others are compared with."""
ROUTER_KEYS = ("hit_at_1", "hit_at_3", "regret", "chance_hit_at_1", "chance_hit_at_3", "random_regret")


def build(context: RunContext, seconds: float) -> dict[str, Any]:
    """The run's results as plain JSON; accuracies are None where nothing was evaluated.

    Args:
        context: of a run that has gone through its stages.
        seconds: wall time to report.
    """
    counts = prompts.counts(context.store, context.prompt_set)
    routed = strategy_kinds.routed(context.run.strategies)
    router = None if routed is None else routing.router(context.store, context.identity.router_sha)
    before = _evaluation(context, None)
    return {
        "seconds": round(seconds, 1),
        "prompts": {
            # C of C·M + (N − C): everything that all teachers answer, the router's held-out prompts included.
            "calibration": sum(counts.get(split, 0) for split in CALIBRATED),
            "calibration_answers": context.calibration.responses(counts),
            "held_out": counts.get("validation", 0),
            "synthesis": counts.get("synthesis", 0),
            "evaluation": counts.get("evaluation", 0),
        },
        "teachers": len(context.teachers),
        "student": context.student.name,
        "store": context.store.name,
        "router": None
        if router is None
        else {
            **{key: router.metrics.get(key) for key in ROUTER_KEYS},
            "n": router.metrics.get("n"),
            "hit_at_1_low": router.metrics.get("hit_at_1_low"),
            "hit_at_1_high": router.metrics.get("hit_at_1_high"),
            "on": router.metrics.get("on"),
            "best_single_hit_at_1": router.metrics.get("best_single_hit_at_1"),
        },
        "cost": _cost(context),
        "verdicts": {name: scorer_ids.statuses(context, name) for name in scorer_ids.names(context)},
        "strategies": [_strategy(context, name, before) for name in context.run.strategies],
    }


def unfinished(store: Store, job_id: int, context: RunContext | None) -> dict[str, Any]:
    """What a job that did not reach its end has to say, as plain JSON: where it stands, why, and what it has cost.

    Args:
        store: the job's.
        job_id: it.
        context: what it worked with; None where it did not get that far.
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
        "cost": _cost(context) if context and context.prompt_set else None,
    }


def _cost(context: RunContext) -> dict[str, Any]:
    return {
        "answers": spending.of_responses(context),
        "verdicts": spending.of_verdicts(context),
        "budget": context.run.generation.budget_usd,
    }


def _strategy(context: RunContext, name: str, before: dict[str, Any] | None) -> dict[str, Any]:
    plan = routing.plan(context.store, context.identity.plan_sha(name))
    dataset = datasets.find(context.store, context.identity.dataset_sha(name))
    found = adapters_of_run.trained(context, name)
    adapter = found.whole
    after = _evaluation(context, adapter) if adapter else None
    means = datasets.means(context.store, dataset.id) if dataset else {}
    merged = adapter.metrics.get("merged") if adapter else None
    row: dict[str, Any] = {
        "name": name,
        "generations": None
        if plan is None
        else routing.generations_used(
            context.store,
            plan.id,
            context.generations,
            calibration=context.calibration.needed_by(name),
            full=strategy_kinds.load(name).needs_full_parallel,
            design_id=plan_store.design_id(context),
        ),
        "rows": datasets.count(context.store, dataset.id) if dataset else None,
        "accuracy_before": before and before["summary"]["accuracy"],
        "accuracy_after": after and after["summary"]["accuracy"],
        "ci_low": after and after["summary"]["ci_low"],
        "ci_high": after and after["summary"]["ci_high"],
        "mean_reward": _mean_reward(context, dataset, means.get("reward")) if dataset else None,
        "mean_quality": means.get("quality"),
        "mean_learnability": means.get("learnability"),
        "adapter": str(context.store.folder / adapter.path) if adapter else None,
        "trained_rows": adapters_of_run.rows(adapter) if adapter else None,
        "changed_since": found.changed,
        "merged": str(context.store.folder / str(merged)) if merged else None,
    }
    routed = strategy_kinds.routed(context.run.strategies)
    if after is not None and routed not in (None, name):
        theirs = adapters_of_run.trained(context, routed).whole
        best = _evaluation(context, theirs) if theirs else None
        if best is not None:
            row["persyn_minus_this"] = _paired(best["values"], after["values"], context.run.evaluation)
    return row


def _mean_reward(context: RunContext, dataset: Dataset, stored: float | None) -> float | None:
    """Over the rows that are not excluded, by this run's settings, so that strategies are compared on one scale.

    Args:
        context: the run.
        dataset: a strategy's. One that does not depend on rewards may be of an earlier run with other settings.
        stored: the mean of its own rewards.
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


def _evaluation(context: RunContext, adapter: Adapter | None) -> dict[str, Any] | None:
    found = adapters_of_run.evaluation(context, adapter)
    if found is None:
        return None
    rows = results.results(context.store, found.id)
    return {"summary": found.summary, "values": {row.prompt_id: row.value for row in rows}}


def _paired(left: dict[int, float], right: dict[int, float], config: Any) -> dict[str, float]:
    shared = [key for key in left if left[key] is not None and right.get(key) is not None]
    difference = statistics.paired_bootstrap(
        np.array([left[key] >= 1 for key in shared], dtype=float),
        np.array([right[key] >= 1 for key in shared], dtype=float),
        draws=config.bootstrap,
        seed=config.seed,
    )
    return {
        "difference": difference.difference,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "p": difference.p,
    }


def render(report: dict[str, Any]) -> RenderableType:
    """The report as tables for a terminal of 80 columns."""
    counts, m = report["prompts"], report["teachers"]
    n = counts["calibration"] + counts["synthesis"]
    title = f"{n:,} training prompts, {m} teachers, student {report['student']}"
    before = report["strategies"][0]["accuracy_before"]
    if before is not None:
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
    routed = strategy_kinds.routed([row["name"] for row in report["strategies"]])
    for column in COLUMNS:
        table.add_column(column.format(routed or "persyn"), justify="right", no_wrap=True)
    for row in report["strategies"]:
        table.add_row(
            row["name"],
            _number(row["generations"], "{:,}"),
            _number(row["rows"], "{:,}"),
            _number(row["accuracy_after"], "{:.1%}"),
            "–" if row["ci_low"] is None else f"{row['ci_low']:.1%}–{row['ci_high']:.1%}".replace("%–", "–"),
            _number(row["mean_reward"], "{:+.3f}"),
            _difference(row.get("persyn_minus_this")),
        )
    parts: list[RenderableType] = [table]
    if router := report["router"]:
        parts.append(
            Text(
                f"router on {router['n']:,} {router['on']}: "
                f"Hit@1 {router['hit_at_1']:.2f}{_interval(router)} "
                f"(chance {router['chance_hit_at_1']:.2f}, always the teacher of the highest mean reward "
                f"{router['best_single_hit_at_1']:.2f}), Hit@3 {router['hit_at_3']:.2f} (chance "
                f"{router['chance_hit_at_3']:.2f}), regret {router['regret']:.3f} "
                f"(random {router['random_regret']:.3f})"
            )
        )
    c, answers = counts["calibration"], counts["calibration_answers"]
    formula = (
        f"C·M + (N − C) = {c:,}·{m} + {n - c:,}"
        if answers == c * m
        else f"{answers:,} of C·M = {c:,}·{m}, and (N − C) = {n - c:,}: in all"
    )
    planned = answers + n - c
    used = (
        next((row["generations"] for row in report["strategies"] if row["name"] == routed), None) or planned
    )
    if used > planned:
        formula += f" + {used - planned:,} fallback" + ("s" if used > planned + 1 else "")
    parts.append(
        Text(
            f"PerSyn: {formula} = {max(used, planned):,} generations; all teachers on all prompts: {n * m:,}"
        )
    )
    if said := _spent(report["cost"]):
        parts.append(Text(said))
    for name, statuses in report["verdicts"].items():
        # Where a verifier has nothing to verify is as the prompts are.
        odd = [f"{n:,} {status}" for status, n in statuses.items() if status not in ("ok", "unverifiable")]
        if odd:
            parts.append(
                Text(f"▲ {name}: {sum(statuses.values()):,} verdicts, without a score: {', '.join(odd)}")
            )
    for row in report["strategies"]:
        if row.get("changed_since"):
            rows = _number(row["trained_rows"], "{:,}")
            parts.append(
                Text(
                    f"▲ {row['name']}: trained on {rows} rows; its dataset has changed since "
                    "(run again to retrain)"
                )
            )
    trained = [row for row in report["strategies"] if row["adapter"]]
    trained.sort(key=lambda row: row["name"] != routed)
    if trained:
        parts.append(Text(f"\nThe student distilled by `{trained[0]['name']}`:"))
        parts.append(_path("adapter", trained[0]["adapter"]))
        if trained[0]["merged"]:
            parts.append(_path("merged ", trained[0]["merged"]))
        if len(trained) > 1:
            parts.append(Text(f"({len(trained) - 1} more are named by --json)", style="dim"))
    parts.append(Text("\nBrowse it all in the terminal app:"))
    parts.append(Text(f"persyn --store {report['store']}", overflow="fold"))
    return Group(*parts)


def _path(what: str, path: str) -> Text:
    """A path that the terminal may break over lines but never cuts."""
    return Text(f"  {what}  {path}", overflow="fold")


def empty(report: dict[str, Any]) -> bool:
    """Whether there is nothing to show yet: the run stopped before any strategy was routed."""
    return all(row["generations"] is None for row in report["strategies"])


def _spent(cost: dict[str, Any]) -> str:
    """What the run has cost, in one line; empty when it was free."""
    parts = [(cost["answers"], "answers"), *((dollars, name) for name, dollars in cost["verdicts"].items())]
    total = sum(dollars for dollars, _ in parts)
    if not total and cost["budget"] is None:
        return ""
    of = "" if cost["budget"] is None else f" of ${cost['budget']:,.2f}"
    return f"spent ${total:,.4f}{of}: " + ", ".join(f"${dollars:,.4f} for {name}" for dollars, name in parts)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _difference(value: dict[str, float] | None) -> str:
    if value is None:
        return ""
    return (
        f"{100 * value['difference']:+.1f} ({'<.001' if value['p'] < 0.001 else format(value['p'], '.3f')})"
    )


def _interval(router: dict[str, Any]) -> str:
    low, high = router.get("hit_at_1_low"), router.get("hit_at_1_high")
    return "" if low is None or high is None else f", 95 % {low:.2f}–{high:.2f}"
