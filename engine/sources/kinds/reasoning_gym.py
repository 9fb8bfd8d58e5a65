"""Prompts from reasoning-gym's procedural tasks, each with its own verifier."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from engine.base.errors import ConfigError
from engine.base.suggest import hint
from engine.config.kinds import SourceKind
from engine.config.section import Seed
from engine.config.sources import SourceConfig
from storage.records import Prompt


class ReasoningGymSource(SourceConfig):
    """Procedural tasks with their own verifier."""

    task: str
    """One of reasoning_gym's."""
    size: int = Field(ge=1, le=10**9)
    """Prompts of the task."""
    seed: Seed = 0
    """Of the task."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the task; they say how hard it is."""


def _prompts(source: ReasoningGymSource) -> Iterator[tuple[str, Prompt]]:
    """Yields (where, prompt) for `size` questions of a task; the entry goes into the verifier.

    Raises:
        ConfigError: no such task, or an option that the task does not have.
    """
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    task = source.task
    if task not in DATASETS:
        raise ConfigError(
            f"prompts: reasoning_gym has no task `{task}`{hint(task, DATASETS)}",
            "python -c 'from reasoning_gym.factory import DATASETS; print(*DATASETS)' lists them",
        )
    try:
        dataset = reasoning_gym.create_dataset(task, size=source.size, seed=source.seed, **source.options)
    except (TypeError, AssertionError, ValueError) as error:
        raise ConfigError(f"prompts: reasoning_gym:{task}: {error}", "check its `options`") from None
    for entry in _entries(dataset, task):
        question, answer = str(entry["question"]), entry["answer"]
        yield (
            f"reasoning_gym:{task}",
            Prompt(
                messages=({"role": "user", "content": question},),
                answer=None if answer is None else str(answer),
                verifier={"kind": "reasoning_gym", "task": task, "entry": _plain(entry)},
                source=f"reasoning_gym:{task}",
            ),
        )


def _entries(dataset: Any, task: str) -> Iterator[Any]:
    try:
        yield from dataset
    except Exception as error:  # tasks raise many kinds, each for options that leave nothing to ask
        raise ConfigError(
            f"prompts: reasoning_gym:{task}: {type(error).__name__}: {error}", "check its `options`"
        ) from None


def _plain(entry: Any) -> Any:
    """The entry as JSON can hold it, without what only describes how it was made."""
    if isinstance(entry, dict):
        return {str(key): _plain(value) for key, value in entry.items() if key != "difficulty"}
    if isinstance(entry, list | tuple | set | frozenset):
        return [_plain(value) for value in entry]
    if entry is None or isinstance(entry, str | int | float | bool):
        return entry
    return str(entry)


KIND = SourceKind(settings=ReasoningGymSource, prompts=_prompts, count=lambda source: source.size)
