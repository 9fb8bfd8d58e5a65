"""Which rows make an optimizer step, and how a step is cut into forward passes.

The rows of a step are drawn at random, so tasks and lengths stay mixed (a student fed one kind of row at a
time learns badly). Inside the step the rows are sorted by length and cut where that costs least: the
gradient does not depend on the cut, because the loss is divided by the step's total of target tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Batching:
    """How rows are grouped."""

    rows: int = 8
    """Rows of an optimizer step, when `tokens` is None."""
    tokens: int | None = None
    """Padded tokens of an optimizer step (rows × longest row); a longer row makes a step of its own."""
    pool: int = 1
    """Steps' worth of rows that are sorted by length together before they are cut into steps. 1 leaves the
    steps fully mixed; more saves padding where forward passes cannot be made smaller. Steps are shuffled."""


def plan_epoch(
    lengths: NDArray[np.int64], batching: Batching, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Return the row indices of every optimizer step of one epoch; the same for the same arguments.

    Every row appears exactly once. `lengths` is (N,), tokens of each row.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    mean = max(float(lengths.mean()), 1.0)
    per_step = batching.rows if batching.tokens is None else max(1, int(batching.tokens / mean))
    pool = max(1, per_step * batching.pool)
    steps: list[NDArray[np.int64]] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        if batching.pool > 1:
            rows = rows[np.argsort(lengths[rows], kind="stable")]
        if batching.tokens is None:
            steps.extend(rows[cut : cut + batching.rows] for cut in range(0, len(rows), batching.rows))
        else:
            steps.extend(_by_tokens(rows, lengths, batching.tokens))
    if batching.pool > 1:
        steps = [steps[index] for index in rng.permutation(len(steps))]
    return steps


def _by_tokens(rows: NDArray[np.int64], lengths: NDArray[np.int64], budget: int) -> list[NDArray[np.int64]]:
    steps: list[NDArray[np.int64]] = []
    begin, width = 0, 0
    for index, row in enumerate(rows):
        width = max(width, int(lengths[row]))
        if index > begin and (index + 1 - begin) * width > budget:
            steps.append(rows[begin:index])
            begin, width = index, int(lengths[row])
    steps.append(rows[begin:])
    return steps


def cut_step(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], max_tokens: int, pass_cost: int
) -> list[NDArray[np.int64]]:
    """Return the step's rows in forward passes of similar length, the cheapest cut.

    The cost of a pass is `pass_cost` + its padded tokens; a pass holds at most `max_tokens` padded tokens,
    unless one row alone is longer. Exact dynamic programme over the rows sorted by length, O(n²), n rows.

    Args:
        rows: indices, (n,).
        lengths: tokens of each row of the dataset, (N,).
        max_tokens: padded tokens of a pass, the memory bound.
        pass_cost: fixed cost of one forward and backward pass, in tokens.
    """
    ordered = rows[np.argsort(lengths[rows], kind="stable")]
    widths = [int(value) for value in lengths[ordered]]
    best: list[float] = [0.0]
    origin: list[int] = [0]
    for end in range(1, len(widths) + 1):
        options: list[tuple[float, int]] = []
        for begin in range(end - 1, -1, -1):
            padded = (end - begin) * widths[end - 1]
            if padded > max_tokens and begin < end - 1:
                break
            options.append((best[begin] + pass_cost + padded, begin))
        cost, begin = min(options)
        best.append(cost)
        origin.append(begin)
    cuts: list[NDArray[np.int64]] = []
    end = len(widths)
    while end:
        cuts.append(ordered[origin[end] : end])
        end = origin[end]
    return cuts[::-1]


def padding_share(passes: Sequence[NDArray[np.int64]], lengths: NDArray[np.int64]) -> float:
    """Return the share of padded tokens among all computed tokens, 0 to 1."""
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in passes)
    return 1.0 - sum(int(lengths[rows].sum()) for rows in passes) / computed
