"""What a run has cost so far, and the budget that is left: teachers' answers and judges' verdicts together."""

from engine import scorers, scoring
from engine.budget import Budget
from engine.context import Context
from storage import responses, scores


def budget(context: Context) -> Budget:
    """The run's budget, with what answers to its prompts and their verdicts have cost, by whatever job."""
    limit = context.run.generation.budget_usd
    if limit is None:
        return Budget(None, 0.0)
    where = (context.store, context.generations, context.prompt_set)
    spent = sum(count.cost for count in responses.counts(*where))
    for name in context.run.quality.named:
        if scorers.costs(context.scorer_kind(name)):
            spent += scores.cost(*where, scoring.scorer_id(context, name))
    return Budget(limit, spent)
