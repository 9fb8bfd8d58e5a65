"""Stage `build_dataset`: one training row per prompt, with its scores and where it came from.

Only `ok` responses become rows. What is left out is counted by reason and kept in the dataset's manifest.
"""

import time
from collections import Counter
from collections.abc import Mapping

import numpy as np

from engine.job import plan_store, scorer_ids
from engine.job.calibration import TRAINED
from engine.job.context import RunContext
from engine.job.identity import LEARNABILITY
from engine.methods import blend
from engine.scoring import score_table
from engine.scoring.run import score_missing
from storage import datasets, responses, routing, scores
from storage.records import DatasetRow, Plan


def run(context: RunContext) -> None:
    """Scores the assigned responses and builds a dataset per strategy."""
    opened = [plan_store.open_plan(context, name) for name in context.run.strategies]
    for name in scorer_ids.names(context):
        if context.identity.scorer(name).compares:
            continue  # one response a prompt: nothing to compare it with
        new = score_missing(context, name, TRAINED, [plan.id for plan in opened])
        if new:
            context.progress.say(
                f"build_dataset: {new:,} responses scored by {name}{scorer_ids.unscored(context, name)}"
            )
    rewards = score_table.rewards(context)
    for plan in opened:
        context.control.check()
        _build(context, plan, rewards)


def _build(context: RunContext, plan: Plan, rewards: dict[tuple[int, int], float]) -> None:
    name = f"{context.run.name}/{plan.strategy}"
    manifest = {
        "strategy": plan.strategy,
        "job": context.lease.job_id,
        "built_at": time.time(),
        "teachers": [teacher.name for teacher in context.teachers],
        "student": context.student.name,
        "quality": context.reward_provenance.quality,
        "reward": context.run.reward.model_dump(),
        "reasoning": context.run.reasoning.dataset,
    }
    dataset = datasets.open_dataset(
        context.store, context.lease, context.identity.dataset_sha(plan.strategy), plan.id, name, manifest
    )
    if dataset.complete:
        return
    planned = sum(share.prompts for share in routing.shares(context.store, plan.id))
    context.progress.expect(planned, row=plan.strategy, unit="prompts")
    left_out: Counter[str] = Counter()
    ids = {name: scorer_ids.scorer_id(context, name) for name in scorer_ids.names(context)}
    correct = ids[context.run.quality.verifying or ""] if context.run.dataset.keep == "correct" else None
    graded = _Quality(context, ids)
    kept = rewarded = 0
    for page in plan_store.assignment_pages(context.store, plan.id):
        context.control.check()
        prompts = sorted({assignment.prompt_id for assignment in page})
        given = responses.of_prompts(context.store, prompts, context.generations)
        values = scores.of_responses(
            context.store,
            [r.id for by_teacher in given.values() for r in by_teacher.values()],
            list(ids.values()),
        )
        rows = []
        for prompt in prompts:
            # In the order of attempts: another teacher was asked only because the one before gave nothing usable.
            asked = sorted((a for a in page if a.prompt_id == prompt), key=lambda a: a.attempt)
            found = [given.get(prompt, {}).get(a.teacher_id) for a in asked]
            usable = next((one for one in found if one is not None and one.status == "ok"), None)
            if usable is None:
                last = next((one for one in reversed(found) if one is not None), None)
                left_out[last.status if last else "unanswered"] += 1
                continue
            if correct is not None and values.get((usable.id, correct)) != 1:
                left_out["not correct"] += 1
                continue
            rows.append(
                DatasetRow(
                    prompt_id=prompt,
                    response_id=usable.id,
                    quality=graded.of(usable.id, values),
                    learnability=values.get((usable.id, ids[LEARNABILITY])),
                    reward=rewards.get((prompt, usable.teacher_id)),
                )
            )
        datasets.add(context.store, context.lease, dataset.id, rows)
        context.progress.advance(len(prompts), row=plan.strategy)
        kept += len(rows)
        rewarded += sum(row.reward is not None for row in rows)
    counted = {"left_out": dict(left_out), "rows": kept, "rewarded": rewarded}
    datasets.finish(context.store, context.lease, dataset.id, manifest | counted)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
    context.progress.say(
        f"build_dataset: {plan.strategy}: {kept:,} rows" + (f"; left out: {reasons}" if reasons else "")
    )


class _Quality:
    """The quality of single responses, on the scale of the calibration responses."""

    def __init__(self, context: RunContext, ids: Mapping[str, int]) -> None:
        self._scorers = [ids[name] for name in context.run.quality.named]
        self._weights = score_table.weights(context)
        self._scales = score_table.scales(context)

    def of(self, response_id: int, values: Mapping[tuple[int, int], float]) -> float | None:
        """The quality; None where no scorer gave a value."""
        raw = [np.array([[values.get((response_id, scorer), np.nan)]]) for scorer in self._scorers]
        found = float(blend.blend(raw, self._weights, self._scales)[0, 0])
        return None if np.isnan(found) else found
