"""Stage `score`: quality and learnability of every answer that all teachers gave."""

from engine import scoring
from engine.context import Context


def run(context: Context) -> None:
    """Scores what has no score yet; raw values, so that α and normalization stay free."""
    splits = context.answered_by_all
    if not splits:
        context.progress.say("score: nothing to score before generation")
        return
    for name in scoring.names(context):
        context.check()
        new = scoring.fill(context, name, splits)
        if new:
            context.progress.say(f"score: {new:,} answers by {name}")
