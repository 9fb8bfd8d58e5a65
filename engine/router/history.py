"""What happened while a router was trained."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from engine.methods.metrics import Metrics


def _silent(step: int, total: int, measures: Mapping[str, float]) -> None:
    del step, total, measures


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is told and asked while a router is trained."""

    progress: Callable[[int, int, Mapping[str, float]], None] = _silent
    """Called after each evaluation with (step, total steps, measures). The total is an upper bound: training may stop
    early."""
    should_stop: Callable[[], bool] = _never
    """Asked between batches; True ends the training with `Cancelled`."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Measures on held-out prompts at one moment of training."""

    fold: int
    """Which part of the prompts was held out."""
    step: int
    """Optimizer steps so far; 0 is before the first."""
    loss: float | None
    """Mean training loss since the evaluation before, nats per pair; None at step 0."""
    held_out_loss: float
    """Nats per pair."""
    hit_at_1: float
    hit_at_3: float
    regret: float
    """Reward units."""

    @property
    def key(self) -> tuple[float, float, float]:
        """Lower is better: regret, then Hit@3, then loss. Early stop keeps the least."""
        return (self.regret, -self.hit_at_3, self.held_out_loss)

    def measures(self) -> dict[str, float]:
        """Return the fields by name, without `loss` where there is none: what `Hooks.progress` is given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class History:
    """A router's training, as it went."""

    prompts: int
    """Prompts with at least one pair: those it was trained on."""
    pairs: int
    """Pairs in their labels."""
    skipped: int
    """Prompts without a pair: all rewards equal or missing."""
    truncated: int
    """Prompts longer than the backbone's context, cut in the middle."""
    folds: NDArray[np.int64]
    """(B,): the fold that a prompt was held out in; −1 for a prompt that was not used."""
    evaluations: tuple[Evaluation, ...]
    best: tuple[Evaluation, ...]
    """The evaluation that each fold was stopped at."""
    held_out: Metrics
    """On prompts while they were held out: with a frozen backbone every prompt once, else those of fold 0.
    Early stop chose by these numbers, so they flatter, the more the fewer the prompts (Hit@1 by about .08 with
    25 prompts and .04 with 125, on synthetic tasks). Measure a finished router on validation prompts."""
    seconds: float
    seconds_encoding: float
    """Part of `seconds` that was spent on reading every prompt once with the untrained backbone."""
