"""The interface of a scorer's kind: a module that gives every response one `Score`.

A kind is the name of its file in `engine.scorers.kinds`, or of an entry point `persyn.scorers` of another package.
Its module offers

- `KIND`: what it is and can do, an `engine.config.kinds.ScorerKind`;
- `identity(settings) -> dict`: everything that shapes its scores, as JSON, without loading a model;
- `create(settings) -> Scorer`: the scorer, ready to work.

Listing kinds imports nothing; using one imports exactly that one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from engine.base.plugins import SCORERS
from engine.config import section
from engine.config.kinds import ScorerKind, scorer_kind
from engine.config.section import Section
from engine.teachers.cost import Budget
from engine.teachers.traffic import Traffic
from storage.records import Prompt, Response, Score

_Settings = TypeVar("_Settings", bound=Section)

ShouldStop = Callable[[], bool]
"""Asked as often as a scorer can stop."""


def never() -> bool:
    """What asks for no stop."""
    return False


class Scorer(Protocol):
    """Something that scores responses."""

    def scores(
        self, items: Sequence[tuple[Prompt, str]], should_stop: ShouldStop = never
    ) -> Iterator[tuple[int, Score]]:
        """(place in `items`, score) of each item once, in any order, each as soon as it is known.

        What was given stays valid whatever comes after it. So a caller stores, shows and stops between any two.

        Args:
            items: prompts with the text of one response each. Only those whose status is `ok` belong here: a
                truncated or failed one says nothing.
            should_stop: asked inside what takes long, such as a forward pass of a large model.

        Raises:
            ScoreError: NaN, infinity, or the scorer itself is broken.
            Cancelled: `should_stop` said so.
        """
        ...

    def close(self) -> None:
        """Free models and end processes. Closing twice is allowed."""
        ...


@runtime_checkable
class Batching(Scorer, Protocol):
    """A scorer with a model of its own: it has as much to do as fills its forward passes."""

    @property
    def pass_tokens(self) -> int:
        """Tokens that one forward pass holds, padding included."""
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
        """What was paid for as it comes, and (place in `items`, score) once all is there; fewer after `close`.

        Args:
            items: as in `scores`.
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

    KIND: ScorerKind
    """What it is and can do."""

    def identity(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that shapes the scores, as JSON, without loading a model.

        Raises:
            ConfigError: a setting is wrong, or what it names is not there.
            ModelError: the model cannot be used.
        """
        ...

    def create(self, settings: Mapping[str, Any]) -> Scorer:
        """The scorer, ready to work. Raises as `identity` does."""
        ...


def load(kind: str) -> ScorerModule:
    """The module of one kind.

    Raises:
        ConfigError: an unknown kind, with the nearest known one.
    """
    return cast(ScorerModule, SCORERS.load(kind))


def identity(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that shapes the scores of this kind with these settings, as JSON."""
    return load(kind).identity(settings)


def score_all(scorer: Scorer, items: Sequence[tuple[Prompt, str]]) -> list[Score]:
    """One score per item, in the items' order; raises as `Scorer.scores` does."""
    found = dict(scorer.scores(items))
    return [found[place] for place in range(len(items))]


def costs(kind: str) -> bool:
    """Whether scores of this kind may cost dollars; each says in `detail` how many, as `cost`."""
    return scorer_kind(kind).costs


def compares(kind: str, settings: Mapping[str, Any]) -> bool:
    """Whether a response's score depends on the other responses to its prompt."""
    return scorer_kind(kind).compares(settings)


def checked(kind: str, settings: type[_Settings], given: Mapping[str, Any]) -> _Settings:
    """What a scorer is made with, as the settings of its kind.

    Raises:
        ConfigError: an unknown setting, with the nearest known one, or a wrong one.
    """
    return section.checked(settings, given, f"scorer {kind!r}", "setting", "mend `quality`")
