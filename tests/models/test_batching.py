"""Which rows share a padded batch, and how batches become tensors, by hand."""

import pytest
import torch

from engine.models.batching import cut, gather, pad
from engine.models.memory import halving

CPU = torch.device("cpu")


def longest_first(lengths: list[int], budget: int, **how) -> list[list[int]]:
    """Indices in batches."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return list(cut(order, lambda index: lengths[index], budget, **how))


def test_batches_stay_within_the_budget_padding_included() -> None:
    # 30 alone is above the budget; 2 × 10; 3 × 4 and the other 3 make 4 × 4.
    assert longest_first([3, 9, 4, 10, 3, 30], 20) == [[5], [3, 1], [2, 0, 4]]
    assert longest_first([3, 9, 4, 10, 3, 30], 11) == [[5], [3], [1], [2, 0], [4]]
    assert longest_first([], 20) == []
    # In the order given, the greatest cost so far counts: 2 × 5 would be 10.
    assert list(cut([1, 5, 2], int, 9)) == [[1], [5], [2]]
    assert longest_first([1, 1, 1, 1, 1], 100, most=2) == [[0, 1], [2, 3], [4]]


def test_similar_batches_hold_like_lengths() -> None:
    lengths = [3, 9, 4, 10, 3, 30]
    # The prompt above the budget goes alone; then 10 + 9 (2 × 10 ≤ 20); then 4 + 3, whose 8 padded tokens are
    # a quarter of the budget, so that the next 3, a fourth shorter than 4, begins a batch.
    assert longest_first(lengths, 20, similar=True) == [[5], [3, 1], [2, 0], [4]]
    assert longest_first([], 20, similar=True) == []
    # 10 + 8 stay together (8 is a fifth shorter, no more); 7 begins a batch, since 20 of 80 tokens are there.
    assert longest_first([7, 8, 10], 80, similar=True) == [[2, 1], [0]]
    assert longest_first([7, 8, 10], 100, similar=True) == [[2, 1, 0]]


@pytest.mark.parametrize("left", [False, True])
def test_pad_by_hand(left: bool) -> None:
    ids, mask = pad([[5, 6, 7], [8]], CPU, left=left, value=9)
    assert ids.tolist() == [[5, 6, 7], [9, 9, 8] if left else [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1] if left else [1, 0, 0]]


def test_gather_takes_each_rows_positions() -> None:
    # Two rows of 10 positions, states numbered from 0. Row 0 predicts from 6, 7, 8; row 1 (offset 10) from 6 and 7.
    states = torch.arange(20.0).reshape(2, 10, 1)
    assert gather(states, [6, 6], [3, 2])[:, 0].tolist() == [6, 7, 8, 16, 17]
    assert gather(states, [3, 0], [0, 1])[:, 0].tolist() == [10]


def test_halving_tries_again_what_is_left() -> None:
    tried: list[list[int]] = []

    def run(left: list[int]):
        tried.append(list(left))
        for number in list(left):
            if number == 3 and len(tried[-1]) > 1:
                raise torch.OutOfMemoryError
            left.remove(number)
            yield number

    assert list(halving([1, 2, 3, 4, 5], run)) == [1, 2, 3, 4, 5]
    assert tried == [[1, 2, 3, 4, 5], [3], [4, 5]]


def test_a_row_that_does_not_fit_alone_and_other_errors_are_raised() -> None:
    def full(left: list[int]):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        yield

    def broken(left: list[int]):
        tried.append(len(left))
        raise RuntimeError("shapes differ")
        yield

    tried: list[int] = []
    with pytest.raises(RuntimeError, match="allocate"):
        list(halving([1, 2], full))
    with pytest.raises(RuntimeError, match="differ"):
        list(halving([1, 2], broken))
    assert tried == [2]
