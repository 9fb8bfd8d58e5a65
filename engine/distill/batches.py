"""Which rows make an optimizer step, and how a step is cut into forward passes.

The rows of a step are drawn at random, so tasks and lengths stay mixed (a student fed one kind of row at a
time learns badly). Inside the step the rows are sorted by length and cut where that costs least: the
gradient does not depend on the cut, because the loss is divided by the step's total of target tokens. Nor does
it depend on which process takes which pass.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHARES = (1.0, 1.15, 1.3, 0.5, 0.25)
"""Padded tokens of a pass at most, as shares of what one process has to do, that are tried where several share a step:
the cheapest cut alone may be a single pass, for which one works and the others wait."""


def plan_epoch(count: int, batch_rows: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Return the row indices of every optimizer step of one epoch; the same for the same arguments.

    Every one of `count` rows appears exactly once, `batch_rows` in a step, what remains in the last.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return [order[begin : begin + batch_rows] for begin in range(0, count, batch_rows)]


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


def deal_step(
    rows: NDArray[np.int64],
    lengths: NDArray[np.int64],
    max_tokens: int,
    pass_cost: int,
    processes: int,
    lockstep: bool = False,
) -> list[list[NDArray[np.int64]]]:
    """Return the forward passes of each process in a step, so that the slowest is done early.

    Args:
        rows: indices, (n,).
        lengths: tokens of each row of the dataset, (N,).
        max_tokens: padded tokens of a pass, the memory bound.
        pass_cost: fixed cost of one forward and backward pass, in tokens.
        processes: how many share the step; one has the cheapest cut.
        lockstep: see `deal`.
    """
    limits = [max_tokens]
    if processes > 1:
        share = int(lengths[rows].sum()) / processes
        limits += [min(max_tokens, math.ceil(share * part)) for part in SHARES]
    cuts = [cut_step(rows, lengths, limit, pass_cost) for limit in limits]
    dealt = [deal(passes, lengths, pass_cost, processes, lockstep) for passes in cuts]
    return min(dealt, key=lambda parts: max(_cost(part, lengths, pass_cost) for part in parts))


def deal(
    passes: Sequence[NDArray[np.int64]],
    lengths: NDArray[np.int64],
    pass_cost: int,
    processes: int,
    lockstep: bool = False,
) -> list[list[NDArray[np.int64]]]:
    """Return the passes of each process: the dearest first, each to the one that has least to do.

    Args:
        passes: row indices of each pass.
        lengths: tokens of each row of the dataset, (N,).
        pass_cost: fixed cost of a pass, in tokens.
        processes: how many share the passes; one has them as they are.
        lockstep: whether all make a pass together, so that each has as many: those of like cost at the same time. One
            for which no rows are left has a pass of none. The first process then has most to do.
    """
    if processes == 1:
        return [list(passes)]
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(processes)]
    loads = [0] * processes
    costs = [_cost([rows], lengths, pass_cost) for rows in passes]
    ordered = sorted(range(len(passes)), key=lambda place: -costs[place])
    if lockstep:
        none = np.array([], dtype=np.int64)
        dealt = [passes[place] for place in ordered] + [none] * (-len(passes) % processes)
        return [dealt[process::processes] for process in range(processes)]
    for place in ordered:
        least = loads.index(min(loads))
        parts[least].append(passes[place])
        loads[least] += costs[place]
    return parts


def _cost(passes: Sequence[NDArray[np.int64]], lengths: NDArray[np.int64], pass_cost: int) -> int:
    """Tokens of compute."""
    return sum(pass_cost + len(rows) * int(lengths[rows].max(initial=0)) for rows in passes)


def padding_share(passes: Sequence[NDArray[np.int64]], lengths: NDArray[np.int64]) -> float:
    """Return the share of padded tokens among all computed tokens, 0 to 1."""
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in passes)
    return 1.0 - sum(int(lengths[rows].sum()) for rows in passes) / computed
