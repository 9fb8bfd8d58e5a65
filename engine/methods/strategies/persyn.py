"""Each prompt goes to the teacher that the router puts first (Zhang et al., arXiv 2510.10925)."""

import numpy as np

from engine.base.errors import ConfigError
from engine.methods.strategy import Assignment, Evidence, Strategy, known_first


def assign(evidence: Evidence, count: int) -> Assignment:
    """The best known reward where a prompt has been answered, elsewhere the highest strength."""
    if evidence.strengths is None:
        raise ConfigError(
            "the strategy `persyn` needs the router's strengths", "train the router and route first"
        )
    if not np.isfinite(evidence.strengths).all():
        raise ConfigError("a strength is not finite", "train the router again")
    # A response that exists already costs nothing: the best of those comes before any guess.
    keys = [-evidence.strengths]
    answered = 0
    if evidence.rewards is not None:
        keys += known_first(evidence.rewards)
        answered = int((~np.isnan(evidence.rewards)).any(axis=1).sum())
    ranking = np.lexsort(keys, axis=1).astype(np.int64)
    note = f"persyn: {count - answered} prompts by the router"
    if answered:
        note += f", {answered} by the best known reward"
    return Assignment(ranking[:, 0].copy(), ranking, note)


STRATEGY = Strategy(
    about="Each prompt goes to the teacher that the router puts first",
    assign=assign,
    uses_rewards=True,
    uses_router=True,
    least_teachers=2,
    place=6,
)
