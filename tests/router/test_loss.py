"""All pairs from one vector against one row per pair: value, gradient, ties, missing answers, extremes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from engine.base.errors import ConfigError, ScoreError, TrainingError
from engine.router.loss import bradley_terry

NAN = float("nan")


def one_row_per_pair(strengths: Tensor, rewards: Tensor, temperature: float | None, ties: str) -> Tensor:
    """Return the mean of torch's BCE over rows made one by one, as P2L's data would have them."""
    rows = []
    for b in range(strengths.shape[0]):
        for i in range(strengths.shape[1]):
            for j in range(i + 1, strengths.shape[1]):
                ri, rj = float(rewards[b, i]), float(rewards[b, j])
                if math.isnan(ri) or math.isnan(rj):
                    continue
                if temperature is not None:
                    # ½(1 + tanh(x/2)) is σ(x) without its overflow.
                    target = 0.5 * (1 + math.tanh((ri - rj) / temperature / 2))
                elif ri == rj:
                    if ties == "drop":
                        continue
                    target = 0.5
                else:
                    target = 1.0 if ri > rj else 0.0
                logit = strengths[b, i] - strengths[b, j]
                rows.append(
                    torch.nn.functional.binary_cross_entropy_with_logits(
                        logit, torch.tensor(target, dtype=strengths.dtype)
                    )
                )
    return torch.stack(rows).mean() if rows else strengths.sum() * 0.0


def both(strengths: np.ndarray, rewards: np.ndarray, temperature: float | None, ties: str) -> None:
    a = torch.tensor(strengths, requires_grad=True)
    b = torch.tensor(strengths, requires_grad=True)
    r = torch.tensor(rewards)
    one = bradley_terry(a, r, temperature, ties)  # type: ignore[arg-type]
    other = one_row_per_pair(b, r, temperature, ties)
    one.backward()  # type: ignore[no-untyped-call]
    other.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-9)


def test_one_pair_by_hand() -> None:
    s = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64, requires_grad=True)
    loss = bradley_terry(s, torch.tensor([[2.0, 1.0]], dtype=torch.float64))
    loss.backward()  # type: ignore[no-untyped-call]
    # σ(log 3) = 3/4: the loss is −log ¾, its gradient ∓¼.
    assert loss.item() == pytest.approx(-math.log(0.75))
    assert s.grad is not None
    assert s.grad.tolist()[0] == pytest.approx([-0.25, 0.25])


def test_three_teachers_by_hand() -> None:
    # Order 1 > 0 > 2 and strengths 0: three pairs of log 2 each; gradients count wins and losses.
    s = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    loss = bradley_terry(s, torch.tensor([[0.0, 1.0, -1.0]]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(math.log(2))
    assert s.grad is not None
    assert s.grad.tolist()[0] == pytest.approx([0.0, -1 / 3, 1 / 3])


def test_the_mean_is_over_pairs_not_over_prompts() -> None:
    # Prompt 0 has three pairs of log 2, prompt 1 one pair of −log ¾.
    s = torch.tensor([[0.0, 0.0, 0.0], [math.log(3.0), 0.0, 9.0]], dtype=torch.float64)
    r = torch.tensor([[3.0, 2.0, 1.0], [1.0, 0.0, NAN]])
    assert bradley_terry(s, r).item() == pytest.approx((3 * math.log(2) - math.log(0.75)) / 4)


def test_ties_drop_or_count_half() -> None:
    s = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64, requires_grad=True)
    r = torch.tensor([[1.0, 1.0]])
    dropped = bradley_terry(s, r)
    assert dropped.item() == 0.0
    dropped.backward()  # type: ignore[no-untyped-call]
    assert s.grad is not None
    assert s.grad.abs().sum().item() == 0.0
    assert bradley_terry(s, r, ties="half").item() == pytest.approx(-0.5 * (math.log(0.75) + math.log(0.25)))


def test_soft_targets_by_hand() -> None:
    # (r_i − r_j)/τ = log 4: the target is 0.8; strengths even: the loss is log 2, the gradient ½ − 0.8.
    s = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    r = torch.tensor([[0.5 * math.log(4.0), 0.0]], dtype=torch.float64)
    loss = bradley_terry(s, r, temperature=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(math.log(2))
    assert s.grad is not None
    assert s.grad.tolist()[0] == pytest.approx([-0.3, 0.3])


def test_a_small_temperature_approaches_hard_labels() -> None:
    random = np.random.default_rng(0)
    s, r = torch.tensor(random.normal(size=(6, 5))), torch.tensor(random.normal(size=(6, 5)))
    torch.testing.assert_close(bradley_terry(s, r, 1e-6), bradley_terry(s, r))


def test_nineteen_teachers_with_holes_agree_with_one_row_per_pair() -> None:
    random = np.random.default_rng(1)
    rewards = random.integers(0, 4, size=(5, 19)).astype(np.float64)
    rewards[random.random((5, 19)) < 0.3] = NAN
    for temperature in (None, 0.7):
        for ties in ("drop", "half"):
            both(random.normal(size=(5, 19)), rewards, temperature, ties)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, (3, 4), elements=st.floats(-40, 40)),
    arrays(np.float64, (3, 4), elements=st.integers(-2, 2).map(float) | st.just(NAN)),
    st.none() | st.floats(0.05, 10),
    st.sampled_from(["drop", "half"]),
)
def test_any_labels_agree_with_one_row_per_pair(
    strengths: np.ndarray, rewards: np.ndarray, temperature: float | None, ties: str
) -> None:
    both(strengths, rewards, temperature, ties)


def test_no_pairs_is_zero_with_the_graph_kept() -> None:
    for rewards in ([[NAN, NAN, NAN]], [[1.0, NAN, NAN]]):
        s = torch.randn(1, 3, requires_grad=True)
        loss = bradley_terry(s, torch.tensor(rewards))
        assert loss.item() == 0.0
        loss.backward()  # type: ignore[no-untyped-call]
        assert s.grad is not None
        assert torch.equal(s.grad, torch.zeros(1, 3))
    alone = torch.randn(2, 1, requires_grad=True)
    assert bradley_terry(alone, torch.zeros(2, 1)).item() == 0.0
    assert bradley_terry(torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 3)).item() == 0.0


def test_extreme_strengths_stay_finite() -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = bradley_terry(s, torch.tensor([[0.0, 1.0, 2.0]]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx((2e4 + 1e4 + 0.0) / 3)
    assert s.grad is not None
    assert torch.isfinite(s.grad).all()


def test_float64_rewards_that_differ_are_no_ties_for_float32_strengths() -> None:
    r = torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64)
    assert bradley_terry(torch.zeros(1, 2), r).item() == pytest.approx(math.log(2))


def test_half_precision_strengths_are_summed_in_float32() -> None:
    s = torch.zeros(4, 19, dtype=torch.bfloat16)
    loss = bradley_terry(s, torch.arange(76.0).reshape(4, 19))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_bad_input_raises() -> None:
    s, r = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    with pytest.raises(TrainingError, match="not finite"):
        bradley_terry(torch.tensor([[NAN, 0.0]]), r)
    with pytest.raises(ScoreError, match="infinite"):
        bradley_terry(s, torch.tensor([[math.inf, 0.0]]))
    with pytest.raises(ConfigError, match="temperature"):
        bradley_terry(s, r, temperature=0.0)
    with pytest.raises(ConfigError, match="ties"):
        bradley_terry(s, r, ties="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(B, M\)"):
        bradley_terry(s, torch.zeros(1, 3))
