import numpy as np
import pytest

from engine.methods.statistics import accuracy, majority, paired_bootstrap


def test_wilson_against_hand_numbers():
    # n = 20, p = 0.5, z² = 3.841459: centre 0.5, half = 1.959964/1.192073·sqrt(0.0125 + 0.002401) = 0.200702
    result = accuracy([1] * 10 + [0] * 10)
    assert (result.accuracy, result.count) == (0.5, 20)
    assert result.low == pytest.approx(0.299298, abs=2e-6)
    assert result.high == pytest.approx(0.700702, abs=2e-6)


def test_wilson_at_the_ends_stays_inside_and_has_a_width():
    # p = 0: low 0, high = (z²/n) / (1 + z²/n) = 0.3841459 / 1.3841459
    none, every = accuracy([0] * 10), accuracy([True] * 10)
    assert none.low == 0.0
    assert none.high == pytest.approx(0.3841459 / 1.3841459, abs=1e-6)
    assert every.high == 1.0
    assert every.low == pytest.approx(1 - none.high, abs=1e-12)


def test_wilson_covers_the_truth_about_95_percent_of_the_time():
    rng = np.random.default_rng(0)
    intervals = [accuracy(rng.random(60) < 0.3) for _ in range(2000)]
    covered = np.mean([interval.low <= 0.3 <= interval.high for interval in intervals])
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize("bad", [[], [0.5], [2], [[0, 1]], [float("nan")]])
def test_accuracy_refuses_what_is_not_zero_or_one(bad):
    with pytest.raises(ValueError, match="results"):
        accuracy(bad)


def test_bootstrap_of_a_constant_difference_is_exact():
    result = paired_bootstrap([1, 1, 1, 1], [0, 0, 0, 0], draws=999)
    assert (result.difference, result.low, result.high, result.count) == (1.0, 1.0, 1.0, 4)
    assert result.p == pytest.approx(2 * 1 / 1000)


def test_bootstrap_of_two_prompts_matches_enumeration():
    # Differences {1, −1}: the four equally likely resamplings have means 1, 0, 0, −1.
    result = paired_bootstrap([1, 0], [0, 1], draws=200_000, seed=1)
    assert result.difference == 0.0
    assert (result.low, result.high) == (-1.0, 1.0)
    assert result.p == 1.0  # mean ≤ 0 in 3 of 4 draws


def test_bootstrap_p_matches_enumeration():
    # Differences {1, 1, −1}: mean ≤ 0 when at least two of three draws are −1: 3·(1/3)²·(2/3) + (1/3)³ = 7/27.
    result = paired_bootstrap([1, 1, 0], [0, 0, 1], draws=200_000)
    assert result.p == pytest.approx(2 * 7 / 27, abs=0.01)


def test_bootstrap_spread_is_that_of_the_mean():
    rng = np.random.default_rng(3)
    a, b = rng.random(400), rng.random(400)
    result = paired_bootstrap(a, b)
    half = 1.96 * (a - b).std() / 20
    assert result.high - result.low == pytest.approx(2 * half, rel=0.05)


def test_pairing_sees_what_two_intervals_do_not():
    # Wrong on the same 50 hard prompts; b also misses 8 that a gets.
    a = [1] * 50 + [0] * 50
    b = [1] * 42 + [0] * 58
    assert accuracy(a).low < accuracy(b).high
    assert paired_bootstrap(a, b).low > 0
    assert paired_bootstrap(a, b).p < 0.01


def test_bootstrap_is_deterministic_and_antisymmetric_in_sign():
    a, b = [1, 0, 1, 1, 0, 1, 1], [0, 0, 1, 0, 1, 0, 1]
    assert paired_bootstrap(a, b, seed=5) == paired_bootstrap(a, b, seed=5)
    assert paired_bootstrap(a, b, seed=5).difference == -paired_bootstrap(b, a, seed=5).difference


@pytest.mark.parametrize(("a", "b"), [([], []), ([1], [1, 0]), ([float("nan")], [1])])
def test_bootstrap_refuses_unequal_or_empty(a, b):
    with pytest.raises(ValueError, match=r"need two|finite"):
        paired_bootstrap(a, b)


def test_majority():
    result = majority(["1", "2", "1", "3"])
    assert (result.answer, result.accuracy.accuracy) == ("1", 0.5)
    assert majority(["b", "a"]).answer == "b"
    with pytest.raises(ValueError, match="no reference"):
        majority([])
