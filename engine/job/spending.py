"""What a run has cost so far, and the budget that is left: teachers' responses and judges' verdicts together."""

from engine.job import scorer_ids
from engine.job.context import RunContext
from engine.teachers.cost import Budget
from storage import responses, scores
from storage import verdicts as replies


def of_responses(context: RunContext) -> float:
    """Dollars that the stored responses to the run's prompts have cost, by whatever job."""
    counts = responses.counts(context.store, context.generations, context.prompt_set)
    return sum(count.cost for count in counts)


def of_verdicts(context: RunContext) -> dict[str, float]:
    """Dollars that each scorer behind an endpoint has cost, verdicts that are not there yet included."""
    found = {}
    for name, number in scorer_ids.asking(context).items():
        scored = scorer_ids.scored(context, number)
        found[name] = scores.cost(context.store, scored) + replies.cost(context.store, scored)
    return found


def budget(context: RunContext) -> Budget:
    """The run's budget, with all that it has cost."""
    limit = context.run.generation.budget_usd
    if limit is None:
        return Budget(None, 0.0)
    return Budget(limit, of_responses(context) + sum(of_verdicts(context).values()))
