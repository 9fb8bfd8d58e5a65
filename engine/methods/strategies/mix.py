"""A random mixture of the strongest and the weakest teacher.

Li et al. 2025, "Small Models Struggle to Learn from Strong Reasoners", arXiv 2502.12143.
"""

import numpy as np

from engine.base.errors import ConfigError
from engine.methods.strategy import Assignment, Evidence, Load, Setting, Strategy, by_size, by_strength

SHARE = Setting(
    "strong_share",
    default=0.2,
    about="Share of the strongest teacher in the strategy `mix` (Li et al. 2025).",
    high=1.0,
    hashed_as="mix",
)


def assign(evidence: Evidence, count: int) -> Assignment:
    """`strong_share` of the prompts, drawn at random, to the strongest teacher, the others to the weakest."""
    share = SHARE.of(evidence)
    _check(evidence)
    order, why = by_strength(evidence, range(len(evidence.names)))
    choices = np.full(count, order[-1], dtype=np.int64)
    drawn = np.random.default_rng(evidence.seed).permutation(count)[: round(share * count)]
    choices[drawn] = order[0]
    high, low = evidence.names[order[0]], evidence.names[order[-1]]
    return Assignment(choices, None, f"mix: {share:g} by {high} ({why}), the rest by {low}")


def loads(evidence: Evidence, count: float) -> list[Load]:
    """The mixture of the largest and the smallest teacher; of any two when size does not decide."""
    _check(evidence)
    share, teachers = SHARE.of(evidence), range(len(evidence.names))
    ordered = by_size(evidence, teachers)
    pairs = [(i, j) for i in teachers for j in teachers if i != j]
    return [
        [count * share * (i == strong) + count * (1 - share) * (i == weak) for i in teachers]
        for strong, weak in (pairs if ordered is None else [(ordered[0], ordered[-1])])
    ]


def _check(evidence: Evidence) -> None:
    if len(evidence.names) < 2:
        raise ConfigError("the strategy `mix` needs two teachers", "add a teacher, or leave `mix` out")


STRATEGY = Strategy(
    about="A random mixture of the strongest and the weakest teacher",
    assign=assign,
    loads=loads,
    settings=(SHARE,),
    calibration="without sizes",
    place=2,
)
