"""Scorers: one file per kind, each giving every answer one `Score`.

A kind is the file's name. Its module offers

- `DEFAULTS`: its settings with their defaults;
- `identity(settings) -> dict`: everything that shapes its verdicts, as JSON, without loading a model;
- `create(settings) -> Scorer`: the scorer, ready to work.

Listing kinds imports nothing; using one imports exactly that one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from engine.base.errors import ConfigError
from engine.base.suggest import nearest
from engine.teachers.cost import Budget
from engine.teachers.teacher_kinds import Traffic
from storage.records import Prompt, Response, Score

Progress = Callable[[int, int], None]
"""Called with (answers finished, answers in all) now and then."""


class Scorer(Protocol):
    """Something that judges answers."""

    def score(self, items: Sequence[tuple[Prompt, str]], progress: Progress | None = None) -> list[Score]:
        """One verdict per item, in the items' order.

        Args:
            items: prompts with the text of one answer each. Only answers whose status is `ok` belong here:
                a truncated or failed one is not an answer.
            progress: see `Progress`.

        Raises:
            ScoreError: NaN, infinity, or the scorer itself is broken; no verdict of the call is valid then.
        """
        ...

    def close(self) -> None:
        """Free models and end processes. Closing twice is allowed."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an endpoint has said to one question about one item, or about two."""

    first: int
    """Place of the item that is judged, or shown first."""
    second: int | None
    """Place of the one shown second."""
    completion: Response
    cost: float
    """Dollars."""


@runtime_checkable
class Asking(Scorer, Protocol):
    """A scorer that asks an endpoint: its verdicts take time and cost dollars, so each is given back when it is there.

    `close` ends it from any thread.
    """

    def verdicts(
        self,
        items: Sequence[tuple[Prompt, str]],
        budget: Budget,
        known: Sequence[Verdict] = (),
        *,
        proven: bool = False,
    ) -> "Iterator[Verdict | tuple[int, Score]]":
        """What was paid for as it comes, and (place in `items`, verdict) once all is there; fewer after `close`.

        Args:
            items: as in `score`.
            budget: what is paid from.
            known: replies to the same items that were given before; they are not asked for again.
            proven: whether the endpoint has judged other answers before, so that a few failures are not its fault.

        Raises:
            EndpointError: nothing can be asked any more.
            BudgetSpent: the budget holds a request back.
        """
        ...

    def traffic(self) -> Traffic:
        """Where its requests are."""
        ...

    def drain(self) -> None:
        """Asks nothing more: `verdicts` ends once what is in flight has come. From any thread."""
        ...


class ScorerModule(Protocol):
    """What a scorer's file must offer."""

    DEFAULTS: Mapping[str, Any]
    """Its settings with their defaults."""

    def identity(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that shapes the verdicts, as JSON."""
        ...

    def create(self, settings: Mapping[str, Any]) -> Scorer:
        """The scorer."""
        ...


def kinds() -> list[str]:
    """Names of the scorers there are, sorted; nothing is imported."""
    return sorted(
        path.stem for path in (Path(__file__).parent / "kinds").glob("*.py") if not path.stem.startswith("_")
    )


def load(kind: str) -> ScorerModule:
    """The module of one kind.

    Raises:
        ConfigError: an unknown kind, with the nearest known one.
    """
    known = kinds()
    if kind not in known:
        near = nearest(kind, known)
        raise ConfigError(
            f"unknown scorer {kind!r}",
            f"did you mean {near!r}?" if near else f"use one of {', '.join(known)}",
        )
    return cast(ScorerModule, import_module(f"{__package__}.kinds.{kind}"))


def identity(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that shapes the verdicts of this kind with these settings, as JSON."""
    return load(kind).identity(settings)


def costs(kind: str) -> bool:
    """Whether verdicts of this kind may cost dollars; each says in `detail` how many, as `cost`."""
    return kind == "judge"


def reads(kind: str) -> bool:
    """Whether a scorer of this kind reads an answer as a person would, so that reasoning may be shown to it."""
    return kind in ("judge", "reward_model")


def compares(kind: str, settings: Mapping[str, Any]) -> bool:
    """Whether an answer's score depends on the other answers to its prompt."""
    return kind == "judge" and settings.get("mode") == "pairs"


def check_settings(kind: str, settings: Mapping[str, Any], known: Sequence[str]) -> None:
    """Nothing when every key is known; raises ConfigError with the nearest known one otherwise."""
    for key in settings:
        if key not in known:
            near = nearest(str(key), known)
            raise ConfigError(
                f"scorer {kind!r} has no setting {key!r}",
                f"did you mean {near!r}?" if near else f"use one of {', '.join(known)}",
            )
