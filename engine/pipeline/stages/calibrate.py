"""Stage `calibrate`: every teacher responds to the calibration and validation prompts.

With the strategy `oracle` in the run, every teacher answers the synthesis prompts as well: that is the
N·M generations which PerSyn saves, and what its choice is measured against. With `calibration:
{teachers_per_prompt: k}` each calibration prompt is answered by k teachers only.
"""

from collections.abc import Sequence
from functools import partial

from engine.generation import collector
from engine.generation import pending as planned
from engine.generation.workers import Work
from engine.job import plan_store
from engine.job.context import RunContext
from storage import prompts, responses
from storage.records import Prompt, Split


def run(context: RunContext) -> None:
    """Asks every teacher for the responses that are missing."""
    splits, columns = context.calibration.answered_by_all, range(len(context.teachers))
    design = plan_store.open_design(context)
    if design is not None and not splits:
        given = responses.coverage(context.store, context.generations, context.prompt_set, (), [design])
        works = [planned.work(context, column, [design], given[column].wanted) for column in columns]
        collector.fill(context, works)
        return
    if not splits:
        context.progress.say("calibrate: no strategy of this run needs all teachers' responses")
        return
    counts = prompts.counts(context.store, context.prompt_set)
    wanted = sum(counts.get(split, 0) for split in splits)
    attempts = context.run.generation.max_attempts
    collector.fill(context, [_work(context, column, splits, wanted, attempts) for column in columns])


def _work(context: RunContext, column: int, splits: Sequence[Split], wanted: int, attempts: int) -> Work:
    asked = responses.Wanted(context.prompt_set, splits, context.generations[column])
    count = partial(responses.count_pending, context.store, asked, max_attempts=attempts)

    def pending(after: int) -> list[tuple[int, Prompt]]:
        return responses.pending(
            context.store, asked, max_attempts=attempts, after=after, limit=collector.PAGE
        )

    return Work(column, pending, count, done=wanted - count())
