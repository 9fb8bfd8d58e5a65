"""The stored plan of a strategy, and the router behind it: found by what they are a function of."""

from pathlib import Path

from engine.base.errors import ConfigError
from engine.job.context import RunContext
from engine.methods import strategy_kinds
from engine.router.saved import Teacher
from storage import routing
from storage.records import Plan, RouterRecord


def stored_router(context: RunContext) -> RouterRecord:
    """The router trained with exactly this run's labels and settings.

    Raises:
        ConfigError: there is none.
    """
    found = routing.router(context.store, context.router_sha)
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
        context.plan_sha(strategy),
        strategy,
        context.prompt_set,
        None if router is None else router.id,
        {"teachers": [teacher.name for teacher in context.teachers], "seed": context.run.split.seed},
    )


def router_teachers(context: RunContext) -> list[Teacher]:
    """The router's outputs in order: each teacher with what shapes its answers."""
    return [
        Teacher(teacher.name, generation)
        for teacher, (_, generation) in zip(context.teachers, context.generations, strict=True)
    ]
