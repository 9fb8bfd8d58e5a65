"""How much of what a run asks for its store holds already: what a dry run takes off. No torch, nothing written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.base.errors import ConfigError
from engine.config.run_file import Run
from engine.job import scorer_ids
from engine.job.calibration import CALIBRATED, TRAINED
from engine.job.context import RunContext
from engine.job.plan_store import design_id
from engine.pipeline.run_view import reader
from storage import prompts, responses, routing, scores
from storage.records import Coverage
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Stored:
    """What is there of a run, failed responses apart. Tuples are by teacher, in the run file's order."""

    sizes: Mapping[str, int]
    """Prompts of each split as they were read, without duplicates."""
    everything: tuple[int, ...]
    """Responses to the N prompts."""
    calibration: tuple[int, ...]
    """Those of them that the run asks for to calibrate."""
    plans: Mapping[str, tuple[int, ...]]
    """Strategy with a complete plan → what is missing of it, the calibration apart where the strategy needs it."""
    responses: int
    """Responses with a text that scorers take."""
    scored: Mapping[str, int]
    """Scorer → how many of these it has scored."""


def of_run(store: Store, run: Run) -> Stored | None:
    """What the store holds of the run; None where nothing was asked with these prompts and teachers."""
    try:
        context = reader(store, run)
    except ConfigError:
        return None
    scored, count = {}, 0
    for name in scorer_ids.names(context):
        number = scorer_ids.find(context, name)
        count, scored[name] = scores.count(context.store, scorer_ids.scored(context, number))
    designed = design_id(context)
    design = [] if designed is None else [designed]
    calibration = _cover(context, design, calibrates=True)
    plans = {}
    for name in context.run.strategies:
        plan = routing.plan(context.store, context.identity.plan_sha(name))
        if plan is not None and plan.complete:
            apart = context.calibration.needed_by(name)
            both = _cover(context, [plan.id, *(design if apart else ())], calibrates=apart)
            plans[name] = tuple(
                _missing(whole) - (_missing(first) if apart else 0)
                for whole, first in zip(both, calibration, strict=True)
            )
    every = responses.coverage(context.store, context.generations, context.prompt_set, TRAINED, ())
    sizes = prompts.counts(context.store, context.prompt_set)
    return Stored(sizes, _done(every), _done(calibration), plans, count, scored)


def _cover(context: RunContext, plans: Sequence[int], *, calibrates: bool) -> list[Coverage]:
    """What plans ask for and, where they need it, calibration: of every teacher unless a design says whom."""
    splits = CALIBRATED if calibrates and context.calibration.teachers_per_prompt is None else ()
    return responses.coverage(context.store, context.generations, context.prompt_set, splits, plans)


def _missing(cover: Coverage) -> int:
    return cover.wanted - cover.done + cover.counts.get("error", 0)


def _done(covers: Sequence[Coverage]) -> tuple[int, ...]:
    return tuple(cover.done - cover.counts.get("error", 0) for cover in covers)
