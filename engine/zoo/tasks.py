"""The procedural tasks of the zoo: what is asked, in which sizes, and what training must never see.

Every task comes from `reasoning_gym`, with options small enough for models of a few hundred thousand
weights. A question is used exactly as `reasoning_gym` writes it. Note that `reasoning_gym` seeds item i
of a dataset with `seed + i`: two datasets overlap when their seeds are closer than their sizes.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import reasoning_gym

TASKS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "spell_backward": {"min_word_len": 3, "max_word_len": 8},
        "simple_equations": {"min_terms": 2, "max_terms": 2, "min_value": 1, "max_value": 15},
        "word_sequence_reversal": {"min_words": 2, "max_words": 4},
        "gcd": {"min_value": 1, "max_value": 40},
        "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2},
    }
)
"""Task name -> options of `reasoning_gym.create_dataset`."""

DEMO_SIZE = 190
DEMO_SEEDS: Mapping[str, int] = MappingProxyType(
    {
        "spell_backward": 71_000_000,
        "simple_equations": 72_000_000,
        "word_sequence_reversal": 73_000_000,
        "gcd": 74_000_000,
        "chain_sum": 75_000_000,
    }
)
"""Seeds of the sources in `examples/zoo.yaml`. Training excludes what they yield; nothing that was
measured or chosen while the zoo was built used them."""

TRAIN_SEED = 1_000_000
DEV_SEED = 50_000_000
"""Start of the seeds used to choose settings and to write the cards."""


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
        {"source": "reasoning_gym", "task": task, "size": DEMO_SIZE, "seed": DEMO_SEEDS[task],
         "options": dict(options)}
        for task, options in TASKS.items()
    ]


def read(task: str, size: int, seed: int) -> Iterator[Example]:
    """`size` examples of one task, in order, repeats included."""
    dataset = reasoning_gym.create_dataset(task, size=size, seed=seed, **TASKS[task])
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


def demo_cores() -> frozenset[str]:
    """Cores of every question that the sources of the demo yield."""
    return frozenset(
        core(example) for task in TASKS for example in read(task, DEMO_SIZE, DEMO_SEEDS[task])
    )


def training_pool(task: str, size: int, excluded: frozenset[str]) -> list[Example]:
    """About `size` examples to train on, repeats included, none with an excluded core."""
    offset = TRAIN_SEED * (1 + list(TASKS).index(task))
    return [example for example in read(task, size, offset) if core(example) not in excluded]


def fresh(task: str, count: int, seed: int, excluded: frozenset[str] = frozenset()) -> list[Example]:
    """`count` examples with distinct cores outside `excluded`, shuffled by `seed`.

    Raises:
        ValueError: the task cannot yield that many.
    """
    seen = set(excluded)
    found: list[Example] = []
    for example in read(task, 40 * count, seed):
        key = core(example)
        if key not in seen:
            seen.add(key)
            found.append(example)
        if len(found) == count:
            break
    if len(found) < count:
        raise ValueError(f"{task} yields only {len(found)} distinct questions of {count}")
    random.Random(seed).shuffle(found)
    return found
