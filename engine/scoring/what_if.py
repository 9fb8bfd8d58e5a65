"""What other reward settings would change, from stored scores alone: no generation, no forward pass, no torch.

Rewards are derived from raw scores (`engine.methods.reward`), so another α or normalization costs arithmetic only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.config.stages import RewardConfig
from engine.methods import reward
from engine.methods.metrics import Metrics, measure
from engine.methods.pairs import signs
from engine.scoring.score_table import ScoreTable
from storage.prompts import prompt_sha
from storage.records import Prompt


@dataclass(frozen=True, slots=True)
class Relabelled:
    """Labels under two settings, side by side."""

    prompts: int
    """Prompts with a label under either setting: some usable response, and not excluded as all wrong."""
    best_changed: int
    """Prompts whose best teacher is another one."""
    pairs: int
    """Pairs of teachers under the old settings that count in the router's loss, so of the calibration alone: those of
    equal rewards too where targets are soft, or ties count half."""
    pairs_changed: int
    """Pairs that turn round, appear or disappear."""
    before: tuple[int, ...]
    """Prompts per teacher, in the run file's order, when each goes to its best response (the oracle)."""
    after: tuple[int, ...]
    idle: str | None
    """Why α has no say in the new labels; None when it has."""


def compare(
    evidence: ScoreTable,
    trained: ScoreTable,
    old: RewardConfig,
    new: RewardConfig,
    targets: reward.Targets,
    ties: Literal["drop", "half"] = "drop",
) -> Relabelled:
    """The labels of `evidence` under `old` and under `new` settings.

    Args:
        evidence: stored scores (B, M) of all prompts with labels.
        trained: those of the prompts that the router learns from.
        old: the run file's settings.
        new: the ones to try.
        targets: the router's; soft ones see the size of a difference, so α is never idle with them.
        ties: the router's: whether equal rewards make no pair, with hard targets.
    """
    first = evidence.labels(old).training_rewards
    second = evidence.labels(new).training_rewards
    taught = trained.labels(old).training_rewards
    signs_before, signs_after = signs(taught), signs(trained.labels(new).training_rewards)
    best_before, best_after = _best(first), _best(second)
    return Relabelled(
        prompts=int(np.count_nonzero((best_before >= 0) | (best_after >= 0))),
        best_changed=int(np.count_nonzero(best_before != best_after)),
        pairs=_known_pairs(taught)
        if targets == "soft" or ties == "half"
        else int(np.count_nonzero(signs_before)),
        pairs_changed=int(np.count_nonzero(signs_before != signs_after)),
        before=_counts(best_before, first.shape[1]),
        after=_counts(best_after, first.shape[1]),
        idle=trained.alpha_is_idle(new, targets),
    )


def measured(
    held: ScoreTable, strengths: Mapping[int, Sequence[float]], settings: RewardConfig
) -> Metrics | None:
    """The measures of a router, as it was trained, against rewards by these settings; intervals are left out.

    Args:
        held: scores of prompts that it was not trained on.
        strengths: what it said of them, by prompt id; the others are left out.
        settings: how rewards are made.

    Returns:
        None when no prompt has strengths and two known rewards.
    """
    rows = [row for row, prompt in enumerate(held.prompt_ids) if int(prompt) in strengths]
    rewards = held.labels(settings).training_rewards[rows]
    if not (np.isfinite(rewards).sum(axis=1) >= 2).any():
        return None
    said = [strengths[int(held.prompt_ids[row])] for row in rows]
    return measure(said, rewards, resamples=0)


def lines(
    evidence: ScoreTable,
    old: RewardConfig,
    new: RewardConfig,
    names: Sequence[str],
    prompts: Mapping[int, Prompt],
) -> Iterator[dict[str, Any]]:
    """One prompt a line: its hash, each teacher's scores and reward under `new`, the best teacher under both.

    What is not known is None; so is the best teacher of a prompt that is left out as all wrong.

    Args:
        evidence: stored scores (B, M).
        old: the run file's settings.
        new: the ones to try.
        names: the M teachers.
        prompts: the prompts of `evidence`, by id.
    """
    labels = evidence.labels(new)
    before, after = _best(evidence.labels(old).training_rewards), _best(labels.training_rewards)
    columns = {"quality": evidence.quality, "learnability": evidence.learnability, "reward": labels.rewards}
    for row, prompt_id in enumerate(evidence.prompt_ids.tolist()):
        yield {
            "prompt_id": prompt_id,
            "prompt_sha": prompt_sha(prompts[prompt_id]),
            "teachers": {
                name: {key: _known(values[row, column]) for key, values in columns.items()}
                for column, name in enumerate(names)
            },
            "best_before": names[before[row]] if before[row] >= 0 else None,
            "best_after": names[after[row]] if after[row] >= 0 else None,
        }


def _known(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None


def _known_pairs(rewards: NDArray[np.float64]) -> int:
    """Pairs of two known rewards, ties among them."""
    known = np.isfinite(rewards).sum(axis=1)
    return int((known * (known - 1) // 2).sum())


def _best(rewards: NDArray[np.float64]) -> NDArray[np.int64]:
    """(B,): column of the highest reward, the first of equals; −1 where none is known."""
    known = ~np.isnan(rewards)
    best = np.where(known, rewards, -np.inf).argmax(axis=1)
    return np.where(known.any(axis=1), best, -1).astype(np.int64)


def _counts(best: NDArray[np.int64], teachers: int) -> tuple[int, ...]:
    counted: Sequence[int] = np.bincount(best[best >= 0], minlength=teachers).tolist()
    return tuple(counted)
