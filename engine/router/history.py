"""What happened while a router was trained."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.methods.metrics import Metrics


def _ignore(*_: Any) -> None:
    """What a hook does that nobody set."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is told and asked while a router is trained."""

    loading: Callable[[], AbstractContextManager[object]] = nullcontext
    """Around the loading of the backbone, which asks nobody whether it should stop."""
    reading: Callable[[int, int], None] = _ignore
    """Called with (prompts read, all prompts) once the backbone is loaded, and after each of its passes."""
    head: Callable[[int, int], None] = _ignore
    """Called with (epoch, most epochs) of the head that a tuned router starts from."""
    begin: Callable[[int, int, float | None], None] = _ignore
    """Called before the first step with (steps done before, total steps, work left). The total is an upper bound:
    training may stop early. Work is what `work` counts; None where there is none but the steps."""
    work: Callable[[int, float], None] = _ignore
    """Called after every pass of a tuned backbone with the tokens that it trained on, and the work that it did: those
    tokens, or `MEASURED_COST` of those that were only measured."""
    progress: Callable[[int, int, Mapping[str, float]], None] = _ignore
    """Called after each step of a tuned backbone and each epoch of a head with (step, total steps, measures); no
    measures where none were taken."""
    notice: Callable[[str], None] = _ignore
    """Called with what a person should read, such as a damaged checkpoint."""
    should_stop: Callable[[], bool] = _never
    """Asked before each layer of a pass and each epoch of a head; True ends the training with `Cancelled`."""


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
