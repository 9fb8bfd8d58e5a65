"""Cross-entropy of the response positions only, in chunks, with the gradient taken on the way.

A causal LM's own loss makes logits for every position: batch × length × vocabulary floats, three times over
with the softmax and its gradient. Here the backbone's hidden states are gathered at the positions that
predict a response token, and the head is applied to a few hundred of them at a time. The gradient of the
hidden states is known as soon as a chunk's softmax is, so logits are never kept for the backward pass:
∂/∂z of −log softmax(z)[y] is softmax(z) − onehot(y). The idea of a fused linear cross-entropy: Hsu et al.,
Liger Kernel (arXiv 2410.10989); Wijmans et al., Cut Your Losses (arXiv 2411.09009).
"""

from typing import Any

import torch
from torch import Tensor

from engine.models.forward import SplitModel

CHUNK_BYTES = 32 << 20
"""Float32 logits of one chunk, bytes."""


def loss_sum(split: SplitModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Σ −log p(target), nats, a float32 scalar with a gradient.

    Args:
        split: backbone and head of the student.
        hidden: states of the predicting positions, (S, H).
        targets: the ids that follow them, (S,).
    """
    weight, bias = split.head.weight, getattr(split.head, "bias", None)
    total: Tensor = _CrossEntropySum.apply(hidden, weight, bias, targets, split)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropySum(torch.autograd.Function):
    """Σ −log softmax(cap(scale·(h·Wᵀ + b)))[y]; gradients for h, W and b."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        split: SplitModel,
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
            logits = split.logits(states)
            slope = None if split.softcap is None else 1.0 - (logits / split.softcap).square_()
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
            if split.scale != 1.0:
                grad.mul_(split.scale)
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
        return (*scaled, None, None)
