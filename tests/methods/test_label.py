"""Labels: unusable answers, all-wrong prompts, flags, and the sentence about an idle α."""

import subprocess
import sys

import numpy as np
import pytest

from engine.base.errors import ConfigError, ScoreError
from engine.methods.reward import RewardSettings, alpha_is_idle, combine, label

NAN = float("nan")
ALL = np.ones((1, 4), dtype=bool)


def test_an_unusable_answer_ranks_below_every_usable_one() -> None:
    q, ll = [[1.0, 0.0, 0.0, NAN]], [[-1.0, -2.0, -3.0, NAN]]
    usable = np.array([[True, True, True, False]])
    labels = label(q, ll, usable, ALL, correct=q)
    three = combine([q[0][:3]], [ll[0][:3]])
    np.testing.assert_allclose(labels.rewards[:, :3], three)
    assert labels.rewards[0, 3] == pytest.approx(three.min() - 1.0)
    assert (labels.usable[0], labels.unusable[0]) == (3, 1)
    assert not labels.excluded[0]


def test_scores_of_unusable_answers_do_not_leak_into_normalization() -> None:
    # A truncated answer was scored all the same; its numbers must not move the others.
    usable = np.array([[True, True, True, False]])
    scored = label(
        [[1.0, 0.0, 0.0, 1.0]], [[-1.0, -2.0, -3.0, -90.0]], usable, ALL, correct=[[1.0, 0.0, 0.0, 1.0]]
    )
    blank = label(
        [[1.0, 0.0, 0.0, NAN]], [[-1.0, -2.0, -3.0, NAN]], usable, ALL, correct=[[1.0, 0.0, 0.0, NAN]]
    )
    np.testing.assert_array_equal(scored.rewards, blank.rewards)


def test_unusable_answers_can_be_dropped() -> None:
    usable = np.array([[True, True, False, False]])
    labels = label(
        [[1.0, 0.0, NAN, NAN]],
        [[-1.0, -2.0, NAN, NAN]],
        usable,
        ALL,
        settings=RewardSettings(unusable="missing"),
        correct=[[1.0, 0.0, NAN, NAN]],
    )
    assert np.isnan(labels.rewards[0, 2:]).all()


def test_a_teacher_that_was_never_asked_stays_missing() -> None:
    asked = np.array([[True, True, True, False]])
    usable = np.array([[True, True, False, False]])
    labels = label(
        [[1.0, 0.0, NAN, NAN]], [[-1.0, -2.0, NAN, NAN]], usable, asked, correct=[[1.0, 0.0, NAN, NAN]]
    )
    assert np.isfinite(labels.rewards[0, :3]).all()
    assert np.isnan(labels.rewards[0, 3])
    with pytest.raises(ValueError, match="never asked"):
        label([[1.0]], [[-1.0]], [[True]], [[False]], correct=[[1.0]])


def test_a_usable_answer_without_a_score_is_missing_not_worst() -> None:
    labels = label(
        [[1.0, 0.0, 1.0, 0.0]], [[-1.0, -2.0, -3.0, NAN]], ALL, ALL, correct=[[1.0, 0.0, 1.0, 0.0]]
    )
    assert np.isnan(labels.rewards[0, 3])
    assert labels.usable[0] == 3


def test_a_prompt_without_a_usable_answer_is_missing_and_excluded() -> None:
    labels = label([[NAN] * 4], [[NAN] * 4], ~ALL, ALL, correct=[[NAN] * 4])
    assert np.isnan(labels.rewards).all()
    assert labels.excluded[0]
    assert not labels.all_wrong[0]
    assert labels.unusable[0] == 4


def test_all_wrong_prompts_are_flagged_and_excluded_by_default() -> None:
    q, ll = [[0.0] * 4, [1.0, 0.0, 0.0, 0.0]], [[-1.0, -2.0, -3.0, -4.0]] * 2
    both = np.ones((2, 4), dtype=bool)
    labels = label(q, ll, both, both, correct=q)
    assert labels.all_wrong.tolist() == [True, False]
    assert labels.excluded.tolist() == [True, False]
    assert labels.constant_quality.tolist() == [True, False]
    assert np.isfinite(labels.rewards).all()
    assert np.isnan(labels.training_rewards[0]).all()
    np.testing.assert_array_equal(labels.training_rewards[1], labels.rewards[1])
    kept = label(q, ll, both, both, correct=q, settings=RewardSettings(exclude_all_wrong=False))
    assert kept.all_wrong.tolist() == [True, False]
    assert not kept.excluded.any()


def test_graded_quality_has_no_wrong_answers() -> None:
    labels = label([[0.0] * 4], [[-1.0, -2.0, -3.0, -4.0]], ALL, ALL, correct=None)
    assert not labels.all_wrong[0]
    assert labels.constant_quality[0]


def test_constant_learnability_is_flagged() -> None:
    labels = label([[1.0, 0.0, 1.0, 0.0]], [[-2.0] * 4], ALL, ALL, correct=[[1.0, 0.0, 1.0, 0.0]])
    assert labels.constant_learnability[0]
    assert not labels.constant_quality[0]
    single = label([[1.0, NAN]], [[-2.0, NAN]], [[True, False]], [[True, False]], correct=[[1.0, NAN]])
    assert not single.constant_learnability[0]


def test_bad_settings_and_scores() -> None:
    with pytest.raises(ScoreError, match="neither 0 nor 1"):
        label([[0.5]], [[-1.0]], [[True]], [[True]], correct=[[0.5]])
    settings = RewardSettings(unusable="best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="best"):
        label([[1.0]], [[-1.0]], [[True]], [[True]], correct=[[1.0]], settings=settings)
    with pytest.raises(ValueError, match="shapes"):
        label([[1.0]], [[-1.0]], [[True, True]], [[True]], correct=[[1.0]])


def test_alpha_is_idle_with_binary_quality_and_hard_labels() -> None:
    # Two right and two wrong, learnability close to even: quality decides up to a large alpha.
    q = [[1.0, 1.0, 0.0, 0.0]]
    ll = [[-1.0, -2.0, -1.4, -1.6]]
    said = alpha_is_idle(q, ll, alpha=0.4, normalization="zscore", targets="hard")
    assert said is not None
    assert "0/1" in said
    # By hand: q̃ is ±1, l̃ is (.5, -.5, .1, -.1)/sqrt(.13). The first pair to flip is (2nd, 3rd):
    # 2(1-α) < α·0.6/sqrt(.13)  ⇔  α > 0.5458; below that and above 0 all six pairs are the same.
    assert "from 0.025 to 0.525 gives the same 6 pairs" in said
    # Alpha 0 has four pairs only (two are ties), so it is not in the range, and not idle itself.
    assert alpha_is_idle(q, ll, alpha=0.0, normalization="zscore", targets="hard") is None


def test_alpha_matters_with_soft_targets_or_graded_quality() -> None:
    assert (
        alpha_is_idle([[1.0, 0.0]], [[-1.0, -2.0]], alpha=0.4, normalization="zscore", targets="soft") is None
    )
    random = np.random.default_rng(0)
    q, ll = random.normal(size=(50, 5)), -random.exponential(size=(50, 5))
    assert alpha_is_idle(q, ll, alpha=0.4, normalization="zscore", targets="hard") is None


def test_alpha_idle_of_nothing_is_silent() -> None:
    assert (
        alpha_is_idle([[NAN, 1.0]], [[-1.0, -2.0]], alpha=0.4, normalization="rank", targets="hard") is None
    )


def test_rewards_do_not_import_torch() -> None:
    code = "import sys, engine.methods.reward, engine.methods.strategies; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
