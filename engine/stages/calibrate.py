"""Stage `calibrate`: every teacher answers the calibration and validation prompts.

With the strategy `oracle` in the run, every teacher answers the synthesis prompts as well: that is the
N·M generations which PerSyn saves, and what its choice is measured against.
"""

from functools import partial

from engine import generation
from engine.context import Context
from storage import prompts, responses


def run(context: Context) -> None:
    """Asks every teacher for the answers that are missing."""
    splits = context.answered_by_all
    if not splits:
        context.progress.say("calibrate: no strategy of this run needs all teachers' answers")
        return
    counts = prompts.counts(context.store, context.prompt_set)
    wanted = sum(counts.get(split, 0) for split in splits)
    attempts = context.run.generation.max_attempts
    for column, teacher in enumerate(context.teachers):
        args = (context.store, context.prompt_set, splits, context.generations[column])
        count = partial(responses.count_pending, *args, max_attempts=attempts)

        def pending(after: int, args: tuple = args) -> list:  # type: ignore[type-arg]
            return responses.pending(*args, max_attempts=attempts, after=after, limit=generation.PAGE)

        context.check()
        new = generation.fill(context, column, pending, count, done=wanted - count())
        if new:
            context.progress.say(f"calibrate: {teacher.name} answered {new:,} prompts")
