"""Every strategy on a small, hand-made evidence."""

import numpy as np
import pytest

from engine.base.errors import ConfigError
from engine.methods.strategy import Evidence
from engine.methods.strategy_kinds import assign, load, names, needs_calibration, settings

NAN = float("nan")


def evidence(**changes: object) -> Evidence:
    given: dict[str, object] = {
        "names": ("large", "mid", "small"),
        "families": ("llama", "Qwen", "qwen"),
        "parameters": (72e9, 7e9, 0.5e9),
        "student_family": "qwen",
        "mean_quality": np.array([0.9, 0.8, 0.5]),
        "mean_loss": np.array([2.0, 0.5, 0.4]),
    }
    return Evidence(**(given | changes))  # type: ignore[arg-type]


def test_names_are_the_table_of_the_method() -> None:
    assert names() == ("strong", "mix", "family_strong", "car", "random", "persyn", "oracle")
    assert all(load(name).about for name in names())
    assert [name for name in names() if load(name).needs_full_parallel] == ["oracle"]
    assert [name for name in names() if load(name).uses_router] == ["persyn"]
    assert [name for name in names() if load(name).uses_rewards] == ["persyn", "oracle"]
    assert {key: setting.default for key, setting in settings().items()} == {
        "strong_share": 0.2,
        "car_beta": 3.0,
    }
    assert [name for name in names() if not needs_calibration(name, (1.0, 2.0))] == [
        "strong",
        "mix",
        "family_strong",
        "random",
    ]
    assert needs_calibration("strong", (1.0, None))
    with pytest.raises(ConfigError, match="persyn"):
        assign("best", evidence(), 3)


def test_strong_by_size_else_by_quality() -> None:
    by_size = assign("strong", evidence(mean_quality=np.array([0.1, 0.8, 0.5])), 3)
    assert by_size.choices.tolist() == [0, 0, 0]
    assert "parameters" in by_size.note
    by_quality = assign(
        "strong", evidence(parameters=(72e9, None, 1e9), mean_quality=np.array([0.1, NAN, 0.5])), 2
    )
    assert by_quality.choices.tolist() == [2, 2]
    assert "mean quality" in by_quality.note
    with pytest.raises(ConfigError, match="mid"):
        assign("strong", evidence(parameters=(72e9, None, 1e9), mean_quality=None), 2)


def test_mix_has_exactly_its_share_at_random_places() -> None:
    mixed = assign("mix", evidence(seed=1), 100)
    assert np.bincount(mixed.choices, minlength=3).tolist() == [20, 0, 80]
    assert mixed.choices.tolist() != assign("mix", evidence(seed=2), 100).choices.tolist()
    assert mixed.choices.tolist() == assign("mix", evidence(seed=1), 100).choices.tolist()
    half = assign("mix", evidence(settings={"strong_share": 0.5}), 10)
    assert np.bincount(half.choices, minlength=3).tolist() == [5, 0, 5]
    with pytest.raises(ConfigError, match="strong_share"):
        assign("mix", evidence(settings={"strong_share": 2.0}), 10)
    with pytest.raises(ConfigError, match="two teachers"):
        assign("mix", Evidence(names=("one",), families=("",), parameters=(1.0,)), 10)


def test_family_strong() -> None:
    assert assign("family_strong", evidence(), 2).choices.tolist() == [1, 1]
    for family in ("gemma", ""):
        with pytest.raises(ConfigError) as caught:
            assign("family_strong", evidence(student_family=family), 2)
        assert "llama" in caught.value.message
        assert caught.value.remedy


def test_car_by_hand() -> None:
    # .9/7 = .129, .8/2.5 = .320, .5/2.2 = .227
    assert assign("car", evidence(), 2).choices.tolist() == [1, 1]
    # Without the penalty the best quality wins; with a large one the least loss.
    assert assign("car", evidence(settings={"car_beta": 0.0}), 1).choices.tolist() == [0]
    assert assign("car", evidence(mean_loss=np.array([2.0, 0.5, 0.1])), 1).choices.tolist() == [2]
    with pytest.raises(ConfigError, match="mean loss"):
        assign("car", evidence(mean_loss=None), 1)


def test_car_shifts_negative_qualities_and_says_so() -> None:
    # Unshifted, −2 / (1 + 3·9) would be the highest value although the teacher is worst in both. Shifted by
    # 3: 1/28, 2/4, 3/7.
    given = evidence(mean_quality=np.array([-2.0, -1.0, 0.0]), mean_loss=np.array([9.0, 1.0, 2.0]))
    chosen = assign("car", given, 1)
    assert chosen.choices.tolist() == [1]
    assert "shifted by 3" in chosen.note
    assert "shifted" not in assign("car", evidence(), 1).note


def test_car_passes_over_a_teacher_without_scores() -> None:
    chosen = assign("car", evidence(mean_quality=np.array([0.9, NAN, 0.5])), 1)
    assert chosen.choices.tolist() == [2]
    assert "mid" in chosen.note
    with pytest.raises(ConfigError, match="no teacher"):
        assign("car", evidence(mean_quality=np.full(3, NAN)), 1)


def test_random_is_even_and_seeded() -> None:
    drawn = assign("random", evidence(seed=3), 3000).choices
    counts = np.bincount(drawn, minlength=3)
    assert abs(counts - 1000).max() < 100
    assert drawn.tolist() == assign("random", evidence(seed=3), 3000).choices.tolist()


def test_persyn_follows_strengths_but_known_rewards_come_first() -> None:
    strengths = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    rewards = np.array([[1.0, 2.0, 0.0], [NAN, NAN, NAN], [NAN, -1.0, NAN]])
    chosen = assign("persyn", evidence(strengths=strengths, rewards=rewards), 3)
    assert chosen.choices.tolist() == [1, 2, 1]
    assert chosen.ranking is not None
    assert chosen.ranking.tolist() == [[1, 0, 2], [2, 1, 0], [1, 0, 2]]
    assert "1 prompts by the router" in chosen.note
    alone = assign("persyn", evidence(strengths=strengths), 3)
    assert alone.choices.tolist() == [2, 2, 0]
    with pytest.raises(ConfigError, match="strengths"):
        assign("persyn", evidence(), 3)


def test_oracle_takes_the_best_answer() -> None:
    rewards = np.array([[1.0, 2.0, 0.0], [NAN, NAN, NAN], [0.5, NAN, 0.1]])
    chosen = assign("oracle", evidence(rewards=rewards), 3)
    # Teacher 1 has the best mean, so it stands in where nobody has a usable answer.
    assert chosen.choices.tolist() == [1, 1, 0]
    assert chosen.ranking is not None
    assert chosen.ranking[2].tolist() == [0, 2, 1]
    assert "1 of 3 prompts" in chosen.note
    with pytest.raises(ConfigError, match="every teacher"):
        assign("oracle", evidence(), 3)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="strengths"):
        assign("persyn", evidence(strengths=np.zeros((2, 3))), 3)
    with pytest.raises(ConfigError, match="no teacher"):
        assign("random", Evidence(names=(), families=(), parameters=()), 3)


def test_loads_are_every_way_that_calibration_leaves_open() -> None:
    def loads(name: str, **changes: object) -> list[list[float]]:
        return [list(load) for load in kind(name).loads(evidence(**changes), 10.0)]

    kind = load
    unknown = (72e9, None, 0.5e9)
    assert loads("strong") == [[10, 0, 0]]
    assert loads("strong", parameters=unknown) == loads("car") == [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
    assert loads("family_strong") == [[0, 10, 0]]
    assert loads("family_strong", parameters=unknown) == [[0, 10, 0], [0, 0, 10]]
    assert loads("mix", settings={"strong_share": 0.3}) == [[3, 0, 7]]
    assert len(loads("mix", parameters=unknown)) == 6
    assert loads("random") == loads("persyn") == [[10 / 3] * 3]
    with pytest.raises(ConfigError, match="llama"):
        loads("family_strong", student_family="gemma")
