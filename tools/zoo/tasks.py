"""The procedural tasks of the zoo: what is asked, in which sizes, and what training must never see.

Every task comes from `reasoning_gym`, with options small enough for models of a few hundred thousand
weights. A question is used exactly as `reasoning_gym` writes it. Note that `reasoning_gym` seeds item i
of a dataset with `seed + i`: two datasets overlap when their seeds are closer than their sizes.

Three sets of questions are kept out of training: those of the demo (`sources`), on which nothing was
chosen or measured while the zoo was built; those on which settings were chosen (`development`); and
those on which the cards were measured (`measurement`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import reasoning_gym

TASKS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "spell_backward": {"min_word_len": 3, "max_word_len": 8},
        "simple_equations": {"min_terms": 2, "max_terms": 2, "min_value": 1, "max_value": 10},
        "word_sequence_reversal": {"min_words": 2, "max_words": 4},
        "gcd": {"min_value": 1, "max_value": 60},
        "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2},
    }
)
"""Task name -> options of `reasoning_gym.create_dataset`."""

DEMO_SIZE = 190
"""Questions of each task in the demo, before duplicates are dropped."""

HELD_OUT = 200
"""Questions of each task in `development` and in `measurement`."""

TRAINING, DEVELOPMENT, MEASUREMENT, DEMO = 10_000_000, 50_000_000, 60_000_000, 80_000_000
"""Where the seeds of each purpose begin; task number k uses the next k millions."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its true answer and the parts it was made of."""

    task: str
    question: str
    answer: str
    parts: Mapping[str, Any]
    """`metadata` of the `reasoning_gym` entry."""


def sources() -> list[dict[str, Any]]:
    """The `prompts:` section of `examples/zoo.yaml`, as plain data."""
    return [
        {
            "source": "reasoning_gym",
            "task": task,
            "size": DEMO_SIZE,
            "seed": seed(DEMO, task),
            "options": dict(options),
        }
        for task, options in TASKS.items()
    ]


def seed(purpose: int, task: str) -> int:
    """First seed of a task for one of the purposes above."""
    return purpose + 1_000_000 * (1 + list(TASKS).index(task))


def read(task: str, size: int, first_seed: int) -> Iterator[Example]:
    """`size` examples of one task, in order, repeats included."""
    dataset = reasoning_gym.create_dataset(task, size=size, seed=first_seed, **TASKS[task])
    for entry in dataset:
        yield Example(task, entry["question"], entry["answer"], entry["metadata"])


def core(example: Example) -> str:
    """What makes a question the same question: operand order and the name of the unknown do not count."""
    parts = example.parts
    match example.task:
        case "gcd":
            return f"gcd {sorted(parts['numbers'])}"
        case "chain_sum":
            left, sign, right = parts["expression"].split()
            return f"sum {sorted((left, right))}" if sign == "+" else f"difference {left} {right}"
        case "simple_equations":
            return f"equation {parts['equation'].replace(parts['variable'], 'x')}"
        case "spell_backward":
            return f"spell {parts['word'].lower()}"
        case _:
            return f"{example.task} {example.question}"


@cache
def demo_cores() -> frozenset[str]:
    """Cores of every question that the sources of the demo yield."""
    return frozenset(core(example) for task in TASKS for example in read(task, DEMO_SIZE, seed(DEMO, task)))


@cache
def development(task: str) -> tuple[Example, ...]:
    """`HELD_OUT` distinct questions on which settings are chosen; none is in the demo."""
    return fresh(task, HELD_OUT, seed(DEVELOPMENT, task), demo_cores())


@cache
def measurement(task: str) -> tuple[Example, ...]:
    """`HELD_OUT` distinct questions for the cards; none is in the demo or in `development`."""
    return fresh(task, HELD_OUT, seed(MEASUREMENT, task), demo_cores() | {core(e) for e in development(task)})


@cache
def excluded(task: str) -> frozenset[str]:
    """Cores that no model of the zoo was trained on."""
    return demo_cores() | {core(example) for example in (*development(task), *measurement(task))}


def training(task: str, size: int) -> list[Example]:
    """The first `size` training questions, repeats included, less those with an excluded core."""
    out = excluded(task)
    return [example for example in read(task, size, seed(TRAINING, task)) if core(example) not in out]


def fresh(task: str, count: int, first_seed: int, unwanted: frozenset[str]) -> tuple[Example, ...]:
    """`count` examples with distinct cores, none of them unwanted.

    Raises:
        ValueError: the task does not yield that many.
    """
    seen = set(unwanted)
    found: list[Example] = []
    for example in read(task, 100 * count, first_seed):
        key = core(example)
        if key not in seen:
            seen.add(key)
            found.append(example)
            if len(found) == count:
                return tuple(found)
    raise ValueError(f"{task} yields only {len(found)} new questions of {count}")
