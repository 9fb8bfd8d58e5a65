"""Rewards: what a teacher's answer to a prompt is worth to this student, from raw quality and learnability.

For prompt x and teacher n, with quality q and learnability l (mean log-likelihood of the answer under the
untrained student, nats per token),

    r = (1 − α)·q̃ + α·l̃,

where ~ is a normalization within the prompt, over the teachers whose answer is present (Zhang et al.,
"Find Your Optimal Teacher", ACL 2026, arXiv 2510.10925, §3; α = 0.4 there). Stored scores stay raw and
rewards are always derived, so α, normalization and filters change without a generation or a forward pass.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.base.errors import ConfigError, ScoreError
from engine.methods.pairs import signs

Normalization = Literal["zscore", "minmax", "rank"]
Unusable = Literal["worst", "missing"]
Targets = Literal["hard", "soft"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

SPREAD_FLOOR = 1e-6
"""Least standard deviation (zscore) or range (minmax) that is divided by: noise must not become a signal."""

IDLE_TOLERANCE = 0.01
"""Share of pairs that may differ while α is still said to give the same labels."""
IDLE_WIDTH = 0.3
"""So wide must a range of α with the same labels be for α to be called idle."""

UNUSABLE_GAP = 1.0
"""How far below the worst usable answer of its prompt an unusable answer lies, in reward units."""


def combine(
    quality: ArrayLike,
    learnability: ArrayLike,
    alpha: float = 0.4,
    normalization: Normalization = "zscore",
) -> Floats:
    """Return rewards (B, M) in float64, NaN where a needed signal is missing.

    Args:
        quality: (B, M), any scale, NaN where missing. Not needed when `alpha` is 1.
        learnability: (B, M), nats per token, NaN where missing. Not needed when `alpha` is 0.
        alpha: weight of learnability, 0 to 1.
        normalization: within each prompt over the present teachers: `zscore` (population standard
            deviation, floored), `minmax` (to 0..1) or `rank` (average ranks to 0..1). A signal that is the
            same for all present teachers becomes 0.

    Raises:
        ScoreError: a score is infinite, or so large that its normalization is.
        ConfigError: `alpha` or `normalization` is not one of the above.
        ValueError: the shapes differ or are not (B, M).
    """
    _check_settings(alpha, normalization)
    q, ll = _matrix(quality, "quality"), _matrix(learnability, "learnability")
    if q.shape != ll.shape:
        raise ValueError(f"quality {q.shape} and learnability {ll.shape} differ in shape")
    present = np.ones(q.shape, dtype=np.bool_)
    if alpha < 1:
        present &= ~np.isnan(q)
    if alpha > 0:
        present &= ~np.isnan(ll)
    rewards = np.zeros(q.shape, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if alpha < 1:
            rewards += (1 - alpha) * _normalize(q, present, normalization)
        if alpha > 0:
            rewards += alpha * _normalize(ll, present, normalization)
    if not np.isfinite(rewards[present]).all():
        raise ScoreError(
            "a score is too large to be normalized within its prompt",
            "check the scorer's output for this prompt set; scores must be finite and below about 1e150",
        )
    rewards[~present] = np.nan
    return rewards


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """How rewards are made from scores: the run file's `reward`."""

    alpha: float = 0.4
    """Weight of learnability, 0 to 1."""
    normalization: Normalization = "zscore"
    """See `combine`; it is taken over the usable answers only."""
    unusable: Unusable = "worst"
    """An answer that was asked for and is not usable ranks 1.0 below the worst usable answer of its prompt (`worst`: a
    teacher that fails on a prompt is a bad teacher for it) or counts as never asked (`missing`)."""
    exclude_all_wrong: bool = True
    """Excludes prompts on which every usable answer is wrong."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Rewards of B prompts by M teachers, with what a reader must know about each prompt."""

    rewards: Floats
    """(B, M); NaN where nothing is known."""
    excluded: Bools
    """(B,): not to be used to train the router: all wrong (when so set), or no usable answer."""
    constant_quality: Bools
    """(B,): at least two usable answers and all of the same quality, so learnability alone decides."""
    constant_learnability: Bools
    """(B,): at least two usable answers and all of the same learnability."""
    all_wrong: Bools
    """(B,): it is known what is right, and not one usable answer is: only fluency is left to decide."""
    usable: Ints
    """(B,): usable answers with the needed scores."""
    unusable: Ints
    """(B,): answers that were asked for and came back truncated, empty, refused or not at all."""

    @property
    def training_rewards(self) -> Floats:
        """Rewards (B, M) with the excluded prompts set to NaN: what the router is trained on."""
        kept = self.rewards.copy()
        kept[self.excluded] = np.nan
        return kept


def label(
    quality: ArrayLike,
    learnability: ArrayLike,
    usable: ArrayLike,
    asked: ArrayLike,
    *,
    correct: ArrayLike | None,
    settings: RewardSettings = RewardSettings(),
) -> Labels:
    """Return the `Labels` of B prompts: rewards over usable answers, a place for unusable ones, and flags.

    Args:
        quality: (B, M), NaN where missing.
        learnability: (B, M), nats per token, NaN where missing.
        usable: (B, M), True where the teacher gave a whole answer.
        asked: (B, M), True where the teacher was asked.
        correct: (B, M), 1 right, 0 wrong, NaN where missing; None when nothing says so. It is the quality itself
            or one of the scorers behind it; only with it can an answer be called wrong.
        settings: how rewards are made. A prompt without any usable answer is NaN throughout.

    Raises:
        ScoreError: a score is infinite, or `correct` is neither 0 nor 1.
        ConfigError: a setting is not one of the above.
        ValueError: the shapes differ, or an answer is usable that was never asked for.
    """
    q, ll = _matrix(quality, "quality").copy(), _matrix(learnability, "learnability").copy()
    ok, wanted = np.asarray(usable, dtype=np.bool_), np.asarray(asked, dtype=np.bool_)
    if not q.shape == ll.shape == ok.shape == wanted.shape:
        raise ValueError(f"shapes differ: {q.shape}, {ll.shape}, usable {ok.shape}, asked {wanted.shape}")
    if (ok & ~wanted).any():
        raise ValueError("an answer is marked usable that was never asked for")
    if settings.unusable not in get_args(Unusable):
        raise ConfigError(
            f"unusable answers cannot be treated as {settings.unusable!r}", "use 'worst' or 'missing'"
        )
    right = np.full_like(q, np.nan) if correct is None else _matrix(correct, "correct").copy()
    if right.shape != q.shape:
        raise ValueError(f"correct {right.shape} and quality {q.shape} differ in shape")
    if not np.isin(right[~np.isnan(right)], (0.0, 1.0)).all():
        raise ScoreError(
            "a 0/1 quality score is neither 0 nor 1", "check the quality scorer, or score it as graded"
        )
    q[~ok] = np.nan
    ll[~ok] = np.nan
    right[~ok] = np.nan
    rewards = combine(q, ll, settings.alpha, settings.normalization)
    known = ~np.isnan(rewards)
    failed = wanted & ~ok
    some: Bools = known.sum(axis=1) > 0
    if settings.unusable == "worst":
        lowest = np.where(known, rewards, np.inf).min(axis=1, initial=np.inf)
        place = failed & some[:, None]
        rewards[place] = np.broadcast_to((lowest - UNUSABLE_GAP)[:, None], rewards.shape)[place]
    all_wrong: Bools = (right == 0).any(axis=1) & ~(right > 0).any(axis=1)
    return Labels(
        rewards=rewards,
        excluded=~some | (all_wrong & settings.exclude_all_wrong),
        constant_quality=_constant(q),
        constant_learnability=_constant(ll),
        all_wrong=all_wrong,
        usable=known.sum(axis=1, dtype=np.int64),
        unusable=failed.sum(axis=1, dtype=np.int64),
    )


def alpha_is_idle(
    quality: ArrayLike,
    learnability: ArrayLike,
    *,
    alpha: float,
    normalization: Normalization,
    targets: Targets,
) -> str | None:
    """Return a sentence for the operator when α has no say in the labels, None when it has.

    Hard labels keep only the sign of r_i − r_j. With 0/1 quality those signs are the same over a wide range
    of α: quality decides, learnability breaks ties. Whether that is so is read off the data: the pairs are
    formed for a grid of α, and the range around the setting is reported in which they stay the same.

    Args:
        quality, learnability: (B, M) as for `combine`, NaN where missing or not trained on.
        alpha: the setting.
        normalization: as for `combine`.
        targets: `soft` targets see the size of the difference, so α is never idle with them.
    """
    if targets == "soft":
        return None
    grid = np.unique(np.append(np.round(np.linspace(0.0, 1.0, 41), 3), alpha))
    here = _pair_signs(quality, learnability, alpha, normalization)
    pairs = int(np.count_nonzero(here))
    if pairs == 0:
        return None
    there = (_pair_signs(quality, learnability, float(a), normalization) for a in grid)
    changed = [int(np.count_nonzero(other != here)) for other in there]
    low = high = int(np.flatnonzero(grid == alpha)[0])
    while low > 0 and changed[low - 1] <= IDLE_TOLERANCE * pairs:
        low -= 1
    while high < len(grid) - 1 and changed[high + 1] <= IDLE_TOLERANCE * pairs:
        high += 1
    if grid[high] - grid[low] < IDLE_WIDTH:
        return None
    q = np.asarray(quality, dtype=np.float64)
    binary = np.isin(q[~np.isnan(q)], (0, 1)).all()
    cause = "quality is 0/1 and labels are hard" if binary else "labels are hard"
    most = max(changed[low : high + 1])
    same = f"gives the same {pairs} pairs" if most == 0 else f"changes at most {most} of {pairs} pairs"
    return (
        f"alpha is idle: {cause}, so only the order of two rewards counts, and every alpha from "
        f"{grid[low]:g} to {grid[high]:g} {same} as alpha = {alpha:g}. "
        "Soft targets (router: {targets: soft}) or a graded quality make it matter."
    )


def _pair_signs(
    quality: ArrayLike, learnability: ArrayLike, alpha: float, normalization: Normalization
) -> NDArray[np.int8]:
    """Return signs (B, M·(M−1)/2) of r_i − r_j for i < j; 0 for ties and missing answers.

    An α of 0 or 1 does not need the other signal; its pairs are compared on the answers that have both.
    """
    q, ll = np.asarray(quality, dtype=np.float64), np.asarray(learnability, dtype=np.float64)
    both = ~(np.isnan(q) | np.isnan(ll))
    rewards = combine(np.where(both, q, np.nan), np.where(both, ll, np.nan), alpha, normalization)
    return signs(rewards)


def _check_settings(alpha: float, normalization: str) -> None:
    if not 0.0 <= alpha <= 1.0:
        raise ConfigError(f"reward.alpha is {alpha}", "choose 0 (quality only) to 1 (learnability only)")
    if normalization not in get_args(Normalization):
        raise ConfigError(
            f"reward.normalization is {normalization!r}", f"use one of: {', '.join(get_args(Normalization))}"
        )


def _matrix(scores: ArrayLike, name: str) -> Floats:
    """Return scores as float64 (B, M); infinities are refused, NaN passes as `missing`."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must be (B, M), not {array.shape}")
    if np.isinf(array).any():
        row, column = np.argwhere(np.isinf(array))[0]
        raise ScoreError(
            f"{name} of prompt {row}, teacher {column} is infinite",
            "a score is a finite number or missing; check the scorer and the model it uses",
        )
    return array


def _constant(signal: Floats) -> Bools:
    """Return (B,), True where at least two values are present and all are equal."""
    present = ~np.isnan(signal)
    highest = np.where(present, signal, -np.inf).max(axis=1, initial=-np.inf)
    lowest = np.where(present, signal, np.inf).min(axis=1, initial=np.inf)
    constant: Bools = (present.sum(axis=1) >= 2) & (highest == lowest)
    return constant


def _normalize(signal: Floats, present: Bools, normalization: Normalization) -> Floats:
    """Return the signal (B, M) normalized within each row over its present entries; 0 elsewhere."""
    x = np.where(present, signal, 0.0)
    if x.size == 0:
        return x
    count = np.maximum(present.sum(axis=1, keepdims=True), 1)
    lowest = np.where(present, signal, np.inf).min(axis=1, keepdims=True)
    highest = np.where(present, signal, -np.inf).max(axis=1, keepdims=True)
    if normalization == "zscore":
        centred = np.where(present, x - x.sum(axis=1, keepdims=True) / count, 0.0)
        deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
        # An overflowing deviation would divide every score to a silent 0.
        scaled = centred / np.where(np.isinf(deviation), np.nan, np.maximum(deviation, SPREAD_FLOOR))
    elif normalization == "minmax":
        scaled = (x - lowest) / np.maximum(highest - lowest, SPREAD_FLOOR)
    else:
        scaled = _average_ranks(x, present) / np.maximum(count - 1, 1)
    # A constant row is exactly 0: a mean that rounds must not leave a residue that orders teachers.
    return np.where(present & (highest > lowest), scaled, 0.0)


def _average_ranks(x: Floats, present: Bools) -> Floats:
    """Return ranks (B, M) from 0 among the present entries of each row; ties share their mean rank."""
    others = present[:, None, :]
    below = ((x[:, None, :] < x[:, :, None]) & others).sum(axis=2)
    equal = ((x[:, None, :] == x[:, :, None]) & others).sum(axis=2)
    ranks: Floats = below + (equal - 1) / 2.0
    return ranks
