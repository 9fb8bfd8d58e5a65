"""Cross-entropy of the response positions only, in chunks, with the gradient taken on the way.

A causal LM's own loss makes logits for every position: batch × length × vocabulary floats, three times over
with the softmax and its gradient. Here the backbone's hidden states are gathered at the positions that
predict a response token, and the head is applied to a few hundred of them at a time. The gradient of the
hidden states is known as soon as a chunk's softmax is, so logits are never kept for the backward pass:
∂/∂z of −log softmax(z)[y] is softmax(z) − onehot(y). The idea of a fused linear cross-entropy: Hsu et al.,
Liger Kernel (arXiv 2410.10989); Wijmans et al., Cut Your Losses (arXiv 2411.09009).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.base.errors import NotAvailable

CHUNK_BYTES = 32 << 20
"""Float32 logits of one chunk, bytes."""


@dataclass(frozen=True, slots=True)
class Head:
    """The student without and with its output projection, as two steps.

    logits = cap(scale · (hidden · weightᵀ + bias)), cap(z) = softcap · tanh(z / softcap).
    """

    backbone: nn.Module
    """Token ids (B, T) to hidden states (B, T, H)."""
    projection: Any
    """The output embedding, weight (V, H)."""
    scale: float
    softcap: float | None

    def hidden(self, ids: Tensor) -> Tensor:
        """Return hidden states (B, T, H) of right-padded ids (B, T); causal attention needs no mask."""
        states: Tensor = self.backbone(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def loss_sum(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return Σ −log p(target), nats, a float32 scalar with a gradient.

        Args:
            hidden: states of the predicting positions, (S, H).
            targets: the ids that follow them, (S,).
        """
        projection = self.projection
        total: Tensor = _CrossEntropySum.apply(  # type: ignore[no-untyped-call]
            hidden, projection.weight, getattr(projection, "bias", None), targets, self.scale, self.softcap
        )
        return total

    def logits(self, hidden: Tensor) -> Tensor:
        """Return logits (..., V) in float32."""
        values: Tensor = self.projection(hidden).float() * self.scale
        return values if self.softcap is None else self.softcap * torch.tanh(values / self.softcap)


def split_head(model: Any) -> Head:
    """Return backbone and head of a causal LM.

    Raises:
        NotAvailable: the two steps do not reproduce the model's own logits (an architecture that does
            something else between the hidden states and the logits).
    """
    config = model.config.get_text_config()
    scale = 1.0
    if getattr(config, "logit_scale", None):
        scale = float(config.logit_scale)
    elif getattr(config, "logits_scaling", None):
        scale = 1.0 / float(config.logits_scaling)
    softcap = getattr(config, "final_logit_softcapping", None)
    projection = model.get_output_embeddings()
    if projection is None or model.base_model is model:
        raise NotAvailable(f"{type(model).__name__} is not a causal LM with an output embedding", _OTHER)
    head = Head(model.base_model, projection, scale, None if softcap is None else float(softcap))
    _check(model, head)
    return head


_OTHER = "use a student of another architecture (Llama, Qwen, Gemma, GPT-2, GPT-NeoX and alike work)"


@torch.no_grad()
def _check(model: Any, head: Head) -> None:
    was_training = model.training
    model.eval()
    ids = torch.arange(8, device=head.projection.weight.device)[None] % head.projection.weight.shape[0]
    own = model(input_ids=ids, use_cache=False).logits.float()
    split = head.logits(head.hidden(ids))
    model.train(was_training)
    tolerance = 1e-4 if head.projection.weight.dtype == torch.float32 else 5e-2
    if not torch.allclose(own, split, rtol=tolerance, atol=tolerance * float(own.abs().max())):
        raise NotAvailable(
            f"the logits of {type(model).__name__} are not a plain projection of its hidden states", _OTHER
        )


class _CrossEntropySum(torch.autograd.Function):
    """Σ −log softmax(cap(scale·(h·Wᵀ + b)))[y]; gradients for h, W and b."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if need_weight else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if need_bias and bias is not None else None
        total = torch.zeros((), dtype=wide, device=hidden.device)
        rows = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
        for start in range(0, hidden.shape[0], rows):
            states, wanted = hidden[start : start + rows], targets[start : start + rows]
            logits = nn.functional.linear(states, weight, bias).to(wide)
            if scale != 1.0:
                logits.mul_(scale)
            slope = None
            if softcap is not None:
                logits = logits.div_(softcap).tanh_()
                slope = 1.0 - logits.square()
                logits.mul_(softcap)
            index = wanted[:, None]
            logits.sub_(logits.amax(dim=-1, keepdim=True))
            picked = logits.gather(1, index)
            grad = logits.exp_()
            norm = grad.sum(dim=-1, keepdim=True)
            total += (norm.log() - picked).sum()
            if not any(ctx.needs_input_grad[:3]):
                continue
            grad.div_(norm)
            grad.scatter_add_(1, index, torch.full_like(norm, -1.0))
            if slope is not None:
                grad.mul_(slope)
            if scale != 1.0:
                grad.mul_(scale)
            narrow = grad.to(weight.dtype)
            if grad_hidden is not None:
                torch.mm(narrow, weight, out=grad_hidden[start : start + rows])
            if grad_weight is not None:
                grad_weight += narrow.T @ states
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0)
        ctx.dtypes = (hidden.dtype, weight.dtype)
        ctx.save_for_backward(
            *(tensor for tensor in (grad_hidden, grad_weight, grad_bias) if tensor is not None)
        )
        ctx.present = (grad_hidden is not None, grad_weight is not None, grad_bias is not None)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        grads = [next(saved) if present else None for present in ctx.present]
        scaled = [None if grad is None else (grad * upstream).to(grad.dtype) for grad in grads]
        if scaled[1] is not None:
            scaled[1] = scaled[1].to(ctx.dtypes[1])
        return (*scaled, None, None, None)
