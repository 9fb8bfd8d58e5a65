"""Stored scores as matrices and labels: what router training, routing and relabelling start from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import reward, scoring
from engine.config import RewardConfig
from engine.context import Context
from storage import scores
from storage.records import Split


@dataclass(frozen=True, slots=True)
class Evidence:
    """Scores of B prompts by M teachers; rows in prompt order, columns in the run file's teacher order."""

    prompt_ids: NDArray[np.int64]
    """(B,)"""
    quality: NDArray[np.float64]
    """(B, M), raw; NaN where missing."""
    learnability: NDArray[np.float64]
    """(B, M), nats per token; NaN where missing."""
    usable: NDArray[np.bool_]
    """(B, M): a whole answer is stored."""
    asked: NDArray[np.bool_]
    """(B, M): an answer is stored that says something of the teacher (not an error)."""

    def labels(self, config: RewardConfig) -> reward.Labels:
        """Rewards and flags under these settings; costs no generation and no forward pass."""
        return reward.label(
            self.quality,
            self.learnability,
            self.usable,
            self.asked,
            alpha=config.alpha,
            normalization=config.normalization,
            unusable=config.unusable,
            exclude_all_wrong=config.exclude_all_wrong,
            binary_quality=self.binary,
        )

    @property
    def binary(self) -> bool:
        """Whether every known quality is 0 or 1."""
        known = self.quality[~np.isnan(self.quality)]
        return bool(len(known)) and bool(np.isin(known, (0.0, 1.0)).all())

    def means(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """((M,) mean quality, (M,) the student's mean loss): NaN for a teacher without a scored answer."""
        return _column_means(self.quality), -_column_means(self.learnability)


def gather(context: Context, splits: tuple[Split, ...]) -> Evidence:
    """All scores of this run's teachers on the prompts of these splits."""
    quality, learnability = (
        scores.matrix(
            context.store, context.prompt_set, splits, context.generations, scoring.scorer_id(context, kind)
        )
        for kind in scoring.kinds(context)
    )
    return Evidence(
        prompt_ids=quality.prompt_ids,
        quality=quality.values,
        learnability=learnability.values,
        usable=quality.usable,
        asked=quality.asked,
    )


def _column_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
