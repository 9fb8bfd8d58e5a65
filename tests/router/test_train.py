"""Training on a real, tiny backbone: what it learns, what it reports, and when it refuses."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.base.errors import Cancelled, TrainingError
from engine.methods.metrics import measure
from engine.router import model as router_model
from engine.router.head import PATHS, constant_strengths
from engine.router.history import Hooks
from engine.router.manifest import Labelling, Teacher
from engine.router.model import Router
from engine.router.settings import FitSettings
from engine.router.train import fit

NAN = float("nan")
Make = Callable[..., Any]
QUICK = FitSettings(head_epochs=30, patience=8, folds=3, device="cpu")


def test_a_frozen_router_beats_chance_twice_on_unseen_prompts(
    llama: str, teachers: list[Teacher], make_data: Make
) -> None:
    data, unseen = make_data(150), make_data(300, seed=9)
    router, history = fit(llama, teachers, data.prompts, data.rewards, FitSettings(device="cpu"))
    m = measure(router.strengths(unseen.prompts), unseen.rewards)
    assert m.hit_at_1 > 2 * m.chance_hit_at_1
    assert m.regret < m.random_regret / 2
    assert m.hit_at_1 > m.best_single_hit_at_1
    assert history.prompts == 150
    assert history.pairs == 150 * 6
    assert history.skipped == 0
    assert sorted(np.bincount(history.folds)) == [30] * 5
    assert history.held_out.n == 150
    for fold, best in enumerate(history.best):
        seen = [e for e in history.evaluations if e.fold == fold]
        assert best.key == min(e.key for e in seen)
        assert seen[0].step == 0
        assert seen[0].held_out_loss == pytest.approx(math.log(2))


@pytest.mark.parametrize("count", [8, 60])
def test_a_teacher_that_is_always_best_gets_every_prompt(
    llama: str, teachers: list[Teacher], make_data: Make, count: int
) -> None:
    data, unseen = make_data(count), make_data(50, seed=9)
    data.rewards[:, 2] += 100
    router, history = fit(llama, teachers, data.prompts, data.rewards, QUICK)
    assert (router.strengths(unseen.prompts).argmax(axis=1) == 2).all()
    assert history.held_out.regret == 0


def test_constant_strengths_are_the_log_odds_of_a_pair() -> None:
    wins = torch.tensor([[1.0, 0.0, NAN]] * 3 + [[0.0, 1.0, NAN]])
    strengths = constant_strengths(wins, FitSettings(weight_decay=0.0))
    assert float(strengths[0] - strengths[1]) == pytest.approx(math.log(3), rel=1e-2)
    assert strengths[2] == 0
    always = constant_strengths(wins[:3], FitSettings())
    gap = float(always[0] - always[1])
    # Where the gradient of the loss, σ(−gap), meets that of the decay: no such place without one.
    assert 1 / (1 + math.exp(gap)) == pytest.approx(FitSettings().weight_decay * gap, rel=0.02)


def test_each_prompt_is_encoded_once(
    llama: str, teachers: list[Teacher], make_data: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    real = router_model.pool

    def counting(backbone: Any, batch: Any) -> torch.Tensor:
        nonlocal read
        read += len(batch)
        return real(backbone, batch)

    monkeypatch.setattr(router_model, "pool", counting)
    data = make_data(40)
    fit(llama, teachers, data.prompts, data.rewards, QUICK)
    assert read == 40


def test_the_seed_repeats_a_training(llama: str, teachers: list[Teacher], make_data: Make) -> None:
    data = make_data(40)
    runs = [fit(llama, teachers, data.prompts, data.rewards, QUICK)[0] for _ in range(2)]
    assert torch.equal(runs[0].head.weight, runs[1].head.weight)


def test_soft_targets_and_half_ties_train_too(llama: str, teachers: list[Teacher], make_data: Make) -> None:
    data = make_data(80)
    for settings in (FitSettings(temperature=0.5, device="cpu"), FitSettings(ties="half", device="cpu")):
        _, history = fit(llama, teachers, data.prompts, np.round(data.rewards), settings)
        assert history.held_out.regret < history.held_out.random_regret


def test_missing_and_equal_rewards(llama: str, teachers: list[Teacher], make_data: Make) -> None:
    data = make_data(60)
    rewards = data.rewards.copy()
    rewards[:5] = NAN
    rewards[5:10, 1:] = NAN
    rewards[10:15] = 1.0
    rewards[15:30, 0] = NAN
    _, history = fit(llama, teachers, data.prompts, rewards, QUICK)
    assert (history.prompts, history.skipped) == (45, 15)
    assert history.pairs == 15 * 3 + 30 * 6
    assert (history.folds[:15] == -1).all()
    assert (history.folds[15:] >= 0).all()


def test_equal_prompts_are_never_on_both_sides_of_the_split(
    llama: str, teachers: list[Teacher], make_data: Make
) -> None:
    data = make_data(20)
    _, history = fit(llama, teachers, data.prompts * 3, np.tile(data.rewards, (3, 1)), QUICK)
    assert (history.folds.reshape(3, 20) == history.folds[:20]).all()
    assert len(set(history.folds)) == 3


def test_a_teacher_that_always_wins_gets_finite_strengths(
    llama: str, teachers: list[Teacher], make_data: Make
) -> None:
    # The Bradley–Terry optimum is at infinity here.
    data = make_data(60)
    rewards = np.tile([3.0, 2.0, 1.0, 0.0], (60, 1))
    router, history = fit(llama, teachers, data.prompts, rewards, FitSettings(device="cpu"))
    strengths = router.strengths(data.prompts)
    assert np.abs(strengths).max() < 30
    assert (strengths.argmax(axis=1) == 0).all()
    assert history.held_out.regret == 0.0
    assert len(history.evaluations) < 5 * 101


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_a_tuned_router_is_no_worse_than_the_frozen_one_it_began_as(
    tune: str, llama: str, teachers: list[Teacher], make_data: Make, tmp_path: Path
) -> None:
    data = make_data(60)
    steps: list[tuple[int, int]] = []
    settings = FitSettings(tune=tune, epochs=4, learning_rate=3e-3, folds=3, lora_rank=4, device="cpu")  # type: ignore[arg-type]
    router, history = fit(
        llama,
        teachers,
        data.prompts,
        data.rewards,
        settings,
        Hooks(progress=lambda step, total, _: steps.append((step, total))),
    )
    start, best = history.evaluations[0], history.best[0]
    assert start.step == 0
    assert best.key <= start.key
    assert any(e.held_out_loss < start.held_out_loss for e in history.evaluations[1:])
    held = np.flatnonzero(history.folds == 0)
    again = measure(router.strengths([data.prompts[i] for i in held]), data.rewards[held])
    assert again.regret == pytest.approx(best.regret)
    assert again.regret == pytest.approx(history.held_out.regret)
    assert steps[-1] == (4 * 3, 4 * 3)
    router.save(tmp_path, Labelling())
    loaded = Router.load(tmp_path, teachers, device="cpu")
    np.testing.assert_array_equal(loaded.strengths(data.prompts), router.strengths(data.prompts))


def test_progress_counts_up_to_its_total(llama: str, teachers: list[Teacher], make_data: Make) -> None:
    data = make_data(30)
    seen: list[tuple[int, int, Mapping[str, float]]] = []
    fit(llama, teachers, data.prompts, data.rewards, QUICK, Hooks(progress=lambda *call: seen.append(call)))
    assert [step for step, _, _ in seen] == sorted({step for step, _, _ in seen})
    assert {total for _, total, _ in seen} == {PATHS * 3 * 30}
    assert {"held_out_loss", "hit_at_1", "hit_at_3", "regret", "loss"} <= set(seen[0][2])


@pytest.mark.parametrize("after", [0, 1, 5])
def test_training_stops_when_asked(after: int, llama: str, teachers: list[Teacher], make_data: Make) -> None:
    data, asked = make_data(30), 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    with pytest.raises(Cancelled):
        fit(llama, teachers, data.prompts, data.rewards, QUICK, Hooks(should_stop=should_stop))
    assert asked == after + 1


@pytest.mark.parametrize("tune", ["frozen", "lora"])
def test_a_loss_that_is_not_finite_stops_and_names_the_step(
    tune: str, llama: str, teachers: list[Teacher], make_data: Make
) -> None:
    data = make_data(30)
    settings = FitSettings(
        tune=tune,  # type: ignore[arg-type]
        head_learning_rate=1e37 if tune == "frozen" else None,
        learning_rate=1e37,
        folds=3,
        device="cpu",
    )
    with pytest.raises(TrainingError, match=r"not finite at step \d") as caught:
        fit(llama, teachers, data.prompts, data.rewards, settings)
    assert "learning_rate" in caught.value.remedy


def test_nothing_to_learn_from(llama: str, teachers: list[Teacher], make_data: Make) -> None:
    data = make_data(6)
    with pytest.raises(TrainingError, match="0 of 6 prompts"):
        fit(llama, teachers, data.prompts, np.ones((6, 4)), QUICK)
    with pytest.raises(TrainingError, match="0 of 0 prompts"):
        fit(llama, teachers, [], np.zeros((0, 4)), QUICK)
    one = np.full((6, 4), NAN)
    one[0] = [1, 2, 3, 4]
    with pytest.raises(TrainingError, match="1 of 6 prompts"):
        fit(llama, teachers, data.prompts, one, QUICK)
    with pytest.raises(TrainingError, match="the same prompt"):
        fit(llama, teachers, data.prompts[:1] * 6, data.rewards, QUICK)


def test_two_prompts_suffice(llama: str, teachers: list[Teacher], make_data: Make) -> None:
    data = make_data(2)
    router, history = fit(llama, teachers, data.prompts, data.rewards, QUICK)
    assert len(history.best) == 2
    assert np.isfinite(router.strengths(data.prompts)).all()


def test_rewards_of_another_shape(llama: str, teachers: list[Teacher], make_data: Make) -> None:
    data = make_data(4)
    with pytest.raises(ValueError, match="3 prompts"):
        fit(llama, teachers, data.prompts[:3], data.rewards, QUICK)
