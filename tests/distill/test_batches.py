import itertools

import numpy as np
import pytest

from engine.distill.batches import cut_step, deal, deal_step, padding_share, plan_epoch

LENGTHS = np.random.default_rng(0).integers(5, 200, size=103)


def test_every_row_once_and_the_same_for_the_same_seed():
    plan = plan_epoch(103, 8, seed=1, epoch=0)
    assert [len(rows) for rows in plan] == [8] * 12 + [7]
    assert sorted(np.concatenate(plan)) == list(range(103))
    again = plan_epoch(103, 8, seed=1, epoch=0)
    assert all(np.array_equal(a, b) for a, b in zip(plan, again, strict=True))
    for other in (plan_epoch(103, 8, 2, 0), plan_epoch(103, 8, 1, 1)):
        assert not np.array_equal(np.concatenate(plan), np.concatenate(other))


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


def cost(passes):
    return sum(30 + len(cut) * max(LENGTHS[row] for row in cut) for cut in passes)


def test_one_process_has_the_cheapest_cut_of_a_step_and_several_share_it():
    rows = np.arange(40)
    cheapest = cut_step(rows, LENGTHS, 10_000, pass_cost=30)
    (alone,) = deal_step(rows, LENGTHS, 10_000, 30, processes=1)
    assert all(np.array_equal(a, b) for a, b in zip(alone, cheapest, strict=True))
    for processes in (2, 3, 8):
        parts = deal_step(rows, LENGTHS, 10_000, 30, processes)
        assert len(parts) == processes
        assert sorted(row for part in parts for cut in part for row in cut) == list(rows)
        assert max(map(cost, parts)) < 1.25 * cost(cheapest) / processes


def test_a_process_without_a_row_has_no_pass():
    parts = deal_step(np.array([4]), LENGTHS, 10_000, 30, processes=2)
    assert [len(part) for part in parts] == [1, 0]


def test_a_step_of_several_processes_keeps_to_the_tokens_of_a_pass():
    for part in deal_step(np.arange(40), LENGTHS, 400, 1000, processes=2):
        assert all(len(cut) * max(LENGTHS[row] for row in cut) <= 400 for cut in part)


def test_in_lockstep_all_make_as_many_passes_and_those_of_like_cost_together():
    rows = np.arange(40)
    parts = deal_step(rows, LENGTHS, 400, 30, processes=3, lockstep=True)
    assert len({len(part) for part in parts}) == 1
    assert sorted(np.concatenate([cut for part in parts for cut in part])) == rows.tolist()
    costs = [[len(cut) * LENGTHS[cut].max(initial=0) for cut in part] for part in parts]
    assert all(min(now) >= max(after) for now, after in itertools.pairwise(zip(*costs, strict=True)))
    one, none = deal([np.array([4])], LENGTHS, 30, processes=2, lockstep=True)
    assert ([list(cut) for cut in one], [list(cut) for cut in none]) == ([[4]], [[]])
