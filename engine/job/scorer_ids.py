"""The scorers of a run: their names and what their scores are stored under."""

from collections.abc import Sequence

from engine.job.context import RunContext
from engine.job.identity import LEARNABILITY
from engine.scorers import scorer_kinds
from storage import scores
from storage.records import Split
from storage.scores import Scored


def names(context: RunContext) -> tuple[str, ...]:
    """The scorers of this run: those of quality, and learnability last."""
    return *context.run.quality.named, LEARNABILITY


def scorer_id(context: RunContext, name: str) -> int:
    """Row id of the scorer with exactly this run's settings, stored when it is new."""
    scorer = context.identity.scorer(name)
    return scores.put_scorer(context.store, scorer.kind, scorer.identity, _model_id(context, name))


def find(context: RunContext, name: str) -> int | None:
    """As `scorer_id`; None where it is not stored, and nothing is written."""
    scorer = context.identity.scorer(name)
    return scores.find_scorer(context.store, scorer.kind, scorer.identity, _model_id(context, name))


def scored(context: RunContext, number: int | None, splits: Sequence[Split] | None = None) -> Scored:
    """All of the run's responses to these splits, for the scorer of this row id."""
    return Scored(number, context.generations, context.prompt_set, splits)


def _model_id(context: RunContext, name: str) -> int | None:
    return context.student_id if name == LEARNABILITY else None


def statuses(context: RunContext, name: str) -> dict[str, int]:
    """Stored scores by a scorer of the run's responses, by status."""
    number = find(context, name)
    if number is None:
        return {}
    return scores.statuses(context.store, scored(context, number))


def unscored(context: RunContext, name: str) -> str:
    """`; without a score: 12 unreadable, 3 refused`, of all the run's responses; empty where there are none."""
    odd = [f"{number:,} {status}" for status, number in statuses(context, name).items() if status != "ok"]
    return f"; without a score: {', '.join(odd)}" if odd else ""


def incomplete(context: RunContext, splits: Sequence[Split]) -> dict[str, tuple[int, int]]:
    """Scorer → (scores, responses), of those that have not scored all usable responses to these splits."""
    found = {
        name: scores.count(context.store, scored(context, find(context, name), splits))
        for name in names(context)
    }
    return {name: (given, usable) for name, (usable, given) in found.items() if given < usable}


def same_scorer_other_reasoning(context: RunContext, name: str) -> int | None:
    """Row id of the stored scorer that differs from this one only in whether it sees reasoning.

    None where there is none, or where its scores depend on other responses than the scored one.
    """
    scorer = context.identity.scorer(name)
    if scorer.compares:
        return None
    identity = dict(scorer.identity)
    if not identity.pop("reasoning", False):
        identity["reasoning"] = True
    return scores.find_scorer(context.store, scorer.kind, identity, _model_id(context, name))


def asking(context: RunContext) -> dict[str, int]:
    """Row ids by name of the stored scorers of this run whose scores may cost dollars; nothing is written."""
    found = {
        name: find(context, name)
        for name in context.run.quality.named
        if scorer_kinds.costs(context.identity.scorer(name).kind)
    }
    return {name: number for name, number in found.items() if number is not None}


def failed(context: RunContext) -> int:
    """How many scores of this run ended in an error of the scorer's endpoint."""
    return sum(
        scores.count_failed(context.store, scored(context, number)) for number in asking(context).values()
    )
