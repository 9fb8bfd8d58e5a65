"""`combine` against numbers worked out by hand, and its invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.base.errors import ConfigError, ScoreError
from engine.methods.reward import combine

NAN = float("nan")


def test_zscore_by_hand() -> None:
    # q: mean 2, population deviation sqrt(2/3); l: mean -2, the same deviation, in the other order.
    q = [[1.0, 2.0, 3.0]]
    ll = [[-1.0, -2.0, -3.0]]
    z = 1 / np.sqrt(2 / 3)
    expected = [[0.6 * -z + 0.4 * z, 0.0, 0.6 * z - 0.4 * z]]
    np.testing.assert_allclose(combine(q, ll), expected, atol=1e-12)


def test_binary_quality_by_hand() -> None:
    # One right of four: mean 1/4, deviation sqrt(3)/4, so right is sqrt(3) and wrong is -1/sqrt(3).
    q = [[1.0, 0.0, 0.0, 0.0]]
    got = combine(q, [[NAN] * 4], alpha=0.0)
    np.testing.assert_allclose(got, [[3**0.5, -(3**-0.5), -(3**-0.5), -(3**-0.5)]], atol=1e-12)


def test_minmax_by_hand() -> None:
    got = combine([[0.0, 5.0, 10.0]], [[-4.0, -3.0, -2.0]], alpha=0.25, normalization="minmax")
    np.testing.assert_allclose(got, [[0.0, 0.5, 1.0]], atol=1e-12)
    got = combine([[0.0, 5.0, 10.0]], [[-2.0, -3.0, -4.0]], alpha=0.25, normalization="minmax")
    np.testing.assert_allclose(got, [[0.25, 0.5, 0.75]], atol=1e-12)


def test_rank_by_hand_with_ties() -> None:
    # Ranks 0, 1.5, 1.5, 3 of 3 -> 0, .5, .5, 1.
    got = combine([[7.0, 9.0, 9.0, 1e6]], [[NAN] * 4], alpha=0.0, normalization="rank")
    np.testing.assert_allclose(got, [[0.0, 0.5, 0.5, 1.0]], atol=1e-12)


def test_normalization_is_over_teachers_with_both_signals() -> None:
    q = [[1.0, 3.0, 100.0, NAN]]
    ll = [[-1.0, -3.0, NAN, -50.0]]
    got = combine(q, ll, alpha=0.4)
    np.testing.assert_allclose(got, [[-0.6 + 0.4, 0.6 - 0.4, NAN, NAN]], atol=1e-12)


@pytest.mark.parametrize("normalization", ["zscore", "minmax", "rank"])
def test_the_unneeded_signal_may_be_missing(normalization: str) -> None:
    q, ll = [[1.0, 2.0]], [[NAN, NAN]]
    assert np.isfinite(combine(q, ll, 0.0, normalization)).all()  # type: ignore[arg-type]
    assert np.isfinite(combine(ll, q, 1.0, normalization)).all()  # type: ignore[arg-type]
    assert np.isnan(combine(q, ll, 0.5, normalization)).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("normalization", ["zscore", "minmax", "rank"])
def test_a_constant_signal_is_exactly_zero(normalization: str) -> None:
    # 0.1 + 0.1 + 0.1 is not 0.3 in floats: the mean rounds, the result must not.
    got = combine([[0.1, 0.1, 0.1]], [[-0.7, -0.7, -0.7]], 0.4, normalization)  # type: ignore[arg-type]
    assert (got == 0.0).all()


def test_tiny_differences_are_not_blown_up() -> None:
    got = combine([[1.0, 1.0 + 1e-12]], [[NAN, NAN]], alpha=0.0)
    assert np.abs(got).max() < 1e-5


@pytest.mark.parametrize("normalization", ["zscore", "minmax", "rank"])
def test_one_answer_and_no_answer(normalization: str) -> None:
    got = combine([[3.0, NAN], [NAN, NAN]], [[-1.0, NAN], [NAN, NAN]], 0.4, normalization)  # type: ignore[arg-type]
    assert got[0, 0] == 0.0
    assert np.isnan(got[0, 1])
    assert np.isnan(got[1]).all()


def test_empty_batches_keep_their_shape() -> None:
    assert combine(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
    assert combine(np.zeros((3, 0)), np.zeros((3, 0))).shape == (3, 0)


def test_infinite_scores_are_errors_that_say_where() -> None:
    with pytest.raises(ScoreError, match="quality of prompt 1, teacher 0"):
        combine([[0.0, 1.0], [float("inf"), 0.0]], [[-1.0, -1.0]] * 2)
    with pytest.raises(ScoreError, match="learnability of prompt 0, teacher 1"):
        combine([[0.0, 1.0]], [[-1.0, -float("inf")]])
    with pytest.raises(ScoreError, match="too large"):
        combine([[1e200, -1e200, 0.0]], [[-1.0, -2.0, -3.0]])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, NAN])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        combine([[1.0]], [[1.0]], alpha)


def test_unknown_normalization_and_shapes() -> None:
    with pytest.raises(ConfigError, match="softmax"):
        combine([[1.0]], [[1.0]], 0.4, "softmax")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="differ in shape"):
        combine([[1.0]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"\(B, M\)"):
        combine([1.0], [1.0])


scores = arrays(np.float64, (4, 5), elements=st.floats(-50, 50) | st.just(NAN))


@given(scores, scores, st.floats(0, 1), st.sampled_from(["zscore", "minmax", "rank"]))
def test_properties(q: np.ndarray, ll: np.ndarray, alpha: float, normalization: str) -> None:
    got = combine(q, ll, alpha, normalization)  # type: ignore[arg-type]
    missing = (np.isnan(q) & (alpha < 1)) | (np.isnan(ll) & (alpha > 0))
    np.testing.assert_array_equal(np.isnan(got), missing)
    # The order of teachers does not matter, and neither do other prompts.
    order = [3, 0, 4, 1, 2]
    np.testing.assert_allclose(
        combine(q[:, order], ll[:, order], alpha, normalization), got[:, order], atol=1e-9
    )  # type: ignore[arg-type]
    np.testing.assert_array_equal(combine(q[2:3], ll[2:3], alpha, normalization), got[2:3])  # type: ignore[arg-type]


@given(arrays(np.float64, (3, 4), elements=st.integers(-9, 9)), st.sampled_from(["zscore", "minmax", "rank"]))
def test_units_of_the_scorer_do_not_matter(q: np.ndarray, normalization: str) -> None:
    nothing = np.full(q.shape, NAN)
    one = combine(q, nothing, 0.0, normalization)  # type: ignore[arg-type]
    other = combine(8 * q + 32, nothing, 0.0, normalization)  # type: ignore[arg-type]
    np.testing.assert_allclose(one, other, atol=1e-9)
