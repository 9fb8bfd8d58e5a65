"""What plans ask of one teacher: shared by the stages that generate."""

from collections.abc import Sequence
from functools import partial

from engine.generation.workers import Work
from engine.job.context import RunContext
from storage import responses
from storage.records import Prompt

PAGE = 2000


def work(context: RunContext, column: int, plan_ids: Sequence[int], wanted: int | None = None) -> Work:
    """What the plans give to one teacher; `wanted` is how much that is in all, for the progress shown."""
    attempts = context.run.generation.max_attempts
    args = (context.store, plan_ids, context.generations[column])
    count = partial(responses.count_pending_assigned, *args, max_attempts=attempts)

    def pending(after: int) -> list[tuple[int, Prompt]]:
        page = responses.pending_assigned(
            *args, max_attempts=attempts, after_prompt_id=max(after, 0), limit=PAGE
        )
        return [(prompt.id or 0, prompt) for prompt in page]

    return Work(column, pending, count, done=0 if wanted is None else wanted - count())
