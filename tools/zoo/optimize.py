"""The optimizer loop that every model of the zoo is trained with."""

import math
import sys
import time
from collections.abc import Callable

import torch
from transformers import PreTrainedModel

WARM_UP = 60
"""Steps until the learning rate is reached."""


def optimize(
    name: str, model: PreTrainedModel, loss_of: Callable[[], torch.Tensor], steps: int, learning_rate: float
) -> None:
    """Runs AdamW over `steps` losses: warm-up, then linear decay; rate and time left go to stderr.

    Raises:
        RuntimeError: the loss is not finite.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, max(0.0, (steps - step) / (steps - WARM_UP)))
    )
    model.train()
    started = time.monotonic()
    smooth = math.nan
    for step in range(1, steps + 1):
        loss = loss_of()
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"{name}: the loss is {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        smooth = loss.item() if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss.item()
        if step % 100 == 0 or step == steps:
            spent = time.monotonic() - started
            left = spent / step * (steps - step)
            say(
                f"{name} step {step}/{steps}, loss {smooth:.4f}, {step / spent:.1f} steps/s, {left:.0f} s left"
            )


def say(line: str) -> None:
    """Narration, on stderr."""
    print(line, file=sys.stderr, flush=True)
