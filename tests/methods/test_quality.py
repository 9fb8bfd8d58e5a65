"""Several scorers as one quality, against numbers worked out by hand, and its settings."""

import numpy as np
import pytest

from engine.base.errors import ConfigError
from engine.config import run_file
from engine.methods import blend

NAN = float("nan")
RIGHT = np.array([[1.0, 0.0], [1.0, 1.0]])
GRADED = np.array([[2.0, 6.0], [4.0, 8.0]])


def blended(normalization: blend.Normalization, weights=(0.75, 0.25), values=(RIGHT, GRADED)) -> np.ndarray:
    scales = [blend.scale(one, normalization) for one in (RIGHT, GRADED)]
    return blend.blend(values, weights, scales)


def test_min_max_by_hand() -> None:
    # RIGHT is 0..1 as it is; GRADED is 2..8.
    expected = [[0.75, 0.25 * 4 / 6], [0.75 + 0.25 * 2 / 6, 1.0]]
    assert blended("minmax") == pytest.approx(np.array(expected))


def test_z_score_by_hand() -> None:
    # RIGHT: mean 3/4, standard deviation √3/4. GRADED: mean 5, standard deviation √5.
    first = (1 - 0.75) / (3**0.5 / 4) * 0.75 + (2 - 5) / 5**0.5 * 0.25
    assert blended("zscore")[0, 0] == pytest.approx(first)


def test_raw_values_and_weights_that_do_not_add_up_to_one() -> None:
    assert blended("none", (3.0, 1.0)) == pytest.approx((3 * RIGHT + GRADED) / 4)


def test_the_scale_is_one_for_all_prompts() -> None:
    # Answers that a scorer finds nearly equal stay nearly equal: no scaling within the prompt blows them up.
    close = np.array([[5.0, 5.001]])
    found = blended("zscore", values=(np.ones((1, 2)), close))
    assert found[0, 1] - found[0, 0] == pytest.approx(0.25 * 0.001 / 5**0.5)


def test_a_scorer_that_says_nothing_of_a_prompt_has_no_say_there() -> None:
    silent = np.array([[NAN, NAN], [1.0, NAN]])
    found = blend.blend([silent, GRADED], [0.75, 0.25], [blend.Scale(0, 1)] * 2)
    assert found[0].tolist() == [2.0, 6.0]
    assert found[1, 0] == pytest.approx(0.75 + 1.0)
    assert np.isnan(found[1, 1])  # not comparable with an answer that both have judged
    nothing = blend.blend([silent[:1], silent[:1]], [1, 1], [blend.Scale(0, 1)] * 2)
    assert np.isnan(nothing).all()


def test_a_constant_or_absent_scorer_is_finite() -> None:
    assert blend.scale(np.full((2, 2), 3.0), "zscore").width > 0
    assert blend.scale(np.full((2, 2), NAN), "minmax") == blend.Scale(0.0, 1.0)


MINIMAL = """
student: {name: s, model: "zoo:student"}
teachers: [{name: t, model: "zoo:brief"}]
prompts: [{source: reasoning_gym, task: gcd, size: 10}]
"""


def test_scorers_are_named_and_survive_the_store() -> None:
    text = (
        "quality: {normalization: minmax, scorers: [{scorer: exact_answer, weight: 0.7, timeout_s: 3}, "
        "{scorer: reward_model, model: 'zoo:reward'}, {scorer: reward_model, model: 'zoo:other'}]}\n"
    )
    run = run_file.parse(MINIMAL + text)
    assert list(run.quality.named) == ["exact_answer", "reward_model", "reward_model 2"]
    assert run.quality.named["exact_answer"].settings == {"timeout_s": 3}
    assert run_file.Run.model_validate(run.model_dump(mode="json")) == run


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quality: {scorer: reward_model, modell: x}", "did you mean `model`"),
        ("quality: {scorers: [{scorer: exact_answer, timeout: 3}]}", "did you mean `timeout_s`"),
        ("quality: {scorers: [{scorer: reward_modl}]}", "did you mean `reward_model`"),
        ("quality: {scorers: [{scorer: exact_answer, weight: 0}]}", "greater than 0"),
        ("quality: {scorers: [{scorer: learnability}]}", "other half of the reward"),
        ("quality: {scorer: reward_model, scorers: [{scorer: exact_answer}]}", "not both"),
        (
            "quality: {scorer: reward_model, model: x}\ndataset: {keep: correct}",
            "needs the scorer `exact_answer`",
        ),
    ],
)
def test_wrong_settings_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_file.parse(MINIMAL + text + "\n")
