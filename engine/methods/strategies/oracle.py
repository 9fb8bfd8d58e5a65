"""Each prompt goes to the teacher whose response has the highest reward: the upper bound, at the full price."""

import numpy as np

from engine.base.errors import ConfigError
from engine.methods.strategy import Assignment, Evidence, Strategy, known_first


def assign(evidence: Evidence, count: int) -> Assignment:
    """The best known reward of each prompt; the teacher that is best elsewhere where nothing is known."""
    if evidence.rewards is None:
        raise ConfigError(
            "the strategy `oracle` needs every teacher's answer to every prompt",
            "run it with full parallel answers",
        )
    rewards = evidence.rewards
    known = ~np.isnan(rewards)
    # A prompt without any usable response still needs a name: the teacher that is best elsewhere.
    mean = np.where(known, rewards, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    prior = np.broadcast_to(np.where(known.any(axis=0), mean, -np.inf), rewards.shape)
    ranking = np.lexsort([-prior, *known_first(rewards)], axis=1).astype(np.int64)
    nothing = int((~known).all(axis=1).sum())
    note = f"oracle: the best of {len(evidence.names)} known answers"
    if nothing:
        note += f"; {nothing} of {count} prompts have no usable answer"
    return Assignment(ranking[:, 0].copy(), ranking, note)


STRATEGY = Strategy(
    about="Each prompt goes to the teacher whose answer has the highest reward",
    assign=assign,
    needs_full_parallel=True,
    uses_rewards=True,
    place=7,
)
