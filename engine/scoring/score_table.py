"""Stored scores as matrices and labels: what router training, routing and relabelling start from."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from engine.config.stages import RewardConfig
from engine.job import plan_store, scorer_ids
from engine.job.context import RunContext
from engine.job.identity import LEARNABILITY
from engine.methods import blend, reward
from storage import score_matrix
from storage.records import Split


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores of B prompts by M teachers; rows in prompt order, columns in the run file's teacher order."""

    prompt_ids: NDArray[np.int64]
    """(B,)"""
    quality: NDArray[np.float64]
    """(B, M); NaN where missing. Of one scorer: raw; of several: see `engine.methods.blend`."""
    learnability: NDArray[np.float64]
    """(B, M), nats per token; NaN where missing."""
    usable: NDArray[np.bool_]
    """(B, M): a whole response is stored."""
    asked: NDArray[np.bool_]
    """(B, M): a response is stored that says something of the teacher (not an error)."""
    correct: NDArray[np.float64] | None
    """(B, M): 1 right, 0 wrong, NaN where missing; None when no scorer of the quality says so."""

    def labels(self, config: RewardConfig) -> reward.Labels:
        """Rewards and flags under these settings; costs no generation and no forward pass."""
        return reward.label(
            self.quality,
            self.learnability,
            self.usable,
            self.asked,
            correct=self.correct,
            settings=reward.RewardSettings(**config.model_dump()),
        )

    def alpha_is_idle(self, config: RewardConfig, targets: reward.Targets) -> str | None:
        """Why α has no say in the labels of these settings; None when it has. See `reward.alpha_is_idle`."""
        kept = self.usable & ~self.labels(config).excluded[:, None]
        return reward.alpha_is_idle(
            np.where(kept, self.quality, np.nan),
            np.where(kept, self.learnability, np.nan),
            alpha=config.alpha,
            normalization=config.normalization,
            targets=targets,
        )

    def means(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """((M,) mean quality, (M,) the student's mean loss): NaN for a teacher without a scored response."""
        return _column_means(self.quality), -_column_means(self.learnability)


def gather(
    context: RunContext, splits: tuple[Split, ...], *, whole: bool = False, prompt_id: int | None = None
) -> ScoreTable:
    """The scores of this run's teachers on the prompts of these splits, or on one of these prompts.

    Of a partial calibration only the responses that its design asked for, whatever other strategies have added to the
    store since: labels must not depend on them. `whole` takes these too.
    """
    asked = None if whole else _design(context)
    found = {name: _matrix(context, splits, name, asked, prompt_id) for name in scorer_ids.names(context)}
    learnability = found.pop(LEARNABILITY)
    judged = [matrix.values for matrix in found.values()]
    return ScoreTable(
        prompt_ids=learnability.prompt_ids,
        quality=blend.blend(judged, weights(context), scales(context)),
        learnability=learnability.values,
        usable=learnability.usable,
        asked=learnability.asked,
        correct=_correct(context, found),
    )


def rewards(context: RunContext, prompt_id: int | None = None) -> dict[tuple[int, int], float]:
    """(prompt, teacher id) → reward, on the prompts that several teachers answer: only there it is defined.

    Args:
        context: of the run whose settings make the rewards.
        prompt_id: only of this prompt; None for all.
    """
    if not context.calibration.needed:
        return {}
    known = gather(context, context.calibration.labelled, whole=context.calibration.full, prompt_id=prompt_id)
    found = known.labels(context.run.reward).rewards
    ids = [teacher_id for teacher_id, _ in context.generations]
    return {
        (int(known.prompt_ids[row]), ids[column]): float(found[row, column])
        for row, column in np.argwhere(~np.isnan(found))
    }


def weights(context: RunContext) -> list[float]:
    """Of the quality scorers, in order."""
    return [config.weight for config in context.run.quality.named.values()]


def scales(context: RunContext) -> list[blend.Scale]:
    """Of the quality scorers, in order: the same for all splits, from the calibration responses."""
    named = context.run.quality.named
    if len(named) == 1:
        return [blend.Scale(0.0, 1.0)]
    asked = _design(context)
    return [
        blend.scale(_matrix(context, ("calibration",), name, asked).values, context.run.quality.normalization)
        for name in named
    ]


def _matrix(
    context: RunContext,
    splits: tuple[Split, ...],
    name: str,
    asked: Mapping[int, set[int]] | None,
    prompt_id: int | None = None,
) -> score_matrix.ScoreMatrix:
    scored = scorer_ids.scored(context, scorer_ids.scorer_id(context, name), splits)
    found = score_matrix.matrix(context.store, scored, prompt_id)
    if asked is not None:
        ids = [teacher_id for teacher_id, _ in context.generations]
        everyone = set(ids)
        out = np.array(
            [
                [teacher not in asked.get(int(prompt), everyone) for teacher in ids]
                for prompt in found.prompt_ids
            ],
            dtype=np.bool_,
        ).reshape(found.values.shape)
        found.values[out] = np.nan
        found.asked[out] = found.usable[out] = False
    return found


def _design(context: RunContext) -> dict[int, set[int]] | None:
    """The teachers that a partial calibration asks, by prompt; None when it asks all."""
    plan_id = plan_store.design_id(context)
    if plan_id is None:
        return None
    asked: dict[int, set[int]] = {}
    for row in chain.from_iterable(plan_store.assignment_pages(context.store, plan_id)):
        asked.setdefault(row.prompt_id, set()).add(row.teacher_id)
    return asked


def _correct(
    context: RunContext, found: Mapping[str, score_matrix.ScoreMatrix]
) -> NDArray[np.float64] | None:
    """The first scorer's values that are 0 or 1 throughout; won and lost comparisons are not right and wrong."""
    for name, matrix in found.items():
        known = matrix.values[~np.isnan(matrix.values)]
        if context.identity.scorer(name).compares:
            continue
        if known.size and np.isin(known, (0.0, 1.0)).all():
            return matrix.values
    return None


def _column_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
