"""Training a router: each prompt is encoded once, and the loss is taken over all pairs of its teachers."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from engine.base.errors import TrainingError
from engine.methods.metrics import measure
from engine.models.threads import threads
from engine.router.backbone import load_backbone
from engine.router.checkpoints import Checkpoints, fingerprint
from engine.router.head import PATHS, Fold, HeadCheckpoints, HeadResult, fit_head
from engine.router.history import Evaluation, History, Hooks
from engine.router.manifest import Teacher
from engine.router.model import Router
from engine.router.settings import FitSettings
from engine.router.tune import tune
from storage.records import Messages

_DEVIATION_FLOOR = 0.1
"""Of the typical deviation: a hidden unit that hardly moved in calibration must not explode on a new one."""


def fit(
    backbone: str,
    teachers: Sequence[Teacher],
    prompts: Sequence[Messages],
    rewards: ArrayLike,
    settings: FitSettings,
    hooks: Hooks | None = None,
) -> tuple[Router, History]:
    """Return a trained router in eval mode, and how its training went.

    The prompts are split into folds by prompt (equal prompts stay together). Hidden states of all prompts are
    computed once and standardised, and the head is trained on them. With a frozen backbone that is all: one
    head per fold, averaged, which is a linear head again. With `lora` or `full` the first fold's head is the
    start, and backbone and head are trained on from there, so that a tuned router is never worse on the
    held-out prompts than the frozen one it began as.

    Args:
        backbone: model reference, see `load_backbone`.
        teachers: M teachers in the order of the columns of `rewards`.
        prompts: B conversations.
        rewards: (B, M), NaN where missing; a prompt that is not to be trained on is a row of NaN.
        settings: how.
        hooks: what is told and asked meanwhile.

    Raises:
        TrainingError: fewer than two prompts have a pair to learn from, or the loss is not finite.
        ModelError: the backbone cannot be used.
        Cancelled: `should_stop` said so.
    """
    started = time.perf_counter()
    hooks = hooks or Hooks()
    r = np.asarray(rewards, dtype=np.float64)
    if r.shape != (len(prompts), len(teachers)):
        raise ValueError(f"rewards {r.shape} for {len(prompts)} prompts and {len(teachers)} teachers")
    pairs = _pairs(r, settings)
    used = [int(i) for i in np.flatnonzero(pairs)]
    if len(used) < 2:
        raise TrainingError(
            f"{len(used)} of {len(prompts)} prompts have two answers of different reward; "
            "the router needs at least two such prompts",
            "add calibration prompts or teachers, or look at why the answers are unusable or all wrong",
        )
    with hooks.loading():
        loaded = load_backbone(
            backbone,
            revision=settings.revision,
            dtype=settings.dtype,
            device=settings.device,
            trust_remote_code=settings.trust_remote_code,
        )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)  # an adapter starts from random numbers
        router = Router(
            loaded,
            teachers,
            settings.tune,
            lora_rank=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            max_tokens=settings.max_tokens,
        )
    encoded = router.encode([prompts[i] for i in used])
    before = time.perf_counter()
    pooled = router.pooled(encoded, hooks.should_stop, keep_in=settings.keep_in, on_read=hooks.reading)
    seconds_encoding = time.perf_counter() - before
    known = torch.tensor(r[used], device=pooled.device)
    folds = _folds(encoded, settings)
    features = _standardise(router, pooled)
    kept = HeadCheckpoints(
        Checkpoints(
            settings.keep_in and settings.keep_in / "heads",
            fingerprint(loaded, encoded, known, folds, settings),
            hooks.notice,
        ),
        features.device,
    )

    def fit_fold(number: int, on_epoch: Callable[[int, Evaluation], None]) -> HeadResult:
        return fit_head(_fold(features, known, folds, number), settings, on_epoch, hooks.should_stop, kept)

    with threads(loaded.hidden * len(teachers)):
        if settings.tune == "frozen":
            hooks.begin(kept.epochs, (int(folds.max()) + 1) * PATHS * settings.head_epochs, None)
            evaluations, best, held_out = _cross_fit(router, features, folds, settings, hooks, fit_fold)
            held = np.arange(len(used))
        else:
            most = PATHS * settings.head_epochs
            hooks.head(min(kept.epochs, most), most)
            _set_head(router, [fit_fold(0, lambda epoch, _: hooks.head(epoch, most))])
            hooks.head(most, most)
    if settings.tune != "frozen":
        evaluations, best, held_out = tune(router, encoded, known, folds, settings, hooks)
        held = np.flatnonzero(folds == 0)
    where = np.full(len(prompts), -1, dtype=np.int64)
    where[used] = folds
    history = History(
        prompts=len(used),
        pairs=int(pairs.sum()),
        skipped=len(prompts) - len(used),
        truncated=router.truncated,
        folds=where,
        evaluations=tuple(evaluations),
        best=tuple(best),
        held_out=measure(held_out.cpu().numpy(), r[used][held], seed=settings.seed),
        seconds=time.perf_counter() - started,
        seconds_encoding=seconds_encoding,
    )
    return router.eval(), history


def _pairs(rewards: NDArray[np.float64], settings: FitSettings) -> NDArray[np.int64]:
    """Return (B,) the number of pairs that count in the loss."""
    i, j = np.triu_indices(rewards.shape[1], k=1)
    gap = rewards[:, i] - rewards[:, j]
    counted = ~np.isnan(gap)
    if settings.temperature is None and settings.ties == "drop":
        counted &= gap != 0
    pairs: NDArray[np.int64] = counted.sum(axis=1, dtype=np.int64)
    return pairs


def _folds(encoded: Sequence[Sequence[int]], settings: FitSettings) -> NDArray[np.int64]:
    """Return (B,) the fold of each prompt; equal prompts share one, sizes differ as little as that allows."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, ids in enumerate(encoded):
        groups.setdefault(tuple(ids), []).append(index)
    if len(groups) < 2:
        raise TrainingError(
            "all calibration prompts with a pair are the same prompt, so none can be held out",
            "add other prompts; a prompt cut to the backbone's context may have lost what sets it apart",
        )
    order = np.random.default_rng(settings.seed).permutation(len(groups))
    folds = np.empty(len(encoded), dtype=np.int64)
    members = list(groups.values())
    for place, group in enumerate(order):
        folds[members[group]] = place % min(settings.folds, len(groups))
    return folds


def _standardise(router: Router, pooled: Tensor) -> Tensor:
    """Return features (B, H) of mean 0 and deviation 1, and leave both statistics in the router."""
    deviation = pooled.std(dim=0, correction=0)
    typical = deviation.square().mean().sqrt().clamp(min=1e-12)
    router.mean.copy_(pooled.mean(dim=0))
    router.deviation.copy_(deviation.clamp(min=_DEVIATION_FLOOR * float(typical)))
    return (pooled - router.mean) / router.deviation


def _fold(features: Tensor, rewards: Tensor, folds: NDArray[np.int64], number: int) -> Fold:
    held = torch.as_tensor(folds == number, device=features.device)
    return Fold(number, features[~held], rewards[~held], features[held], rewards[held])


def _cross_fit(
    router: Router,
    features: Tensor,
    folds: NDArray[np.int64],
    settings: FitSettings,
    hooks: Hooks,
    fit_fold: Callable[[int, Callable[[int, Evaluation], None]], HeadResult],
) -> tuple[list[Evaluation], list[Evaluation], Tensor]:
    """Return all evaluations, each fold's best, and strengths (B, M) by heads that did not see the row.

    Args:
        fit_fold: returns the head of a fold; is given its number, and what to call after each epoch.
    """
    results: list[HeadResult] = []
    held_out = torch.zeros(len(features), len(router.teachers), device=features.device)
    count, epochs = int(folds.max()) + 1, PATHS * settings.head_epochs
    for number in range(count):

        def on_epoch(epoch: int, now: Evaluation, before: int = number * epochs) -> None:
            hooks.progress(before + epoch, count * epochs, now.measures())

        result = fit_fold(number, on_epoch)
        held = torch.as_tensor(folds == number, device=features.device)
        held_out[held] = nn.functional.linear(features[held], result.weight, result.bias)
        results.append(result)
    _set_head(router, results)
    evaluations = [one for result in results for one in result.evaluations]
    return evaluations, [result.best for result in results], held_out


def _set_head(router: Router, results: Sequence[HeadResult]) -> None:
    with torch.no_grad():
        router.head.weight.copy_(torch.stack([result.weight for result in results]).mean(dim=0))
        router.head.bias.copy_(torch.stack([result.bias for result in results]).mean(dim=0))
