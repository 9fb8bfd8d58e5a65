"""AdamW with warm-up, decay and clipping, and a state that is plain tensors.

AdamW: Loshchilov & Hutter, arXiv 1711.05101. Weights in bfloat16 are trained through float32 masters (mixed
precision as in Micikevicius et al., arXiv 1710.03740): gradients are added up and applied in float32, and
the weights are the masters rounded.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""AdamW's own, as its paper has them."""

Schedule = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """How the weights move."""

    learning_rate: float = 2e-4
    schedule: Schedule = "linear"
    """To zero at the last step; `constant` stays."""
    warmup: float = 0.03
    """Share of all steps during which the rate rises linearly from zero."""
    weight_decay: float = 0.0
    max_norm: float = 1.0
    """Gradients of a larger Euclidean norm are scaled down to it."""


def rate_at(step: int, total: int, config: OptimizerConfig) -> float:
    """Return the learning rate of the step with index `step` (from 0) of `total`."""
    warm = math.ceil(config.warmup * total)
    if step < warm:
        return config.learning_rate * (step + 1) / (warm + 1)
    if config.schedule == "constant":
        return config.learning_rate
    left = (total - step) / max(total - warm, 1)
    if config.schedule == "linear":
        return config.learning_rate * left
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (1.0 - left)))


class Optimizer:
    """AdamW over named parameters; gradients are first collected by `collect`, then applied by `step`."""

    def __init__(self, parameters: Mapping[str, Tensor], config: OptimizerConfig, total: int) -> None:
        self.parameters = dict(parameters)
        self.masters = {
            name: p if p.dtype in (torch.float32, torch.float64) else p.detach().float().requires_grad_()
            for name, p in self.parameters.items()
        }
        self._rounded = [(p, self.masters[n]) for n, p in self.parameters.items() if self.masters[n] is not p]
        self._all = list(self.masters.values())
        self._config = config
        self._total = total
        self._adamw = torch.optim.AdamW(
            self._all,
            lr=config.learning_rate,
            betas=BETAS,
            eps=EPSILON,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def collect(self) -> None:
        """Move the gradients of rounded weights to their masters; call it after every backward pass."""
        for parameter, master in self._rounded:
            if parameter.grad is not None:
                wide = parameter.grad.float()
                master.grad = wide if master.grad is None else master.grad.add_(wide)
                parameter.grad = None

    def drop(self) -> None:
        """Forget the gradients of a step that is not taken."""
        for tensor in (*self.parameters.values(), *self._all):
            tensor.grad = None

    def norm(self, of_all: Callable[[Tensor], Tensor] = lambda own: own) -> float:
        """Clip the collected gradients; return their norm from before, not finite when one of them is not.

        Args:
            of_all: from the norm of these gradients to that of all, where other processes have others.
        """
        own = [master.grad for master in self._all if master.grad is not None]
        norm = of_all(torch.nn.utils.get_total_norm(own))
        torch.nn.utils.clip_grads_with_norm_(self._all, self._config.max_norm, norm)
        return float(norm)

    def step(self, index: int) -> float:
        """Apply the collected gradients as step `index` (from 0), clear them, return the learning rate."""
        rate = rate_at(index, self._total, self._config)
        self._adamw.param_groups[0]["lr"] = rate
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        self.round()
        return rate

    @torch.no_grad()
    def round(self) -> None:
        """Set the weights to their masters, after these were changed."""
        for parameter, master in self._rounded:
            parameter.copy_(master)

    def state(self) -> dict[str, Tensor]:
        """Return AdamW's moments and step counts as `MOMENT/PARAMETER`."""
        return {
            f"{key}/{name}": value
            for name, master in self.masters.items()
            for key, value in self._adamw.state[master].items()
        }

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        """Continue from a checkpoint's weights (of the masters) and `state()`."""
        for name, master in self.masters.items():
            master.copy_(weights[name])
        self.round()
        for path, value in state.items():
            key, name = path.split("/", 1)
            master = self.masters[name]
            self._adamw.state[master][key] = value.to(master.device)
