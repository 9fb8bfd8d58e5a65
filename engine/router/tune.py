"""Training of backbone and head together: an adapter, or all weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.base.errors import Cancelled, TrainingError
from engine.models.batching import cut
from engine.models.checkpoint import Checkpoint
from engine.models.forward import MEASURED_COST
from engine.models.memory import batch_tokens
from engine.models.stoppable import stoppable
from engine.router.checkpoints import Checkpoints, State, fingerprint
from engine.router.head import evaluate, finite
from engine.router.history import Evaluation, Hooks
from engine.router.loss import bradley_terry, count_pairs
from engine.router.model import Router
from engine.router.settings import TUNE_CPU_TOKENS, FitSettings

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

    With `settings.keep_in` it goes on from the newest whole checkpoint there, and ends as if undisturbed.

    Args:
        router: with the weights to start from.
        encoded: token ids of B prompts.
        rewards: (B, M), NaN where missing.
        folds: (B,); fold 0 is held out.
        settings: how.
        hooks: see `Hooks`.

    Raises:
        TrainingError: strengths or gradients are not finite; names the step.
        Cancelled: `should_stop` said so; a checkpoint holds what was done.
    """
    held = np.flatnonzero(folds == 0)
    held_rewards = rewards[torch.as_tensor(held, device=rewards.device)]
    held_encoded = [encoded[int(i)] for i in held]
    steps = _steps(np.flatnonzero(folds != 0), encoded, settings)
    total = len(steps)
    every = max(1, total // settings.epochs // EVALUATIONS_PER_EPOCH)
    trained = _Trained(router, settings)
    checkpoints = Checkpoints(
        settings.keep_in and settings.keep_in / "tuning",
        fingerprint(router.source, encoded, rewards, folds, settings),
        hooks.notice,
    )
    if (found := checkpoints.newest()) is not None:
        trained.load(found)
    hooks.begin(trained.step, total, _work_left(encoded, held_encoded, steps[trained.step :], every))

    def look() -> None:
        read = 0

        def on_read(done: int, _: int) -> None:
            nonlocal read
            hooks.work(0, MEASURED_COST * sum(map(len, held_encoded)) * (done - read) / len(held))
            read = done

        states = router.pooled(held_encoded, hooks.should_stop, keep_in=settings.keep_in, on_read=on_read)
        with torch.no_grad():
            strengths = finite(router.read(states), trained.step)
        loss = float(torch.stack(trained.losses).mean()) if trained.losses else None
        now = evaluate(strengths, held_rewards, settings, fold=0, step=trained.step, loss=loss)
        trained.evaluated(now, strengths)

    try:
        while True:
            step = trained.step
            if (step % every == 0 or step == total) and trained.measured_at != step:
                checkpoints.offer(step, trained.state)  # to measure takes as long as many steps
                look()
                hooks.progress(step, total, trained.evaluations[-1].measures())
            if step == total or (step and trained.since >= settings.patience):
                break
            rows = steps[step]
            trained.take_step(
                [encoded[i] for i in rows],
                rewards[torch.as_tensor(rows, device=rewards.device)],
                rate=_rate(step, total),
                hooks=hooks,
            )
            hooks.progress(trained.step, total, {})
            checkpoints.offer(trained.step, trained.state)
    except Cancelled:
        checkpoints.write(trained.step, trained.state)
        raise
    checkpoints.offer(trained.step, trained.state)
    router.restore(*trained.best_weights)
    return trained.evaluations, [trained.best], trained.held_out


class _Trained:
    """Where the tuning stands: weights and moments, measures, and the best router so far."""

    def __init__(self, router: Router, settings: FitSettings) -> None:
        self._router, self._settings = router, settings
        self._parameters = {name: p for name, p in router.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step = 0
        self.losses: list[Tensor] = []
        """Of the steps since the last evaluation."""
        self.evaluations: list[Evaluation] = []
        self.since = 0
        """Evaluations since the best one."""
        self.best: Evaluation
        self.held_out: Tensor
        """Strengths (held-out prompts, M) at the best evaluation."""
        self.best_weights: tuple[dict[str, Tensor], dict[str, Tensor]]
        """What `Router.restore` takes."""

    @property
    def measured_at(self) -> int | None:
        """The step of the last evaluation."""
        return self.evaluations[-1].step if self.evaluations else None

    def take_step(
        self,
        batch: Sequence[Sequence[int]],
        rewards: Tensor,
        *,
        rate: float,
        hooks: Hooks,
    ) -> None:
        """Move the weights by the gradient of a batch of encoded prompts, at `rate` times the learning rate.

        How it is cut into passes that memory holds changes the gradient by rounding alone.

        Raises:
            TrainingError: strengths or gradients are not finite.
            Cancelled: `should_stop` said so; the weights are those of before.
        """
        step, settings = self.step + 1, self._settings
        self._optimizer.zero_grad(set_to_none=True)
        pairs = count_pairs(rewards, settings.temperature, settings.ties)
        whole = torch.zeros((), device=rewards.device)
        with stoppable(self._router.backbone, hooks.should_stop):
            for part in self._passes(batch):
                strengths = finite(self._router([batch[i] for i in part]), step)
                loss = bradley_terry(strengths, rewards[part], settings.temperature, settings.ties, pairs)
                loss.backward()  # type: ignore[no-untyped-call]
                whole += loss.detach()
                tokens = sum(len(batch[i]) for i in part)
                hooks.work(tokens, tokens)
        if not torch.isfinite(nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)):
            raise TrainingError(
                f"the router's gradient is not finite at step {step}", "lower router.learning_rate"
            )
        self._optimizer.param_groups[0]["lr"] = settings.learning_rate * rate
        self._optimizer.step()
        self.losses.append(whole)
        self.step = step

    def _passes(self, batch: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Yield the places of a batch's prompts that share a pass: longest first, as a step's are of like length."""
        budget = batch_tokens(self._router.backbone, TUNE_CPU_TOKENS, trains=True)
        longest_first = sorted(range(len(batch)), key=lambda i: -len(batch[i]))
        return cut(longest_first, lambda i: len(batch[i]), budget)

    def evaluated(self, now: Evaluation, strengths: Tensor) -> None:
        """Take in an evaluation and its strengths (held-out prompts, M)."""
        self.since += 1
        if not self.evaluations or now.key < self.best.key:
            self.best, self.held_out, self.since = now, strengths, 0
            self.best_weights = (_copy(self._router.head_state()), _copy(self._router.trained()))
        self.evaluations.append(now)
        self.losses = []

    def state(self) -> State:
        """All of it, for a checkpoint; what is the best is empty before the first evaluation."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "weights": self._parameters,
            "statistics": {"mean": self._router.mean, "deviation": self._router.deviation},
            "moments": {
                f"{key}/{name}": value
                for name, parameter in self._parameters.items()
                for key, value in self._optimizer.state[parameter].items()
            },
            "losses": {str(place): loss for place, loss in enumerate(self.losses)},
        }
        if self.evaluations:
            head, weights = self.best_weights
            groups |= {"best_head": head, "best_weights": weights, "best": {"held_out": self.held_out}}
        small = {
            "evaluations": [asdict(one) for one in self.evaluations],
            "best": self.evaluations.index(self.best) if self.evaluations else None,
            "since": self.since,
        }
        return groups, small

    @torch.no_grad()
    def load(self, found: Checkpoint) -> None:
        """Go on from a checkpoint of `state`."""
        groups, device = found.groups, self._router.backbone.device
        for name, parameter in self._parameters.items():
            parameter.copy_(groups["weights"][name])
        self._router.mean.copy_(groups["statistics"]["mean"])
        self._router.deviation.copy_(groups["statistics"]["deviation"])
        for path, value in groups["moments"].items():
            key, name = path.split("/", 1)
            # AdamW counts its steps on the CPU.
            self._optimizer.state[self._parameters[name]][key] = value if key == "step" else value.to(device)
        losses = groups["losses"]
        self.losses = [losses[str(place)].to(device) for place in range(len(losses))]
        self.step, self.since = found.step, int(found.state["since"])
        self.evaluations = [Evaluation(**one) for one in found.state["evaluations"]]
        if self.evaluations:
            self.best = self.evaluations[int(found.state["best"])]
            self.held_out = groups["best"]["held_out"].to(device)
            self.best_weights = (
                {name: value.to(device) for name, value in groups["best_head"].items()},
                {name: value.to(device) for name, value in groups["best_weights"].items()},
            )


def _work_left(
    encoded: Sequence[Sequence[int]],
    held: Sequence[Sequence[int]],
    steps: Sequence[Sequence[int]],
    every: int,
) -> float:
    """Return the tokens of the steps that are left, and `MEASURED_COST` of those that are measured between them."""
    trained = sum(len(encoded[i]) for rows in steps for i in rows)
    return trained + (1 + len(steps) // every) * MEASURED_COST * sum(map(len, held))


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


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
