"""Training: the same seed gives the same weights; the measures that judge the result, by hand."""

import dataclasses
import random

import pytest
import torch

from tools.zoo import corpus, measure, train
from tools.zoo.corpus import IGNORED
from tools.zoo.optimize import WARM_UP
from tools.zoo.reward_model import spoil
from tools.zoo.specs import SPECS
from tools.zoo.tasks import TASKS, measurement


def test_the_same_seed_gives_the_same_weights_and_the_loss_falls(capsys: pytest.CaptureFixture[str]) -> None:
    spec = dataclasses.replace(
        SPECS["speller"], width=16, layers=1, inner=16, heads=2, steps=WARM_UP + 1, pool=100, batch=4
    )
    tokenizer = corpus.build_tokenizer("A")
    first, second = train.train(spec, tokenizer).state_dict(), train.train(spec, tokenizer).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = train.train(dataclasses.replace(spec, seed=99), tokenizer).state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert "s left" in capsys.readouterr().err


def test_targets_are_the_answer_and_the_end_of_turn_only() -> None:
    inputs, targets = corpus.collate([([5, 6, 7, 8, 3], 3), ([5, 9, 3], 1)], pad=0)
    assert inputs.tolist() == [[5, 6, 7, 8, 3], [5, 9, 3, 0, 0]]
    assert targets.tolist() == [[IGNORED, IGNORED, 8, 3, IGNORED], [9, 3, IGNORED, IGNORED, IGNORED]]


def test_the_share_of_chat_turns_in_a_base_model() -> None:
    spec = dataclasses.replace(SPECS["student"], pool=50, turns={"unsure": 0.15, "bare": 0.05})
    rows, weights = train.pools(spec, corpus.build_tokenizer("A"))
    assert len(rows) == len(weights) == 3 * len(TASKS)
    total = sum(weights)
    assert sum(weights[1::3]) / total == pytest.approx(0.15)
    assert sum(weights[2::3]) / total == pytest.approx(0.05)


def test_wilson_interval() -> None:
    # p = 0.5, n = 100: centre (50 + 1.9207) / 103.8415 = 0.5, half-width 1.96·√(25 + 0.9604) / 103.8415.
    low, high = measure.wilson(50, 100)
    assert (low, high) == pytest.approx((0.40383, 0.59617), abs=1e-4)
    assert measure.wilson(0, 10)[0] == 0.0
    assert measure.wilson(10, 10)[1] == pytest.approx(1.0)


def test_area_under_the_curve() -> None:
    assert measure.area([3.0, 2.0], [1.0, 2.0]) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("task", TASKS)
def test_a_spoiled_answer_is_wrong(task: str) -> None:
    rng = random.Random(0)
    for example in measurement(task)[:30]:
        assert spoil(example, rng).answer.lower() != example.answer.lower()
