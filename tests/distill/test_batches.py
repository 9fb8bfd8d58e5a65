import itertools

import numpy as np
import pytest

from engine.distill.batches import Batching, cut_step, padding_share, plan_epoch

LENGTHS = np.random.default_rng(0).integers(5, 200, size=103)


@pytest.mark.parametrize(
    "batching",
    [Batching(rows=8), Batching(rows=8, pool=4), Batching(tokens=800), Batching(tokens=800, pool=3)],
)
def test_every_row_once_and_the_same_for_the_same_seed(batching):
    plan = plan_epoch(LENGTHS, batching, seed=1, epoch=0)
    assert sorted(np.concatenate(plan)) == list(range(103))
    again = plan_epoch(LENGTHS, batching, seed=1, epoch=0)
    assert all(np.array_equal(a, b) for a, b in zip(plan, again, strict=True))
    for other in (plan_epoch(LENGTHS, batching, 2, 0), plan_epoch(LENGTHS, batching, 1, 1)):
        assert not np.array_equal(np.concatenate(plan), np.concatenate(other))


def test_fixed_batches_and_token_budget_are_kept():
    assert [len(rows) for rows in plan_epoch(LENGTHS, Batching(rows=10), 0, 0)] == [10] * 10 + [3]
    for rows in plan_epoch(LENGTHS, Batching(tokens=400), 0, 0):
        assert len(rows) == 1 or len(rows) * LENGTHS[rows].max() <= 400


def test_a_pool_sorts_by_length_and_shuffles_the_steps():
    loose = plan_epoch(LENGTHS, Batching(rows=8), 0, 0)
    sorted_steps = plan_epoch(LENGTHS, Batching(rows=8, pool=13), 0, 0)
    assert padding_share(sorted_steps, LENGTHS) < 0.15 < padding_share(loose, LENGTHS)
    longest = [int(LENGTHS[rows].max()) for rows in sorted_steps]
    assert longest != sorted(longest)


@pytest.mark.parametrize("pass_cost", [0, 30, 1000])
def test_the_cut_of_a_step_is_the_cheapest(pass_cost):
    rows = np.array([3, 50, 7, 20, 99, 41])
    ordered = sorted(rows, key=lambda row: LENGTHS[row])

    def cost(cuts):
        return sum(pass_cost + len(cut) * max(LENGTHS[row] for row in cut) for cut in cuts)

    every = []
    for marks in itertools.product([False, True], repeat=5):
        cuts, current = [], [ordered[0]]
        for mark, row in zip(marks, ordered[1:], strict=True):
            if mark:
                cuts.append(current)
                current = []
            current.append(row)
        every.append([*cuts, current])
    best = min(cost(cuts) for cuts in every)
    found = cut_step(rows, LENGTHS, 10_000, pass_cost)
    assert cost(found) == best
    assert sorted(np.concatenate(found)) == sorted(rows)


def test_a_pass_holds_no_more_than_its_tokens_unless_one_row_does():
    lengths = np.array([10, 10, 10, 90])
    cuts = cut_step(np.arange(4), lengths, max_tokens=20, pass_cost=1000)
    assert sorted(len(cut) for cut in cuts) == [1, 1, 2]
    assert list(cuts[-1]) == [3]


def test_padding_share_by_hand():
    # 2 rows of 4 computed tokens, 4 + 2 real: 2 of 8 are padding.
    assert padding_share([np.array([0, 1])], np.array([4, 2])) == pytest.approx(0.25)
