"""Stage `route`: each prompt of the training splits gets one teacher, for every strategy of the run.

A strategy that asks the router reads prompts page by page, and what a forward pass decides is stored and counted as it
comes; all others are computed at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.job import plan_store
from engine.job.batch_writer import LOCAL_S, BatchWriter
from engine.job.calibration import CALIBRATED, TRAINED
from engine.job.context import RunContext
from engine.methods import policy, strategy_kinds
from engine.router.model import Router
from engine.router.router_replicas import RouterReplicas
from engine.scoring import score_table
from storage import prompts, routing
from storage.records import Assignment, Messages, Plan, Prompt

PAGE = 2000
COMMIT = 500
WORTH = 64
"""Prompts that make one more process worth its start, which takes as long as the router's loading and some seconds."""


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
            _by_router(context, plan, total)
            if strategy_kinds.uses_router(name)
            else _at_once(context, plan, total)
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
    ids = [teacher_id for teacher_id, _ in context.generations]
    done = {a.prompt_id for page in plan_store.assignment_pages(context.store, plan.id) for a in page}
    for page in _numbered(context):
        ready = [(place, prompt.id or 0) for place, prompt in page if prompt.id not in done]
        for start in range(0, len(ready), COMMIT):
            assigned = [
                Assignment(prompt_id, ids[decided.choices[place]])
                for place, prompt_id in ready[start : start + COMMIT]
            ]
            routing.assign(context.store, context.lease, plan.id, assigned)
        context.progress.advance(len(page), row=name)
    return decided.note


def _by_router(context: RunContext, plan: Plan, total: int) -> str:
    """Each prompt is stored and counted with the forward pass that read it."""
    known = score_table.gather(context, CALIBRATED)
    rewards = dict(zip(map(int, known.prompt_ids), known.labels(context.run.reward).rewards, strict=True))
    done = sum(share.prompts for share in routing.shares(context.store, plan.id))
    places = context.places(context.run.router.device)[: max(1, (total - done) // WORTH)]
    context.progress.doing("loading the router", plan.strategy)
    with _router(context, places) as router:
        # Loading is no routing: its clock starts now.
        context.progress.expect(total, done=done, row=plan.strategy)
        routed = _read(context, plan, router, rewards, PAGE * len(places))
    return f"{plan.strategy}: {routed:,} prompts assigned ({len(rewards):,} by known rewards, the others by the router)"


class _Reads(Protocol):
    """A router, here or with copies elsewhere."""

    def strengths_by_pass(
        self, prompts: Sequence[Messages], should_stop: Callable[[], bool]
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]: ...


@contextmanager
def _router(context: RunContext, places: Sequence[str]) -> Iterator[_Reads]:
    """The run's router, ready to read on these devices: in this process, or in one of its own on each of several."""
    for place in places:
        context.servers.evict_for(place)
    folder = plan_store.router_folder(context, plan_store.stored_router(context))
    teachers, trust = plan_store.router_teachers(context), context.run.router.trust_remote_code
    if len(places) == 1:
        with context.control.at_once():
            router = Router.load(folder, teachers, device=places[0], trust_remote_code=trust)
        yield router
        return
    with context.control.at_once():
        replicas = RouterReplicas(places, folder, teachers, trust_remote_code=trust)
    with closing(replicas):
        yield replicas


def _read(
    context: RunContext,
    plan: Plan,
    router: _Reads,
    rewards: Mapping[int, NDArray[np.float64]],
    size: int,
) -> int:
    """How many prompts the router was asked about, once each has its assignment; `size` of them are read at a time."""
    writer = BatchWriter[Assignment](lambda rows: routing.assign(context.store, context.lease, plan.id, rows))
    after, routed = -1, 0
    try:
        while page := routing.unassigned(context.store, plan.id, TRAINED, after, size):
            asked = [prompt.messages for _, prompt in page]
            for places, strengths in router.strengths_by_pass(asked, context.control.cancelled):
                prompt_ids = [page[place][1].id or 0 for place in places]
                for row in _decided(context, plan.strategy, prompt_ids, strengths, rewards):
                    writer.add(row, LOCAL_S)
                writer.flush_if_due()
                context.progress.advance(len(places), row=plan.strategy)
                routed += len(places)
                context.control.check()
            after = page[-1][0]
    finally:
        writer.flush()
    return routed


def _decided(
    context: RunContext,
    strategy: str,
    prompt_ids: Sequence[int],
    strengths: NDArray[np.float32],
    rewards: Mapping[int, NDArray[np.float64]],
) -> Iterator[Assignment]:
    """The assignments of B prompts by their strengths (B, M) and, of those that have been answered, rewards (M,)."""
    values = np.asarray(strengths, dtype=np.float64)
    unknown = np.full(values.shape[1], np.nan)
    known = np.stack([rewards.get(prompt_id, unknown) for prompt_id in prompt_ids])
    evidence = replace(context.run.evidence, strengths=values, rewards=known)
    choices = strategy_kinds.assign(strategy, evidence, len(prompt_ids)).choices
    routed = policy.choose(values)
    # A margin is that of the router's choice; what is known better goes to another teacher without one.
    margins = np.where(choices == routed.choices, routed.margins, np.nan)
    for row, prompt_id in enumerate(prompt_ids):
        margin = None if np.isnan(margins[row]) else float(margins[row])
        teacher_id = context.generations[choices[row]].teacher_id
        yield Assignment(prompt_id, teacher_id, strengths=tuple(map(float, values[row])), margin=margin)


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
