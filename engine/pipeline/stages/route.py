"""Stage `route`: each prompt of the training splits gets one teacher, for every strategy of the run.

A strategy that asks the router encodes prompts page by page, so that a run over any number of prompts streams; all
others are computed at once.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.job import plan_store
from engine.job.calibration import CALIBRATED, TRAINED
from engine.job.context import RunContext
from engine.methods import policy, strategy_kinds
from engine.router.model import Router
from engine.scoring import score_table
from storage import prompts, routing
from storage.records import Assignment, Plan, Prompt

PAGE = 2000
COMMIT = 500


def run(context: RunContext) -> None:
    """Assigns what is not assigned yet, strategy by strategy."""
    counts = prompts.counts(context.store, context.prompt_set)
    total = sum(counts.get(split, 0) for split in TRAINED)
    for name in context.run.strategies:
        context.control.check()
        context.progress.expect(total, row=name)
        plan = plan_store.open_plan(context, name)
        if plan.complete:
            context.progress.advance(total, row=name)
            continue
        note = (
            _by_router(context, plan) if strategy_kinds.uses_router(name) else _at_once(context, plan, total)
        )
        routing.finish_plan(context.store, context.lease, plan.id)
        context.progress.say(f"route: {note}")
        shares = _shares(context, plan)
        if len(shares) > 1:
            context.progress.say(
                f"route: {name}: " + ", ".join(f"{who} {share:.0%}" for who, share in shares)
            )


def _at_once(context: RunContext, plan: Plan, total: int) -> str:
    """One decision for all prompts; only integers are held for them."""
    name, more = plan.strategy, dict[str, Any]()
    if context.calibration.needed_by(name):
        # `car` and strengths by quality look at calibration alone, whatever else this store happens to know.
        quality, loss = score_table.gather(context, CALIBRATED).means()
        more = {"mean_quality": quality, "mean_loss": loss}
    if strategy_kinds.load(name).uses_rewards:
        more["rewards"] = _rewards(context, total)
    decided = strategy_kinds.assign(name, replace(context.run.evidence, **more), total)
    done = {a.prompt_id for page in plan_store.assignment_pages(context.store, plan.id) for a in page}
    for page in _numbered(context):
        ready = [(index, prompt) for index, prompt in page if prompt.id not in done]
        _commit(context, plan, ready, decided.choices)
        context.progress.advance(len(page), row=name)
    return decided.note


def _by_router(context: RunContext, plan: Plan) -> str:
    known = score_table.gather(context, CALIBRATED)
    rewards = known.labels(context.run.reward).rewards
    row_of = {int(prompt): row for row, prompt in enumerate(known.prompt_ids)}
    context.servers.evict_for(context.run.router.device)
    router = Router.load(
        plan_store.router_folder(context, plan_store.stored_router(context)),
        expected_teachers=plan_store.router_teachers(context),
        device=context.run.router.device,
        trust_remote_code=context.run.router.trust_remote_code,
    )
    after, routed = -1, 0
    while page := routing.unassigned(context.store, plan.id, TRAINED, after, PAGE):
        context.control.check()
        batch = [prompt for _, prompt in page]
        strengths = router.strengths([prompt.messages for prompt in batch])
        values = np.asarray(strengths, dtype=np.float64)
        rows = np.full(values.shape, np.nan)
        for index, prompt in enumerate(batch):
            if (row := row_of.get(prompt.id or -1)) is not None:
                rows[index] = rewards[row]
        evidence = replace(context.run.evidence, strengths=values, rewards=rows)
        decided = strategy_kinds.assign(plan.strategy, evidence, len(batch))
        chosen = policy.choose(values)
        # A margin is that of the router's choice; what is known better goes to another teacher without one.
        margins = np.where(decided.choices == chosen.choices, chosen.margins, np.nan)
        _commit(context, plan, list(enumerate(batch)), decided.choices, values, margins)
        context.progress.advance(len(batch), row=plan.strategy)
        routed += len(batch)
        after = page[-1][0]
    return f"{plan.strategy}: {routed:,} prompts assigned ({len(row_of):,} by known rewards, the others by the router)"


def _commit(
    context: RunContext,
    plan: Plan,
    numbered: list[tuple[int, Prompt]],
    choices: NDArray[np.int64],
    strengths: NDArray[np.float64] | None = None,
    margins: NDArray[np.float64] | None = None,
) -> None:
    ids = [teacher_id for teacher_id, _ in context.generations]
    for start in range(0, len(numbered), COMMIT):
        routing.assign(
            context.store,
            context.lease,
            plan.id,
            [
                Assignment(
                    prompt_id=prompt.id or 0,
                    teacher_id=ids[choices[index]],
                    strengths=None if strengths is None else tuple(map(float, strengths[index])),
                    margin=None if margins is None or np.isnan(margins[index]) else float(margins[index]),
                )
                for index, prompt in numbered[start : start + COMMIT]
            ],
        )


def _numbered(context: RunContext) -> Iterator[list[tuple[int, Prompt]]]:
    """Pages of (place among the training prompts, prompt), in prompt order."""
    after, place = -1, 0
    while page := prompts.page(context.store, context.prompt_set, TRAINED, after=after, limit=PAGE):
        context.control.check()
        yield [(place + index, prompt) for index, (_, prompt) in enumerate(page)]
        place += len(page)
        after = page[-1][0]


def _rewards(context: RunContext, total: int) -> NDArray[np.float64]:
    """(N, M) rewards of all training prompts, in prompt order; NaN where nothing is known."""
    known = score_table.gather(context, TRAINED, whole=True)
    rewards = known.labels(context.run.reward).rewards
    row_of = {int(prompt): row for row, prompt in enumerate(known.prompt_ids)}
    ordered = np.full((total, len(context.teachers)), np.nan)
    for page in _numbered(context):
        for place, prompt in page:
            if (row := row_of.get(prompt.id or -1)) is not None:
                ordered[place] = rewards[row]
    return ordered


def _shares(context: RunContext, plan: Plan) -> list[tuple[str, float]]:
    found = routing.shares(context.store, plan.id)
    total = sum(share.prompts for share in found)
    names = {teacher.id: teacher.name for teacher in context.teachers}
    return [(names.get(share.teacher_id, "?"), share.prompts / total) for share in found]
