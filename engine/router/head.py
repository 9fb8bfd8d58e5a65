"""Training of the linear head alone, on hidden states that were computed once."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from engine.base.errors import Cancelled, TrainingError
from engine.methods.metrics import measure
from engine.models.checkpoint import Checkpoint
from engine.router.checkpoints import Checkpoints, State
from engine.router.history import Evaluation
from engine.router.loss import bradley_terry
from engine.router.settings import FitSettings

PATHS = 2
"""Starting points of a head, of which the better end is kept."""
BATCH_PROMPTS = 32
"""Prompts per optimizer step."""
_LEAST_DECAY = 1e-4
"""Of constant strengths; without any, a teacher that always wins would have no finite one."""


@dataclass(frozen=True, slots=True)
class HeadResult:
    """The best head that was seen."""

    weight: Tensor
    """(M, H)."""
    bias: Tensor
    """(M,)."""
    evaluations: tuple[Evaluation, ...]
    best: Evaluation


@dataclass(frozen=True, slots=True)
class Fold:
    """Prompts that a head is trained on, and those that are held out to stop it by."""

    number: int
    features: Tensor
    """(B, H), standardised."""
    rewards: Tensor
    """(B, M), NaN where missing."""
    held_features: Tensor
    held_rewards: Tensor


class HeadCheckpoints:
    """Heads that are finished, and the one that is not, on disk.

    Args:
        checkpoints: where.
        device: of the heads.
    """

    def __init__(self, checkpoints: Checkpoints, device: torch.device) -> None:
        self._checkpoints = checkpoints
        self._finished: dict[str, HeadResult] = {}
        self._begun: Checkpoint | None = checkpoints.newest()
        if self._begun is not None:
            for name, evaluations in self._begun.state["finished"].items():
                known = tuple(Evaluation(**one) for one in evaluations)
                head = {
                    key: value.to(device) for key, value in self._begun.groups[f"finished-{name}"].items()
                }
                self._finished[name] = HeadResult(**head, evaluations=known, best=_best(known))

    @property
    def epochs(self) -> int:
        """Epochs of all heads after which the newest checkpoint was written."""
        return self._begun.step if self._begun else 0

    def finished(self, name: str) -> HeadResult | None:
        """The head of this name."""
        return self._finished.get(name)

    def begun(self, name: str) -> Checkpoint | None:
        """Where the training of the head of this name stands."""
        return self._begun if self._begun is not None and self._begun.state["now"] == name else None

    def finish(self, name: str, result: HeadResult) -> None:
        """Notes that a head is finished; it is on disk with the next checkpoint."""
        self._finished[name] = result

    def offer(self, epochs: int, name: str, state: Callable[[], State]) -> None:
        """Writes where the head of this name stands after so many epochs of all heads, if it is time."""

        def all_of_it() -> State:
            groups, small = state()
            done = {
                f"finished-{other}": {"weight": result.weight, "bias": result.bias}
                for other, result in self._finished.items()
            }
            measured = {
                other: [asdict(one) for one in result.evaluations] for other, result in self._finished.items()
            }
            return {**groups, **done}, {**small, "now": name, "finished": measured}

        self._checkpoints.offer(epochs, all_of_it)


def _best(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the first of those that none is better than."""
    return min(evaluations, key=lambda one: one.key)


def fit_head(
    fold: Fold,
    settings: FitSettings,
    on_epoch: Callable[[int, Evaluation], None],
    should_stop: Callable[[], bool],
    kept: HeadCheckpoints,
) -> HeadResult:
    """Return the head of the least held-out regret along two paths of AdamW: from zero, and from
    `constant_strengths`.

    Where teachers suit different prompts, either path leads there. A teacher that leads on most prompts is only
    found from its constant strengths: from zero, the first steps explain by the prompts what holds for all of
    them, and the wrong way round for those held out, which lie on the other side of the mean.

    The Bradley–Terry optimum may lie at infinity (a teacher that always wins): weights that start at zero and
    decay, a regularised start of the bias, and stopping early keep the strengths finite.

    Args:
        fold: what to learn from.
        settings: how.
        on_epoch: called with the epoch (from 1, at most `PATHS * settings.head_epochs`) and its evaluation.
        should_stop: asked once an epoch.
        kept: where it goes on from.

    Raises:
        TrainingError: the loss or a weight is not finite; names the step.
        Cancelled: `should_stop` said so.
    """
    paths: list[HeadResult] = []
    for bias in (torch.zeros(fold.rewards.shape[1]), constant_strengths(fold.rewards, settings)):
        name, before = f"{fold.number}-{len(paths)}", len(paths) * settings.head_epochs
        result = kept.finished(name)
        if result is None:

            def on_step(
                epoch: int,
                now: Evaluation,
                state: Callable[[], State],
                name: str = name,
                before: int = before,
            ) -> None:
                on_epoch(before + epoch, now)
                kept.offer((PATHS * fold.number * settings.head_epochs) + before + epoch, name, state)

            result = _path(bias, fold, settings, on_step, should_stop, kept.begun(name))
            kept.finish(name, result)
        paths.append(result)
    best = min(paths, key=lambda path: path.best.key)
    return replace(best, evaluations=tuple(now for path in paths for now in path.evaluations))


def _path(
    bias: Tensor,
    fold: Fold,
    settings: FitSettings,
    on_epoch: Callable[[int, Evaluation, Callable[[], State]], None],
    should_stop: Callable[[], bool],
    begun: Checkpoint | None,
) -> HeadResult:
    """Return the best head on the way from weights of zero and this bias (M,), or from where it stood."""
    features, rewards = fold.features, fold.rewards
    head = nn.Linear(features.shape[1], rewards.shape[1], device=features.device)
    nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(bias)
    optimizer = torch.optim.AdamW(
        [
            {"params": [head.weight], "weight_decay": settings.weight_decay},
            {"params": [head.bias], "weight_decay": 0.0},
        ],
        lr=settings.head_learning_rate or 0.02 / features.shape[1] ** 0.5,
    )
    draw = torch.Generator().manual_seed(settings.seed)

    def look(step: int, losses: list[Tensor]) -> Evaluation:
        strengths = finite(head(fold.held_features), step)
        loss = float(torch.stack(losses).mean()) if losses else None
        return evaluate(strengths, fold.held_rewards, settings, fold=fold.number, step=step, loss=loss)

    def weights() -> tuple[Tensor, ...]:
        return head.weight.detach().clone(), head.bias.detach().clone()

    names = ("weight", "bias")
    best, kept = look(0, []), weights()
    evaluations, step, since = [best], 0, 0

    def state() -> State:
        moments = {
            f"{key}/{name}": value
            for name in names
            for key, value in optimizer.state[getattr(head, name)].items()
        }
        groups = {
            "now": dict(zip(names, weights(), strict=True)),
            "moments": moments,
            "best": dict(zip(names, kept, strict=True)),
            "random": {"order": draw.get_state()},
        }
        return groups, {"evaluations": [asdict(one) for one in evaluations], "step": step, "since": since}

    if begun is not None:
        with torch.no_grad():
            head.weight.copy_(begun.groups["now"]["weight"])
            head.bias.copy_(begun.groups["now"]["bias"])
        for path, value in begun.groups["moments"].items():
            key, name = path.split("/", 1)
            # AdamW counts its steps on the CPU.
            placed = value if key == "step" else value.to(features.device)
            optimizer.state[getattr(head, name)][key] = placed
        draw.set_state(begun.groups["random"]["order"])
        evaluations = [Evaluation(**one) for one in begun.state["evaluations"]]
        best = _best(evaluations)
        kept = tuple(begun.groups["best"][name].to(features.device) for name in names)
        step, since = int(begun.state["step"]), int(begun.state["since"])
    for epoch in range(len(evaluations), settings.head_epochs + 1):
        if epoch > 1 and since >= settings.patience:
            break
        if should_stop():
            raise Cancelled(f"the router was stopped in epoch {epoch}")
        losses = []
        order = torch.randperm(len(features), generator=draw).to(features.device)
        for start in range(0, len(order), BATCH_PROMPTS):
            step += 1
            chosen = order[start : start + BATCH_PROMPTS]
            loss = bradley_terry(
                finite(head(features[chosen]), step), rewards[chosen], settings.temperature, settings.ties
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
        now = look(step, losses)
        evaluations.append(now)
        since += 1
        if now.key < best.key:
            best, since, kept = now, 0, weights()
        on_epoch(epoch, now, state)
    return HeadResult(kept[0], kept[1], tuple(evaluations), best)


def constant_strengths(rewards: Tensor, settings: FitSettings) -> Tensor:
    """Return the best strengths (M,) that are the same for every prompt, in float64 on the CPU.

    They minimise the Bradley–Terry loss plus `settings.weight_decay` times their squares: finite for a teacher
    that always wins, and 0 for one that no pair knows.

    Args:
        rewards: (B, M), NaN where missing.
        settings: targets and regularisation.
    """
    known = rewards.detach().double().cpu()
    strengths = torch.zeros(known.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([strengths], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = bradley_terry(strengths.expand(known.shape), known, settings.temperature, settings.ties)
        value = value + max(settings.weight_decay, _LEAST_DECAY) * strengths.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return strengths.detach()


def evaluate(
    strengths: Tensor,
    rewards: Tensor,
    settings: FitSettings,
    *,
    fold: int,
    step: int,
    loss: float | None,
) -> Evaluation:
    """Return the measures of strengths (B, M) against rewards (B, M)."""
    strengths = strengths.detach()
    measured = measure(strengths.cpu().numpy(), rewards.cpu().numpy(), resamples=0)
    return Evaluation(
        fold=fold,
        step=step,
        loss=loss,
        held_out_loss=float(bradley_terry(strengths, rewards, settings.temperature, settings.ties)),
        hit_at_1=measured.hit_at_1,
        hit_at_3=measured.hit_at_3,
        regret=measured.regret,
    )


def finite(strengths: Tensor, step: int) -> Tensor:
    """Return the strengths unchanged.

    Raises:
        TrainingError: one is not finite; names the step.
    """
    if not torch.isfinite(strengths).all():
        raise TrainingError(
            f"the router's strengths are not finite at step {step}",
            "lower router.learning_rate; with a float16 backbone use float32 or bfloat16",
        )
    return strengths
