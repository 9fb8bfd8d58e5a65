"""The router's objective: Bradley–Terry over all teacher pairs of a prompt, from one strength vector."""

import torch
import torch.nn.functional as F  # noqa: N812  (the name the field uses)
from torch import Tensor

from engine.base.errors import ConfigError, ScoreError, TrainingError
from engine.router.settings import Ties


def bradley_terry(
    strengths: Tensor,
    rewards: Tensor,
    temperature: float | None = None,
    ties: Ties = "drop",
    pairs: Tensor | None = None,
) -> Tensor:
    """Return the mean binary cross-entropy over all teacher pairs of all prompts, a scalar in nats.

    P(i beats j | x) = σ(s_i − s_j) (Bradley & Terry 1952). The usual form, one training row per pair
    (Prompt-to-Leaderboard, Frick et al., arXiv 2502.14855), encodes a prompt M(M−1)/2 times; here each prompt
    is encoded once and all its pairs are taken from one vector: same value, same gradient.

    Args:
        strengths: (B, M), the router's outputs.
        rewards: (B, M), NaN where missing: every pair with a missing reward drops out.
        temperature: None for hard labels (which of two rewards is higher); τ > 0 for soft targets
            σ((r_i − r_j)/τ), in which a tie is a target of one half.
        ties: hard labels only: pairs of equal reward drop out, or count with a target of one half.
        pairs: what the sum is divided by, where these prompts are a part of a batch: `count_pairs` of all of it.

    Without any pair the loss is 0 with the graph kept, so that `backward` works.

    Raises:
        TrainingError: a strength is NaN or infinite.
        ScoreError: a reward is infinite.
        ConfigError: `temperature` is not above 0, or `ties` is unknown.
        ValueError: the shapes differ or are not (B, M).
    """
    if strengths.ndim != 2 or strengths.shape != rewards.shape:
        raise ValueError(
            f"{tuple(strengths.shape)} strengths, {tuple(rewards.shape)} rewards: must be one (B, M)"
        )
    if temperature is not None and not temperature > 0:
        raise ConfigError(f"router.temperature is {temperature}", "soft targets need a temperature above 0")
    if ties not in ("drop", "half"):
        raise ConfigError(f"router.ties is {ties!r}", "use 'drop' or 'half'")
    if not torch.isfinite(strengths).all():
        raise TrainingError("a strength is not finite", "lower the learning rate or check the backbone")
    if torch.isinf(rewards).any():
        raise ScoreError("a reward is infinite", "rewards are finite, or NaN where missing")
    s = strengths if strengths.dtype == torch.float64 else strengths.float()
    i, j = torch.triu_indices(s.shape[1], s.shape[1], offset=1, device=s.device)
    difference = s[:, i] - s[:, j]
    gap, counted = _gaps(rewards, temperature, ties)
    if temperature is None:
        target = torch.where(gap == 0, 0.5, (gap > 0).to(s.dtype))
    else:
        target = torch.sigmoid(torch.nan_to_num(gap) / temperature).to(s.dtype)
    weight = counted.to(s.dtype)
    total = F.binary_cross_entropy_with_logits(difference, target, weight=weight, reduction="sum")
    return total / (counted.sum() if pairs is None else pairs).clamp(min=1)


def count_pairs(rewards: Tensor, temperature: float | None = None, ties: Ties = "drop") -> Tensor:
    """Return how many pairs `bradley_terry` takes the mean over, a scalar."""
    return _gaps(rewards, temperature, ties)[1].sum()


def _gaps(rewards: Tensor, temperature: float | None, ties: Ties) -> tuple[Tensor, Tensor]:
    """Return (how much more the first of each pair got, whether the pair counts), (B, M(M−1)/2) each."""
    i, j = torch.triu_indices(rewards.shape[1], rewards.shape[1], offset=1, device=rewards.device)
    # In the rewards' own precision: float64 rewards that differ must not become ties in float32.
    gap = rewards[:, i] - rewards[:, j]
    counted = ~torch.isnan(gap)
    return gap, counted & (gap != 0) if temperature is None and ties == "drop" else counted
