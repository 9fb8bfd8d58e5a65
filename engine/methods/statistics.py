"""How sure an evaluation is: intervals of an accuracy, and of the difference between two students."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054
"""0.975 quantile of the standard normal distribution."""

BLOCK = 1 << 20
"""Numbers that a bootstrap holds at once."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers with its 95% interval; all in 0 to 1."""

    accuracy: float
    low: float
    high: float
    count: int
    """Prompts it was measured on."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of a − b over the same prompts."""

    difference: float
    low: float
    """2.5% quantile of the bootstrap."""
    high: float
    p: float
    """Two-sided: how often a resampling of the prompts reaches zero or crosses it."""
    count: int


@dataclass(frozen=True, slots=True)
class Majority:
    """What is right without looking at the prompt."""

    answer: str
    accuracy: Accuracy


def accuracy(results: ArrayLike) -> Accuracy:
    """Return the share of right answers with its 95% Wilson score interval.

    The interval stays inside 0 to 1 and has a width at 0 and at n right answers, where the normal one has none.
    Wilson, J. Am. Stat. Assoc. 22 (1927) 209.

    Args:
        results: 0 or 1 (or False and True) per prompt, (N,).

    Raises:
        ValueError: no result, or one that is neither 0 nor 1.
    """
    right = np.asarray(results, dtype=np.float64)
    if right.ndim != 1 or not len(right):
        raise ValueError("results must be a non-empty list of 0 and 1")
    if not np.isin(right, (0.0, 1.0)).all():
        raise ValueError("results must be 0 or 1")
    n, share, z2 = len(right), float(right.mean()), Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At the ends centre ± half is 0 or 1 up to rounding.
    return Accuracy(share, min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share), n)


def paired_bootstrap(a: ArrayLike, b: ArrayLike, *, draws: int = 10_000, seed: int = 0) -> Difference:
    """Return how much better `a` is than `b` on the same prompts, with a 95% percentile interval and p.

    The prompts are resampled with replacement, both students' results together, so what makes a prompt hard
    for both cancels out. Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; for paired
    systems Koehn, EMNLP 2004 (W04-3250). p counts draws on the far side of zero, those at zero included, plus
    one (so it is never 0), twice, at most 1. The same seed gives the same numbers.

    Args:
        a: a number per prompt, e.g. 0/1 correctness, (N,).
        b: the other student's, in the same order, (N,).
        draws: resamplings.
        seed: of the generator.

    Raises:
        ValueError: not the same number of prompts, none, or a value that is not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"need two non-empty lists of equal length, got {first.shape} and {second.shape}")
    differences = first - second
    if not np.isfinite(differences).all():
        raise ValueError("results must be finite")
    means = _resampled_means(differences, draws, seed)
    low, high = np.quantile(means, (0.025, 0.975))
    crossing = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p = min(1.0, 2 * (crossing + 1) / (draws + 1))
    return Difference(float(differences.mean()), float(low), float(high), p, len(differences))


def _resampled_means(values: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.float64]:
    """Return the mean of each resampling, (draws,).

    How often each *distinct* value is drawn is multinomial, which is the same distribution as drawing indices
    and much less work when there are three values (−1, 0, 1).
    """
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    means = np.empty(draws)
    rows = max(1, BLOCK // len(distinct))
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        drawn = rng.multinomial(len(values), counts / len(values), size=size)
        means[start : start + size] = drawn @ distinct / len(values)
    return means


def majority(answers: Sequence[str]) -> Majority:
    """Return the most frequent reference answer and the accuracy of always giving it; ties: first in order.

    A student below it has learned less than which answer is frequent.

    Raises:
        ValueError: no answer.
    """
    if not answers:
        raise ValueError("no reference answers")
    answer, _ = Counter(answers).most_common(1)[0]
    return Majority(answer, accuracy([given == answer for given in answers]))
