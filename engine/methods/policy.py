"""From strengths to a decision: who answers, who steps in on failure, and how clear the choice was."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.base.errors import ScoreError


@dataclass(frozen=True, slots=True)
class Decision:
    """Who answers B prompts."""

    choices: NDArray[np.int64]
    """(B,): index of the teacher with the highest strength; the first of equals."""
    margins: NDArray[np.float64]
    """(B,): strength of the choice minus that of the runner-up, the log-odds that it beats it; 0 with one
    teacher."""
    ranking: NDArray[np.int64]
    """(B, M): teachers from best to worst. When the first fails, the next one is asked."""


def choose(strengths: ArrayLike) -> Decision:
    """Return the `Decision` for strengths (B, M).

    Raises:
        ScoreError: a strength is not finite.
        ValueError: not (B, M) with at least one teacher.
    """
    s = np.asarray(strengths, dtype=np.float64)
    if s.ndim != 2 or s.shape[1] == 0:
        raise ValueError(f"strengths must be (B, M) with M > 0, not {s.shape}")
    if not np.isfinite(s).all():
        raise ScoreError("a strength is not finite", "train the router again")
    ranking = np.argsort(-s, axis=1, kind="stable").astype(np.int64)
    ordered = np.take_along_axis(s, ranking, axis=1)
    margins = ordered[:, 0] - ordered[:, 1] if s.shape[1] > 1 else np.zeros(len(s))
    return Decision(choices=ranking[:, 0], margins=margins, ranking=ranking)
