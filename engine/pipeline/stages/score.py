"""Stage `score`: quality and learnability of every response that all teachers gave."""

from engine.job import plan_store, scorer_ids
from engine.job.calibration import CALIBRATED
from engine.job.context import RunContext
from engine.scoring.run import expect_missing, score_missing


def run(context: RunContext) -> None:
    """Scores what has no score yet; raw values, so that α and normalization stay free."""
    splits, design = context.calibration.answered_by_all, plan_store.design_id(context)
    if not splits and design is None:
        context.progress.say("score: nothing to score before generation")
        return
    which = (splits, None) if splits or design is None else (CALIBRATED, [design])
    names = scorer_ids.names(context)
    expect_missing(context, names, *which)
    for name in names:
        context.control.check()
        if new := score_missing(context, name, *which):
            context.progress.say(f"score: {new:,} responses by {name}{scorer_ids.unscored(context, name)}")
