"""How good a router is, beside what chance and the best single teacher would do on the same prompts.

Hit@3 follows Zhang et al. (arXiv 2510.10925): is the router's first choice among the oracle's best three?
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.base.errors import ScoreError, TrainingError
from engine.methods import statistics
from engine.methods.pairs import signs

Floats = NDArray[np.float64]

RESAMPLES = 1000
"""Bootstrap resamples behind each interval."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """A router's measures over `n` prompts. Regrets are in reward units; hits and shares are 0 to 1."""

    n: int
    """Prompts with at least two known rewards; the others say nothing about a choice."""
    skipped: int
    """Prompts left out for that reason."""
    hit_at_1: float
    """Share of prompts whose choice has the highest reward; a tie with the highest is a hit."""
    hit_at_1_low: float
    hit_at_1_high: float
    """95% bootstrap interval over prompts (percentiles)."""
    hit_at_3: float
    """Share of prompts whose choice is worth at least the third best reward; 1 with up to three teachers."""
    regret: float
    """Mean of (highest reward − reward of the choice)."""
    regret_low: float
    regret_high: float
    """95% bootstrap interval over prompts (percentiles)."""
    chance_hit_at_1: float
    """Hit@1 of a teacher drawn evenly from those with a known reward: exact, not sampled."""
    chance_hit_at_3: float
    random_regret: float
    """Regret of that draw: exact."""
    best_single: int
    """The teacher with the least regret if it answered everything, chosen in hindsight on these prompts."""
    best_single_hit_at_1: float
    best_single_regret: float
    agreement: float | None
    """Share of pairs of unequal reward that the strengths put in the same order (equal strengths: half);
    None without such a pair."""
    share: tuple[float, ...]
    """(M,): part of the prompts that each teacher gets."""
    entropy: float
    """Of `share`, in nats: 0 when one teacher gets all, log M when all get the same."""


def measure(
    strengths: ArrayLike, rewards: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Metrics:
    """Return the `Metrics` of choosing, on each prompt, the known teacher of the highest strength.

    Args:
        strengths: (B, M), finite.
        rewards: (B, M), NaN where a teacher was not asked; the choice is among the others.
        seed: of the bootstrap.
        resamples: of the bootstrap; with 0 the intervals shrink to their means.

    Raises:
        TrainingError: no prompt has two known rewards.
        ScoreError: a strength is not finite, or a reward is infinite.
        ValueError: the shapes differ or are not (B, M).
    """
    s, r = np.asarray(strengths, dtype=np.float64), np.asarray(rewards, dtype=np.float64)
    if s.ndim != 2 or s.shape != r.shape:
        raise ValueError(f"{s.shape} strengths, {r.shape} rewards: must be one (B, M)")
    if not np.isfinite(s).all() or np.isinf(r).any():
        raise ScoreError(
            "a strength or a reward is not finite", "train the router again, or check the scores"
        )
    kept = (~np.isnan(r)).sum(axis=1) >= 2
    n = int(kept.sum())
    if n == 0:
        raise TrainingError(
            "no prompt has two known rewards, so a router cannot be measured",
            "let at least two teachers answer the validation prompts",
        )
    s, r = s[kept], r[kept]
    known = ~np.isnan(r)
    choice = np.where(known, s, -np.inf).argmax(axis=1)
    filled = np.where(known, r, -np.inf)
    best = filled.max(axis=1)
    third = np.sort(filled, axis=1)[:, -min(3, r.shape[1])]
    chosen = filled[np.arange(n), choice]
    hit, hit3, regret = chosen == best, chosen >= third, best - chosen
    lost = best[:, None] - r
    asked = known.sum(axis=1)
    single = _best_single(lost)
    share = np.bincount(choice, minlength=r.shape[1]) / n
    used = share[share > 0]
    ((regret_low, regret_high),) = _intervals(regret[None], seed, resamples)
    hits = statistics.accuracy(hit)  # Wilson: of 20 right ones in 20 a bootstrap would make 1.00 to 1.00
    return Metrics(
        n=n,
        skipped=int((~kept).sum()),
        hit_at_1=hits.accuracy,
        hit_at_1_low=hits.low,
        hit_at_1_high=hits.high,
        hit_at_3=float(hit3.mean()),
        regret=float(regret.mean()),
        regret_low=regret_low,
        regret_high=regret_high,
        chance_hit_at_1=float(((filled == best[:, None]).sum(axis=1) / asked).mean()),
        chance_hit_at_3=float(((known & (filled >= third[:, None])).sum(axis=1) / asked).mean()),
        random_regret=float((np.nansum(lost, axis=1) / asked).mean()),
        best_single=single,
        best_single_hit_at_1=float((lost[known[:, single], single] == 0).mean()),
        best_single_regret=float(np.nanmean(lost[:, single])),
        agreement=_agreement(s, r),
        share=tuple(float(part) for part in share),
        entropy=float(-(used * np.log(used)).sum()) + 0.0,
    )


def _best_single(lost: Floats) -> int:
    """Return the teacher of the least mean loss (n, M) among those known most often.

    With partly known rewards a teacher asked on three easy prompts must not win: only teachers known on at
    least half as many prompts as the best known one compete.
    """
    counts = (~np.isnan(lost)).sum(axis=0)
    eligible = counts * 2 >= counts.max()
    means = np.full(lost.shape[1], np.inf)
    means[eligible] = np.nanmean(lost[:, eligible], axis=0)
    return int(means.argmin())


def _agreement(strengths: Floats, rewards: Floats) -> float | None:
    order, said = signs(rewards), signs(strengths)
    pairs = int(np.count_nonzero(order))
    return float(((1 + order * said) / 2)[order != 0].sum() / pairs) if pairs else None


def _intervals(values: Floats, seed: int, resamples: int) -> list[tuple[float, float]]:
    """Return the 95% percentile bootstrap interval of each row's mean, (k, n) → k pairs."""
    if resamples == 0:
        return [(float(mean), float(mean)) for mean in values.mean(axis=1)]
    random = np.random.default_rng(seed)
    n = values.shape[1]
    # One resample at a time: n may be tens of thousands, and 1000 × n indices would not be small.
    means = np.stack([values[:, random.integers(n, size=n)].mean(axis=1) for _ in range(resamples)])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
