"""A causal language model as two steps: hidden states of all positions, then the logits of those that are asked for.

Logits of every position are batch × length × vocabulary floats. Scoring and training need those that predict a
response token, a bounded number at a time; both take the model apart here.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.base.errors import NotAvailable

MEASURED_COST = 1 / 3
"""What a token costs that is only measured, beside one that is trained on: a forward pass against three."""
LEAST_BLOCK = 1024
"""Tokens of the vocabulary below which a matrix product with a part of the head is no longer fast."""
_PROBE_TOKENS = 8
_REMEDY = "use a model of another architecture (Llama, Qwen, Gemma, GPT-2, GPT-NeoX and alike work)"


@dataclass(frozen=True, slots=True)
class SplitModel:
    """Backbone and head: logits = cap(scale · (hidden · weightᵀ + bias)), cap(z) = softcap · tanh(z / softcap)."""

    backbone: Any
    """The decoder: token ids (B, T) to hidden states (B, T, H)."""
    head: Any
    """The output embedding: `weight` (V, H), perhaps a `bias` (V,)."""
    scale: float
    """1.0 for most; Granite divides by `logits_scaling`, Cohere multiplies by `logit_scale`."""
    softcap: float | None
    """Gemma 2 caps its logits; None for most models."""

    @property
    def device(self) -> torch.device:
        """Where it is."""
        device: torch.device = self.head.weight.device
        return device

    def hidden(self, ids: Tensor) -> Tensor:
        """Hidden states (B, T, H) of ids (B, T) padded on the right; causal attention needs no mask for that."""
        states: Tensor = self.backbone(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (…, V) of hidden states (…, H) in float32 or wider; computed in place, so without a gradient."""
        return self._capped(self.head(hidden))

    def log_probs(self, hidden: Tensor, targets: Tensor, memory: int) -> Tensor:
        """log p of each target, without a gradient: states (n, H) and n ids to (n,) in float32 or wider.

        Args:
            hidden: states that predict the targets.
            targets: token ids.
            memory: bytes of float32 logits that exist at once. Where it does not hold a vocabulary for each state, the
                vocabulary comes in blocks, and the sums of their exponentials are added up.
        """
        weight, bias = self.head.weight, getattr(self.head, "bias", None)
        block = max(LEAST_BLOCK, memory // (4 * max(1, len(hidden))))
        if type(self.head) is not nn.Linear:
            block = len(weight)  # its product may be more than that of its weights
        sums, found = [], torch.zeros(len(hidden), device=hidden.device)
        for start in range(0, len(weight), block):
            end = start + block
            if block >= len(weight):
                part = self.logits(hidden)
            else:
                some = None if bias is None else bias[start:end]
                part = self._capped(F.linear(hidden, weight[start:end], some))
            sums.append(part.logsumexp(1))
            places = (targets - start).clamp(0, part.shape[1] - 1)
            here = (targets >= start) & (targets < end)
            found = torch.where(here, part.gather(1, places[:, None])[:, 0], found)
        return found - torch.stack(sums).logsumexp(0)

    def _capped(self, values: Tensor) -> Tensor:
        """Logits from the head's product, in place."""
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        if self.scale != 1.0:
            values.mul_(self.scale)
        return values if self.softcap is None else values.div_(self.softcap).tanh_().mul_(self.softcap)


def split_model(model: Any) -> SplitModel:
    """Backbone and head of a causal language model, tried on a few tokens against the model itself.

    Raises:
        NotAvailable: no causal language model, or one that does something else between its hidden states and its
            logits.
    """
    name, config = type(model).__name__, model.config.get_text_config(decoder=True)
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    head, backbone = model.get_output_embeddings(), model.get_decoder()
    if head is None or backbone is model:
        raise NotAvailable(f"{name} is not a causal language model with an output embedding", _REMEDY)
    split = SplitModel(backbone, head, scale, float(softcap) if softcap else None)
    if not _is_whole(model, split):
        raise NotAvailable(f"the logits of {name} are not a plain projection of its hidden states", _REMEDY)
    return split


@torch.no_grad()
def _is_whole(model: Any, split: SplitModel) -> bool:
    """Whether the two steps give the model's own logits."""
    was_training = model.training
    model.eval()
    weight = split.head.weight
    ids = torch.arange(_PROBE_TOKENS, device=weight.device)[None] % weight.shape[0]
    own = model(input_ids=ids, use_cache=False).logits
    apart = split.logits(split.hidden(ids))
    model.train(was_training)
    return apart.shape == own.shape and close(apart, own.to(apart.dtype), weight.dtype)


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether two tensors of one shape are equal up to the rounding of a computation in `dtype`."""
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())
