"""The stored design of a partial calibration: a plan that says who answers which calibration prompt. No torch."""

from engine.job.context import CALIBRATED, RunContext
from engine.methods import balanced_design
from storage import prompts, routing
from storage.records import Assignment

STRATEGY = "calibration"
"""Of the plan: a prompt's teachers are its attempts, in no order."""
PAGE = 2000


def open_design(context: RunContext) -> int | None:
    """Id of the plan that says who answers which calibration and validation prompt, filled; None: all do.

    Validation prompts are in it too, each given to every teacher.
    """
    k = context.teachers_per_prompt
    if k is None or not context.calibrates:
        return None
    ids = [teacher_id for teacher_id, _ in context.generations]
    manifest = {"teachers": [teacher.name for teacher in context.teachers], "teachers_per_prompt": k}
    plan = routing.open_plan(
        context.store, context.lease, context.design_sha, STRATEGY, context.prompt_set, None, manifest
    )
    if plan.complete:
        return plan.id
    counts = prompts.counts(context.store, context.prompt_set)
    rows = iter(balanced_design.balanced(counts.get("calibration", 0), len(ids), k, context.run.split.seed))
    after = -1
    while page := prompts.page(context.store, context.prompt_set, CALIBRATED, after=after, limit=PAGE):
        given = [
            Assignment(prompt.id or 0, ids[column], attempt)
            for _, prompt in page
            for attempt, column in enumerate(next(rows) if prompt.split == "calibration" else range(len(ids)))
        ]
        routing.assign(context.store, context.lease, plan.id, given)
        after = page[-1][0]
    routing.finish_plan(context.store, context.lease, plan.id)
    return plan.id


def design_id(context: RunContext) -> int | None:
    """Id of that plan when it is stored; nothing is written."""
    if context.teachers_per_prompt is None:
        return None
    found = routing.plan(context.store, context.design_sha)
    return None if found is None else found.id
