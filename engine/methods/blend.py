"""One quality from several scorers: each put on one scale over the calibration answers, then weighted.

    q = Σ_k w_k · (s_k − a_k) / b_k  /  Σ_k w_k

a_k and b_k are the same for every prompt: a prompt on which all answers are about equally good to a scorer keeps
its small differences small, and the one answer to a synthesis prompt has a quality too. Normalization within the
prompt comes after, once, in `engine.methods.reward`. Scores are stored raw per scorer; nothing here is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.methods.reward import SPREAD_FLOOR

Normalization = Literal["zscore", "minmax", "none"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a scorer's values lie: a value v becomes (v − shift) / width."""

    shift: float
    width: float


def scale(values: Floats, normalization: Normalization) -> Scale:
    """The scale of one scorer, from its values on the calibration answers (any shape, NaN where missing)."""
    known = values[~np.isnan(values)]
    if normalization == "none" or not known.size:
        return Scale(0.0, 1.0)
    if normalization == "zscore":
        return Scale(float(known.mean()), max(float(known.std()), SPREAD_FLOOR))
    return Scale(float(known.min()), max(float(known.max() - known.min()), SPREAD_FLOOR))


def blend(values: Sequence[Floats], weights: Sequence[float], scales: Sequence[Scale]) -> Floats:
    """Quality (B, M) of B prompts by M teachers; a single scorer's values as they are.

    A scorer without a value for any answer to a prompt (a verifier where there is nothing to verify) has no say
    there, and the others share its weight. Where it has judged other answers to the prompt, an answer that it
    could not judge is NaN: it is not comparable with them.

    Args:
        values: (B, M) per scorer, raw, NaN where missing.
        weights: one per scorer, above 0.
        scales: one per scorer.
    """
    if len(values) == 1:
        return values[0]
    total = np.zeros_like(values[0])
    weight = np.zeros((len(total), 1))
    for raw, share, place in zip(values, weights, scales, strict=True):
        judged = ~np.isnan(raw).all(axis=1, keepdims=True)
        total += np.where(judged, share * (raw - place.shift) / place.width, 0.0)
        weight += share * judged
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
