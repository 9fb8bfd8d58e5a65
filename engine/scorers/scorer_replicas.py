"""A scorer that has a copy on each of several devices."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.models import footprint
from engine.models.replicas import Replicas
from engine.scorers import scorer_kinds
from engine.scorers.scorer_kinds import Scorer, ShouldStop, never
from storage.records import Prompt, Score

Item = tuple[Prompt, str]


def create(kind: str, settings: Mapping[str, Any], devices: Sequence[str]) -> Scorer:
    """The scorer, ready to work: in this process, or in one of its own on each of several devices.

    Args:
        kind: of several devices one of which a score depends on no other response.
        settings: as `ScorerModule.create` takes them.
        devices: none for a kind without the setting `device`.

    Raises:
        PersynError: as `ScorerModule.create` does.
        NeedsAttention: a process ended.
    """
    if len(devices) > 1:
        return ScorerReplicas(kind, settings, devices)
    place = {"device": devices[0]} if devices else {}
    return scorer_kinds.load(kind).create({**settings, **place})


class ScorerReplicas:
    """A scorer of several processes; see `create`."""

    def __init__(self, kind: str, settings: Mapping[str, Any], devices: Sequence[str]) -> None:
        self._replicas: Replicas[Item, tuple[int, Score]] = Replicas(devices, _Load(kind, dict(settings)))

    def scores(self, items: Sequence[Item], should_stop: ShouldStop = never) -> Iterator[tuple[int, Score]]:
        """(place, score) of each response after its forward pass; see `engine.scorers.scorer_kinds.Scorer`.

        Raises:
            NeedsAttention: a process ended.
        """
        for places, (place, score) in self._replicas.run(items, _prompt, _characters, should_stop):
            yield places[place], score

    def close(self) -> None:
        """End the processes. Closing twice is allowed."""
        self._replicas.close()


@dataclass(frozen=True, slots=True)
class _Load:
    """Makes the scorer in a process."""

    kind: str
    settings: Mapping[str, Any]

    def __call__(self, device: str) -> "_Copy":
        return _Copy(scorer_kinds.load(self.kind).create({**self.settings, "device": device}))


class _Copy:
    """The scorer in a process."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.pass_tokens = (
            scorer.pass_tokens if isinstance(scorer, scorer_kinds.Batching) else footprint.CPU_TOKENS
        )

    def work(self, piece: Sequence[Item], should_stop: Callable[[], bool]) -> Iterator[tuple[int, Score]]:
        """(place in `piece`, score)."""
        return self._scorer.scores(piece, should_stop)


def _prompt(item: Item) -> int | str:
    """Responses to one prompt stay together: it is encoded once for them."""
    prompt, _ = item
    return json.dumps(prompt.messages) if prompt.id is None else prompt.id


def _characters(item: Item) -> int:
    prompt, text = item
    return len(str(prompt.messages)) + len(text)
