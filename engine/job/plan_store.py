"""The stored plans of a run, the router behind one and a calibration's design, found by their hashes. No torch."""

from collections.abc import Iterator
from pathlib import Path

from engine.base.errors import ConfigError
from engine.job.calibration import CALIBRATED
from engine.job.context import RunContext
from engine.methods import balanced_design, strategy_kinds
from engine.router.manifest import Teacher
from storage import prompts, routing
from storage.records import Assignment, NewPlan, Plan, RouterRecord
from storage.store import Store

DESIGN = "calibration"
"""Strategy of the plan of a partial calibration: a prompt's teachers are its attempts, in no order."""
PAGE, ASSIGNMENTS = 2000, 1000


def stored_router(context: RunContext) -> RouterRecord:
    """The router trained with exactly this run's labels and settings.

    Raises:
        ConfigError: there is none.
    """
    found = routing.router(context.store, context.identity.router_sha)
    if found is None:
        raise ConfigError(
            "no router has been trained with the labels and settings of this run file",
            "run `persyn run FILE --until train_router` first",
        )
    return found


def router_folder(context: RunContext, record: RouterRecord) -> Path:
    """Where a stored router's weights lie."""
    folder: Path = context.store.folder
    return folder / record.path


def open_plan(context: RunContext, strategy: str) -> Plan:
    """The plan of a strategy in this run, new or as far as it has come."""
    router = stored_router(context) if strategy_kinds.uses_router(strategy) else None
    return routing.open_plan(
        context.store,
        context.lease,
        NewPlan(
            context.identity.plan_sha(strategy),
            strategy,
            context.prompt_set,
            None if router is None else router.id,
            {"teachers": [teacher.name for teacher in context.teachers], "seed": context.run.split.seed},
        ),
    )


def assignment_pages(store: Store, plan_id: int) -> Iterator[list[Assignment]]:
    """All assignments of a plan in order of prompt and attempt; a prompt's attempts are on one page."""
    after = 0
    while page := routing.assignments(store, plan_id, after, ASSIGNMENTS):
        yield page
        after = page[-1].prompt_id


def router_teachers(context: RunContext) -> list[Teacher]:
    """The router's outputs in order: each teacher with what shapes its responses."""
    return [
        Teacher(teacher.name, generation)
        for teacher, (_, generation) in zip(context.teachers, context.generations, strict=True)
    ]


def open_design(context: RunContext) -> int | None:
    """Id of the plan that says who answers which calibration and validation prompt, filled; None: all do.

    Validation prompts are in it too, each given to every teacher.
    """
    k = context.calibration.teachers_per_prompt
    if k is None or not context.calibration.needed:
        return None
    store, lease, prompt_set = context.store, context.lease, context.prompt_set
    ids = [teacher_id for teacher_id, _ in context.generations]
    manifest = {"teachers": [teacher.name for teacher in context.teachers], "teachers_per_prompt": k}
    plan = routing.open_plan(
        store, lease, NewPlan(context.identity.design_sha, DESIGN, prompt_set, None, manifest)
    )
    if plan.complete:
        return plan.id
    counts = prompts.counts(store, prompt_set)
    rows = iter(balanced_design.balanced(counts.get("calibration", 0), len(ids), k, context.run.split.seed))
    after = -1
    while page := prompts.page(store, prompt_set, CALIBRATED, after=after, limit=PAGE):
        given = [
            Assignment(prompt.id or 0, ids[column], attempt)
            for _, prompt in page
            for attempt, column in enumerate(next(rows) if prompt.split == "calibration" else range(len(ids)))
        ]
        routing.assign(store, lease, plan.id, given)
        after = page[-1][0]
    routing.finish_plan(store, lease, plan.id)
    return plan.id


def design_id(context: RunContext) -> int | None:
    """Id of that plan when it is stored; nothing is written."""
    if context.calibration.teachers_per_prompt is None:
        return None
    found = routing.plan(context.store, context.identity.design_sha)
    return None if found is None else found.id
