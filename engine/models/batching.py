"""Rows of token ids in padded batches: which share a forward pass, and how they become tensors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Any, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")
_PADDING_ID = 0
"""Any valid id: a padded position is masked, or lies to the right where no real token attends to it."""


def cut(
    rows: Sequence[_T],
    cost: Callable[[_T], int],
    budget: int,
    *,
    most: int | None = None,
    similar: bool = False,
) -> Iterator[list[_T]]:
    """Consecutive rows in batches whose padded size, rows × greatest cost, stays within the budget.

    Give the costliest rows first: neighbours are then of like length, and a budget that memory does not hold
    shows at once. A row above the budget makes a batch of its own.

    Args:
        rows: in the order in which they are to be batched.
        cost: token positions that a row takes.
        budget: token positions of one batch, padding included.
        most: rows of one batch.
        similar: end a batch that fills a quarter of the budget where rows become a fifth cheaper; a few rows of
            mixed length would else be mostly padding.
    """
    batch: list[_T] = []
    greatest = 0
    for row in rows:
        size = cost(row)
        filled, wider = len(batch) * greatest, max(greatest, size)
        full = (len(batch) + 1) * wider > budget or len(batch) == most
        if batch and (full or (similar and 4 * filled >= budget and 5 * size < 4 * greatest)):
            yield batch
            batch, wider = [], size
        batch.append(row)
        greatest = wider
    if batch:
        yield batch


def shuffled(batches: Iterable[_T]) -> list[_T]:
    """The first batch first, which shows whether memory holds it, and the others in an order that is always the same.

    Costly and cheap batches come mixed, so that the speed so far tells how long the rest will take.
    """
    ordered = list(batches)
    others = ordered[1:]
    Random(0).shuffle(others)
    return ordered[:1] + others


def pad(
    rows: Sequence[Sequence[int]], device: torch.device, *, left: bool = False, value: int = _PADDING_ID
) -> tuple[Tensor, Tensor]:
    """(ids (B, T), mask (B, T)) on the device; the mask is 1 at tokens and 0 at padding.

    Args:
        rows: B lists of token ids; T is the length of the longest.
        device: where the model is.
        left: pad on the left, so that every row can be continued at its end.
        value: the id that fills padding.
    """
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), value)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        begin = width - len(row) if left else 0
        ids[index, begin : begin + len(row)] = torch.as_tensor(row, dtype=torch.long)
        mask[index, begin : begin + len(row)] = 1
    return ids.to(device), mask.to(device)


def gather(states: Tensor, starts: Sequence[int], counts: Sequence[int]) -> Tensor:
    """(B, T, H) → (S, H): of each row, the states of `counts[b]` positions from `starts[b]` on; S is their sum."""
    width: Any = states.shape[1]
    places = [
        torch.arange(index * width + start, index * width + start + count)
        for index, (start, count) in enumerate(zip(starts, counts, strict=True))
    ]
    return states.flatten(0, 1).index_select(0, torch.cat(places).to(states.device))
