"""Random streams and drawing, against numbers worked out by hand."""

import numpy as np
import pytest
import torch

from engine.teachers.local.sampling import draw, stream_seed, uniforms

# ln of these gives logits whose softmax is exactly the list.
LOGITS = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))


def drawn(chance: float, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> int:
    return int(draw(LOGITS, torch.tensor([chance], dtype=torch.float64), temperature, top_p, top_k))


@pytest.mark.parametrize(
    ("chance", "token"),
    [(0.0, 0), (0.0999, 0), (0.1001, 1), (0.4999, 1), (0.5001, 2), (0.6999, 2), (0.7001, 3), (0.9999, 3)],
)
def test_inverse_of_the_distribution_function(chance: float, token: int) -> None:
    assert drawn(chance) == token


@pytest.mark.parametrize(("chance", "token"), [(0.0, 1), (0.57, 1), (0.58, 3), (0.9999, 3)])
def test_top_k_two_is_four_to_three(chance: float, token: int) -> None:
    assert drawn(chance, top_k=2) == token  # 0.4/0.7 = 0.5714


@pytest.mark.parametrize(
    ("top_p", "tokens"), [(0.39, {1}), (0.5, {1, 3}), (0.71, {1, 2, 3}), (1.0, {0, 1, 2, 3})]
)
def test_nucleus_holds_the_token_that_reaches_the_sum(top_p: float, tokens: set[int]) -> None:
    assert {drawn(chance, top_p=top_p) for chance in np.linspace(0, 0.9999, 200)} == tokens


def test_temperature() -> None:
    # At temperature 1/2 the probabilities go as squares: 1 : 16 : 4 : 9, of 30.
    assert drawn(1 / 30 - 1e-3, temperature=0.5) == 0
    assert drawn(17 / 30 - 1e-3, temperature=0.5) == 1
    assert drawn(17 / 30 + 1e-3, temperature=0.5) == 2
    assert drawn(0.0, temperature=0) == 1


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    found = {int(draw(logits, torch.tensor([u]), 1.0, 1.0, 0)) for u in np.linspace(0, 1 - 1e-9, 99)}
    assert found == {1, 3}


def test_streams_are_uniform_and_independent() -> None:
    seeds = np.array([stream_seed(0, [n]) for n in range(200)], dtype=np.uint64)
    numbers = np.array([uniforms(seeds, step) for step in range(200)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # 40,000 uniform numbers: mean 1/2 ± 0.0014 (one standard deviation), quarters 10,000 ± 87.
    assert abs(numbers.mean() - 0.5) < 0.006
    assert all(abs(((numbers * 4).astype(int) == quarter).sum() - 10_000) < 400 for quarter in range(4))
    assert abs(np.corrcoef(numbers[0], numbers[1])[0, 1]) < 0.3
    assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 0.3


def test_streams_are_named_by_seed_and_prompt() -> None:
    assert stream_seed(1, [1, 2]) == stream_seed(1, [1, 2])
    assert (
        len({stream_seed(1, [1, 2]), stream_seed(2, [1, 2]), stream_seed(1, [12]), stream_seed(1, [2, 1])})
        == 4
    )
