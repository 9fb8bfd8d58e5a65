"""Stage `generate`: each prompt is answered by its own teacher, and by the next best one on failure.

Plans of several strategies share responses: a prompt that two of them give to one teacher is generated once.
"""

from engine.generation import collector, pending
from engine.job import plan_store
from engine.job.context import RunContext
from engine.methods import policy, strategy_kinds
from storage import routing
from storage.records import Assignment, Plan

PAGE = 2000


def run(context: RunContext) -> None:
    """Asks for every assigned response that is missing, then adds fallbacks for the unusable ones."""
    opened = [plan_store.open_plan(context, name) for name in context.run.strategies]
    _fill(context, [plan.id for plan in opened])
    for attempt in range(1, context.run.generation.fallbacks + 1):
        added = sum(
            _fall_back(context, plan, attempt) for plan in opened if strategy_kinds.uses_router(plan.strategy)
        )
        if not added:
            break
        context.progress.say(
            f"generate: {added:,} prompts go to their next best teacher (no usable response)"
        )
        _fill(context, [plan.id for plan in opened])


def _fill(context: RunContext, plan_ids: list[int]) -> None:
    collector.fill(
        context, [pending.work(context, column, plan_ids) for column in range(len(context.teachers))]
    )


def _fall_back(context: RunContext, plan: Plan, attempt: int) -> int:
    """Number of prompts given to their next best teacher because the last one's response is unusable."""
    ids = [teacher_id for teacher_id, _ in context.generations]
    after, added = 0, 0
    while page := routing.failed(
        context.store, plan.id, context.generations, max_attempt=attempt, after_prompt_id=after, limit=PAGE
    ):
        rows = []
        asked = routing.attempts(context.store, plan.id, [failed.prompt_id for failed in page])
        for failed in page:
            tried = asked[failed.prompt_id]
            ranking = policy.choose([failed.strengths or ()]).ranking[0]
            following = next((ids[column] for column in ranking if ids[column] not in tried), None)
            if following is not None:
                rows.append(
                    Assignment(failed.prompt_id, following, failed.attempt + 1, failed.strengths, None)
                )
        routing.assign(context.store, context.lease, plan.id, rows)
        added += len(rows)
        after = page[-1].prompt_id
    return added
