"""Router measures and decisions against numbers worked out by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest

from engine.base.errors import ScoreError, TrainingError
from engine.methods.metrics import measure
from engine.methods.policy import choose

NAN = float("nan")


def test_by_hand() -> None:
    rewards = [
        [4.0, 3.0, 2.0, 1.0, 0.0],  # choice 0: hit, regret 0
        [4.0, 3.0, 2.0, 1.0, 0.0],  # choice 2: in the best three, regret 2
        [4.0, 3.0, 2.0, 1.0, 0.0],  # choice 4: regret 4
    ]
    strengths = np.zeros((3, 5))
    strengths[0, 0] = strengths[1, 2] = strengths[2, 4] = 1.0
    m = measure(strengths, rewards)
    assert (m.n, m.skipped) == (3, 0)
    assert m.hit_at_1 == pytest.approx(1 / 3)
    assert m.hit_at_3 == pytest.approx(2 / 3)
    assert m.regret == pytest.approx(2.0)
    assert m.chance_hit_at_1 == pytest.approx(1 / 5)
    assert m.chance_hit_at_3 == pytest.approx(3 / 5)
    assert m.random_regret == pytest.approx(2.0)
    assert (m.best_single, m.best_single_hit_at_1, m.best_single_regret) == (0, 1.0, 0.0)
    assert m.share == pytest.approx((1 / 3, 0, 1 / 3, 0, 1 / 3))
    assert m.entropy == pytest.approx(math.log(3))
    # Pairs in the right order: row 0 has 4 + 6/2, row 1 has 2 + 6/2, row 2 has 0 + 6/2; of 30.
    assert m.agreement == pytest.approx((7 + 5 + 3) / 30)


def test_ties_with_the_best_are_hits() -> None:
    # Two best: either is a hit, chance is 2/4. The third best value is 1, which two teachers share.
    m = measure([[0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0]], [[2.0, 2.0, 1.0, 1.0]] * 2)
    assert m.hit_at_1 == 0.5
    assert m.hit_at_3 == 1.0
    assert m.chance_hit_at_1 == 0.5
    assert m.chance_hit_at_3 == 1.0
    assert m.random_regret == pytest.approx(0.5)


def test_all_equal_rewards() -> None:
    m = measure(np.eye(3), np.ones((3, 3)))
    assert (m.hit_at_1, m.chance_hit_at_1, m.regret, m.random_regret) == (1.0, 1.0, 0.0, 0.0)
    assert m.agreement is None


def test_missing_rewards() -> None:
    rewards = [
        [1.0, 0.0, NAN],  # the strongest teacher 2 was not asked: teacher 1 is chosen, regret 1
        [NAN, 1.0, NAN],  # one known reward says nothing
        [NAN, NAN, NAN],
    ]
    m = measure([[0.0, 1.0, 2.0]] * 3, rewards)
    assert (m.n, m.skipped) == (1, 2)
    assert (m.hit_at_1, m.regret) == (0.0, 1.0)
    assert (m.chance_hit_at_1, m.chance_hit_at_3, m.random_regret) == (0.5, 1.0, 0.5)
    assert m.best_single == 0


def test_the_best_single_teacher_is_not_one_seen_on_a_few_easy_prompts() -> None:
    rewards = np.full((8, 3), NAN)
    rewards[:, 0] = 1.0
    rewards[:, 1] = [2, 2, 2, 2, 2, 0, 0, 0]
    rewards[0, 2] = 2.0
    m = measure(np.zeros((8, 3)), rewards)
    # Teacher 1 loses 1 on three prompts, teacher 0 loses 1 on five; teacher 2 never loses, but was seen once.
    assert m.best_single == 1
    assert m.best_single_regret == pytest.approx(3 / 8)
    assert m.best_single_hit_at_1 == pytest.approx(5 / 8)


def test_intervals_hold_the_mean_and_repeat_with_the_seed() -> None:
    random = np.random.default_rng(0)
    s, r = random.normal(size=(200, 4)), random.normal(size=(200, 4))
    m, again, other = measure(s, r), measure(s, r), measure(s, r, seed=1)
    assert m == again
    assert m != other
    assert m.hit_at_1_low < m.hit_at_1 < m.hit_at_1_high
    assert m.regret_low < m.regret < m.regret_high
    # The normal approximation of the same interval.
    half = 1.96 * math.sqrt(m.hit_at_1 * (1 - m.hit_at_1) / 200)
    assert m.hit_at_1_high - m.hit_at_1_low == pytest.approx(2 * half, rel=0.2)
    # Random strengths do as well as chance, within the sampling error.
    assert m.hit_at_1 == pytest.approx(m.chance_hit_at_1, abs=0.1)


def test_metrics_are_json() -> None:
    values = dataclasses.asdict(measure(np.zeros((1, 2)), [[1.0, 0.0]]))
    assert json.loads(json.dumps(values, allow_nan=False))["share"] == [1.0, 0.0]


def test_bad_input() -> None:
    with pytest.raises(TrainingError, match="two known rewards"):
        measure([[0.0, 1.0]], [[1.0, NAN]])
    with pytest.raises(ScoreError):
        measure([[NAN, 1.0]], [[1.0, 0.0]])
    with pytest.raises(ScoreError):
        measure([[0.0, 1.0]], [[math.inf, 0.0]])
    with pytest.raises(ValueError, match=r"\(B, M\)"):
        measure([[0.0, 1.0]], [[1.0, 0.0, 0.0]])


def test_choose_by_hand() -> None:
    d = choose([[0.5, 2.0, 1.5], [1.0, 1.0, 0.0]])
    assert d.choices.tolist() == [1, 0]
    assert d.margins.tolist() == [0.5, 0.0]
    assert d.ranking.tolist() == [[1, 2, 0], [0, 1, 2]]


def test_choose_with_one_teacher_and_with_bad_input() -> None:
    d = choose([[3.0], [4.0]])
    assert d.choices.tolist() == [0, 0]
    assert d.margins.tolist() == [0.0, 0.0]
    with pytest.raises(ScoreError):
        choose([[NAN, 0.0]])
    with pytest.raises(ValueError, match="M > 0"):
        choose(np.zeros((2, 0)))
