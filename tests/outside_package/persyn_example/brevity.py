"""A scorer that likes short responses: 1 for an empty one, ½ at `words` words.

quality: {scorers: [{scorer: exact_answer}, {scorer: brevity, words: 50, weight: 0.2}]}
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from engine.config.kinds import ScorerKind
from engine.config.section import Section
from engine.scorers.scorer_kinds import ShouldStop, checked, never
from storage.records import Prompt, Score


class Settings(Section):
    """The run file's keys of this scorer."""

    words: int = Field(50, ge=1)
    """At this length a response scores ½."""


KIND = ScorerKind(settings=Settings)


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that shapes a score, as JSON."""
    return {"kind": "brevity", "words": checked("brevity", Settings, settings).words}


def create(settings: Mapping[str, Any]) -> "Brevity":
    """The scorer."""
    return Brevity(checked("brevity", Settings, settings).words)


class Brevity:
    """value = words / (words + length), count = length."""

    def __init__(self, words: int) -> None:
        self._words = words

    def scores(
        self, items: Sequence[tuple[Prompt, str]], should_stop: ShouldStop = never
    ) -> Iterator[tuple[int, Score]]:
        """(place, score) of each response, in order."""
        for place, (_, text) in enumerate(items):
            length = len(text.split())
            yield place, Score(self._words / (self._words + length), count=length)

    def close(self) -> None:
        """Nothing stays open."""
