"""The scorers of a run: their names and what their scores are stored under."""

from engine.context import Context
from storage import scores


def names(context: Context) -> tuple[str, ...]:
    """The scorers of this run: those of quality, and learnability last."""
    return *context.run.quality.named, "learnability"


def scorer_id(context: Context, name: str) -> int:
    """Row id of the scorer with exactly this run's settings."""
    model_id = context.student_id if name == "learnability" else None
    return scores.put_scorer(
        context.store, context.scorer_kind(name), context.scorer_identity(name), model_id
    )
