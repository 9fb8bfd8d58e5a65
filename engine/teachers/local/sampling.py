"""Drawing tokens, each row with its own reproducible stream of random numbers."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def stream_seed(seed: int, prompt: Sequence[int]) -> int:
    """64 bits that name a row's stream: the request's seed and its prompt's token ids, nothing of its batch."""
    digest = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode())
    return int.from_bytes(digest.digest()[:8], "little")


def uniforms(seeds: np.ndarray[Any, np.dtype[np.uint64]], step: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Number `step` of each row's stream, uniform in [0, 1).

    SplitMix64 used as a counter-based generator (Steele, Lea, Flood, OOPSLA 2014): no state to carry, so rows
    may leave a batch at any time.

    Args:
        seeds: (B,) from `stream_seed`.
        step: index of the token being drawn.
    """
    with np.errstate(over="ignore"):
        value = seeds + np.uint64(step + 1) * _GOLDEN
        value = (value ^ (value >> np.uint64(30))) * _MIX_1
        value = (value ^ (value >> np.uint64(27))) * _MIX_2
        value = value ^ (value >> np.uint64(31))
    return (value >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(
    logits: torch.Tensor, chance: torch.Tensor, temperature: float, top_p: float, top_k: int
) -> torch.Tensor:
    """(B,) token ids: the most likely ones at temperature 0, else drawn by inverting the distribution function.

    Args:
        logits: (B, V).
        chance: (B,) float32 or float64 uniform numbers; not used at temperature 0.
        temperature: divides the logits.
        top_p: keep the most likely tokens until their probabilities reach this sum; the token that reaches it
            stays.
        top_k: keep this many of the most likely tokens; 0 for all.
    """
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.double() / temperature, -1)
    kept = None
    if top_k > 0 or top_p < 1:
        count = min(top_k or logits.shape[-1], logits.shape[-1])
        probabilities, kept = probabilities.topk(count, dim=-1)
        # The nucleus is taken from what top_k left, renormalized, as transformers does.
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0.0)
    upto = probabilities.cumsum(-1)
    target = chance.to(upto)[:, None] * upto[:, -1:]
    # Tokens of probability zero add nothing to the sum and are never the first to exceed the target.
    place = torch.searchsorted(upto, target, right=True).clamp(max=upto.shape[-1] - 1)
    return place[:, 0] if kept is None else kept.gather(1, place)[:, 0]
