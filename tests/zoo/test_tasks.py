"""Tasks and styles: wording worked out by hand, and what training may never see."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.zoo import resolve
from tools.zoo import styles, tasks
from tools.zoo.tasks import Example


def example(task: str, answer: str, **parts: Any) -> Example:
    return Example(task, "?", answer, parts)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        (
            example("chain_sum", "84", expression="58 + 26"),
            "Add the ones: 8 + 6 = 14, write 4 and carry 1. Add the tens: 5 + 2 + 1 = 8. The answer is 84.",
        ),
        (
            example("chain_sum", "-32", expression="43 - 75"),
            "75 is larger, so the result is negative. Subtract the ones: 5 - 3 = 2, borrow 0. "
            "Subtract the tens: 7 - 4 - 0 = 3. The answer is -32.",
        ),
        (
            example("chain_sum", "17", expression="42 - 25"),
            "Subtract the ones: 12 - 5 = 7, borrow 1. Subtract the tens: 4 - 2 - 1 = 1. The answer is 17.",
        ),
        (
            example("gcd", "6", numbers=[18, 12]),
            "Divisors of 18: 1, 2, 3, 6, 9, 18. Divisors of 12: 1, 2, 3, 4, 6, 12. "
            "Largest in both: 6. The answer is 6.",
        ),
        (
            example("simple_equations", "4", equation="10 - 5*e = -10", variable="e"),
            "Move 10 to the right: -5*e = -10 - 10 = -20. Divide -20 by -5: e = 4. The answer is 4.",
        ),
        (
            example("word_sequence_reversal", "go, hundred", words=["hundred", "go"]),
            "Start at the end of the list with go, then comes hundred. The answer is go, hundred.",
        ),
        (
            example("spell_backward", "nus", word="sun"),
            "First spell the word forward: s, u, n. Then backward: n, u, s. The answer is nus.",
        ),
    ],
)
def test_steps(given: Example, steps: str) -> None:
    assert styles.verbose(given) == steps


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("z + 8 = 19", (1, 8, 19)),
        ("10 - 5*e = -10", (-5, 10, -10)),
        ("6 - o = -4", (-1, 6, -4)),
        ("22*k = 44", (22, 0, 44)),
        ("3*l - 7 = 2", (3, -7, 2)),
    ],
)
def test_linear_equations_are_read(equation: str, expected: tuple[int, int, int]) -> None:
    unknown = next(letter for letter in equation if letter.isalpha())
    assert styles.linear(equation, unknown) == expected


@pytest.mark.parametrize("task", tasks.TASKS)
def test_the_answer_can_be_read_from_every_wording(task: str) -> None:
    for given in tasks.read(task, 50, 4_000_000):
        for style in ("bare", "short", "verbose"):
            assert styles.extract(styles.write(style, given)) == given.answer  # type: ignore[arg-type]


def test_the_same_question_in_other_clothes_has_the_same_core() -> None:
    def same(task: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return tasks.core(example(task, "", **one)) == tasks.core(example(task, "", **other))

    assert same("gcd", {"numbers": [4, 6]}, {"numbers": [6, 4]})
    assert same("chain_sum", {"expression": "12 + 34"}, {"expression": "34 + 12"})
    assert not same("chain_sum", {"expression": "12 - 34"}, {"expression": "34 - 12"})
    assert same(
        "simple_equations", {"equation": "3*a = 6", "variable": "a"}, {"equation": "3*b = 6", "variable": "b"}
    )


@pytest.mark.parametrize("task", tasks.TASKS)
def test_demo_development_and_measurement_are_apart_and_never_trained_on(task: str) -> None:
    measured = {tasks.core(e) for e in tasks.measurement(task)}
    developed = {tasks.core(e) for e in tasks.development(task)}
    assert len(measured) == len(developed) == tasks.HELD_OUT
    assert not measured & developed
    assert not (measured | developed) & tasks.demo_cores()
    trained = {tasks.core(e) for e in tasks.training(task, 3000)}
    assert not trained & (measured | developed | tasks.demo_cores())


def test_the_demo_runs_on_the_sources_that_training_excludes() -> None:
    demo = Path(resolve.__file__).parent / "demo.yaml"
    assert yaml.safe_load(demo.read_text(encoding="utf-8"))["prompts"] == tasks.sources()
