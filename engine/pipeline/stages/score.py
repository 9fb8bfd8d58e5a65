"""Stage `score`: quality and learnability of every answer that all teachers gave."""

from engine.job import calibration, scorer_ids
from engine.job.context import CALIBRATED, RunContext
from engine.scoring import run as verdicts


def run(context: RunContext) -> None:
    """Scores what has no score yet; raw values, so that α and normalization stay free."""
    splits, design = context.answered_by_all, calibration.design_id(context)
    if not splits and design is None:
        context.progress.say("score: nothing to score before generation")
        return
    for name in scorer_ids.names(context):
        context.check()
        new = (
            verdicts.fill(context, name, splits)
            if splits or design is None
            else verdicts.fill(context, name, CALIBRATED, [design])
        )
        if new:
            context.progress.say(f"score: {new:,} answers by {name}{scorer_ids.unscored(context, name)}")
