"""Training of backbone and head together: an adapter, or all weights."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.base.errors import Cancelled, TrainingError
from engine.router.head import evaluate, finite
from engine.router.history import Evaluation, Hooks
from engine.router.loss import bradley_terry
from engine.router.model import Router
from engine.router.settings import FitSettings

EVALUATIONS_PER_EPOCH = 2
_WARM_UP = 0.1
"""Share of the steps over which the learning rate rises; it falls linearly afterwards."""


def tune(
    router: Router,
    encoded: Sequence[Sequence[int]],
    rewards: Tensor,
    folds: NDArray[np.int64],
    settings: FitSettings,
    hooks: Hooks,
) -> tuple[list[Evaluation], list[Evaluation], Tensor]:
    """Return all evaluations, the best one, and its strengths (held-out prompts, M); the best is restored.

    The start counts as an evaluation, so a router that only gets worse comes back as it was. The backbone
    stays in eval mode: early stop regularises, and dropout would make two encodings of one prompt differ.

    Args:
        router: with the weights to start from.
        encoded: token ids of B prompts.
        rewards: (B, M), NaN where missing.
        folds: (B,); fold 0 is held out.
        settings: how.
        hooks: called after each evaluation, and asked before each step.

    Raises:
        TrainingError: strengths or gradients are not finite; names the step.
        Cancelled: `should_stop` said so.
    """
    held = np.flatnonzero(folds == 0)
    held_rewards = rewards[torch.as_tensor(held, device=rewards.device)]
    held_encoded = [encoded[int(i)] for i in held]
    train = np.flatnonzero(folds != 0)
    parameters = [p for p in router.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    per_epoch = -(-len(train) // settings.batch_prompts)
    total = settings.epochs * per_epoch
    every = max(1, per_epoch // EVALUATIONS_PER_EPOCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total))

    def look(step: int, losses: Sequence[Tensor]) -> tuple[Evaluation, Tensor]:
        with torch.no_grad():
            strengths = router.read(router.pooled(held_encoded, hooks.should_stop))
        loss = float(torch.stack(list(losses)).mean()) if losses else None
        now = evaluate(finite(strengths, step), held_rewards, settings, fold=0, step=step, loss=loss)
        return now, strengths

    best, held_out = look(0, [])
    kept = _copy(router)
    evaluations = [best]
    since = 0
    losses: list[Tensor] = []
    for step, rows in enumerate(_steps(train, encoded, settings), start=1):
        if hooks.should_stop():
            raise Cancelled(f"the router was stopped at step {step} of {total}")
        strengths = finite(router([encoded[i] for i in rows]), step)
        chosen = torch.as_tensor(rows, device=rewards.device)
        loss = bradley_terry(strengths, rewards[chosen], settings.temperature, settings.ties)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if not torch.isfinite(nn.utils.clip_grad_norm_(parameters, 1.0)):
            raise TrainingError(
                f"the router's gradient is not finite at step {step}", "lower router.learning_rate"
            )
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        if step % every and step != total:
            continue
        now, strengths = look(step, losses)
        losses = []
        evaluations.append(now)
        hooks.progress(step, total, now.measures())
        since += 1
        if now.key < best.key:
            best, held_out, kept, since = now, strengths, _copy(router), 0
        if since >= settings.patience:
            break
    router.restore(*kept)
    return evaluations, [best], held_out


def _rate(step: int, total: int) -> float:
    """Return the learning rate's factor: a linear rise, then a linear fall to 0 at the end."""
    rise = max(1, round(_WARM_UP * total))
    return min((step + 1) / rise, (total - step) / max(1, total - rise))


def _steps(
    rows: NDArray[np.int64], encoded: Sequence[Sequence[int]], settings: FitSettings
) -> list[list[int]]:
    """Return the prompts of each step: batches of like length in random order, mixed anew every epoch."""
    random = np.random.default_rng(settings.seed)
    size = settings.batch_prompts
    steps: list[list[int]] = []
    for _ in range(settings.epochs):
        shuffled = [int(i) for i in random.permutation(rows)]
        epoch: list[list[int]] = []
        # Sorted within windows, not over the whole epoch: else the same prompts would always meet.
        for start in range(0, len(shuffled), 8 * size):
            window = sorted(shuffled[start : start + 8 * size], key=lambda i: len(encoded[i]))
            epoch += [window[i : i + size] for i in range(0, len(window), size)]
        steps += [epoch[i] for i in random.permutation(len(epoch))]
    return steps


def _copy(router: Router) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return (
        {name: tensor.detach().clone() for name, tensor in router.head_state().items()},
        {name: tensor.detach().clone() for name, tensor in router.trained().items()},
    )
