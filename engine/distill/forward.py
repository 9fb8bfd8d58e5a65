"""Forward and backward passes of an optimizer step, and the held-out loss."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.distill.batches import cut_step, deal
from engine.distill.data import Examples
from engine.distill.layouts import ALONE, Layout
from engine.distill.loss import loss_sum
from engine.models.batching import gather, pad
from engine.models.forward import SplitModel

_MEASURED_PASS_COST = 64
"""As `pass_cost`, of a forward pass alone."""


def pass_cost(parameters: int, device: torch.device) -> int:
    """Return the fixed cost of one forward and backward pass, in tokens of compute.

    What a pass costs beside its tokens: Python, kernel launches, and reading every weight once. Measured
    with adapters on one CPU thread: 195 tokens for 0.17M parameters, 32 for 8M, 22 (float32) to 53 (bfloat16)
    for 135M. Only a cost model for cutting steps; it changes speed, never a gradient.
    """
    if device.type != "cpu":
        return 1024
    return 24 + int(3e7 / max(parameters, 1))


def _sum_of_pass(student: SplitModel, data: Examples, rows: NDArray[np.int64]) -> Tensor:
    """Σ −log p over the target tokens of `rows`, nats, a scalar with a gradient.

    Of no rows it is 0, after a pass all the same: other processes may wait for this one in every layer.
    """
    device = student.device
    if not len(rows):
        nothing = torch.zeros(1, dtype=torch.long, device=device)
        return 0.0 * loss_sum(student, student.hidden(nothing[None])[0], nothing)
    examples = [data[row] for row in rows]
    ids, _ = pad([example.ids.tolist() for example in examples], device)
    # The position before a token predicts it.
    starts = [example.boundary - 1 for example in examples]
    counts = [len(example.ids) - example.boundary for example in examples]
    targets = np.concatenate([example.ids[example.boundary :] for example in examples])
    hidden = gather(student.hidden(ids), starts, counts)
    return loss_sum(student, hidden, torch.from_numpy(targets).long().to(device))


def backward(
    student: SplitModel,
    data: Examples,
    passes: Sequence[NDArray[np.int64]],
    after_pass: Callable[[int], None],
    targets: int | None = None,
    layout: Layout = ALONE,
) -> float:
    """Return the loss of an optimizer step, nats per target token, with its gradients in the parameters.

    Both are divided by the target tokens of *all* passes, so that how the step is cut changes neither. Of some of its
    passes they are these passes' share in them.

    Args:
        student: its backbone and head.
        data: its examples.
        passes: row indices of each forward pass.
        after_pass: called after every backward pass with its tokens.
        targets: target tokens of the whole step; None: of these passes, which are all of it.
        layout: how the student lies on the processes that train it.
    """
    if targets is None:
        targets = int(sum(data.targets[rows].sum() for rows in passes))
    total = torch.zeros((), device=student.device)
    for rows in passes:
        loss = layout.run(partial(_sum_of_pass, student, data, rows)) / targets
        loss.backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
        after_pass(int(data.lengths[rows].sum()))
    return float(total)


@torch.no_grad()
def mean_loss(
    student: SplitModel,
    data: Examples,
    pass_tokens: int,
    after_pass: Callable[[int], None] = lambda tokens: None,
    layout: Layout = ALONE,
) -> float:
    """Return the loss over all rows, nats per target token. Puts the backbone into eval mode and back.

    Args:
        student: its backbone and head.
        data: the rows.
        pass_tokens: padded tokens of a pass at most.
        after_pass: called after every pass with its tokens.
        layout: how the student lies on the processes that share the passes; `after_pass` hears of this one's.
    """
    ranks = layout.ranks
    block = 256  # rows that are sorted together; the cut is quadratic in it

    def of_this_process() -> float:
        total = 0.0
        for start in range(0, len(data), block):
            rows = np.arange(start, min(start + block, len(data)))
            cuts = cut_step(rows, data.lengths, pass_tokens, _MEASURED_PASS_COST)
            dealt = deal(cuts, data.lengths, _MEASURED_PASS_COST, ranks.count, layout.lockstep)
            for cut in dealt[ranks.rank]:
                total += float(layout.run(partial(_sum_of_pass, student, data, cut)))
                after_pass(int(data.lengths[cut].sum()))
        return total

    was_training = student.backbone.training
    student.backbone.eval()
    try:
        (total,) = ranks.sum([ranks.together(of_this_process)])
    finally:
        student.backbone.train(was_training)
    return total / int(data.targets.sum())
