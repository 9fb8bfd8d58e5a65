"""Quality that came with imported responses: the number beside each answer, as it is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.base.errors import Cancelled
from engine.config.kinds import ScorerKind
from engine.config.paths import RunFolder
from engine.config.section import Section
from engine.config.sources import ImportedSource
from engine.scorers.scorer_kinds import ShouldStop, checked, never
from engine.sources import imported
from storage.records import Prompt, Score

VERSION = 1
"""Raised when the same files would give other numbers."""


class Settings(Section):
    """The run file's keys of this scorer."""

    responses: tuple[ImportedSource, ...] = ()
    """Where the rewards are: the run's `imported` prompts, filled in when the run file is read."""


def _located(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    return {"responses": [source.model_dump(mode="json") for source in folder.imported]}


KIND = ScorerKind(settings=Settings, located=_located)

_READ = ("prompt", "messages", "response", "reward")
"""Columns that decide what a score is."""


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that shapes a score, as JSON: the files' hashes and the columns read."""
    return {
        "kind": "imported",
        "version": VERSION,
        "files": [
            [imported.hashes(source.path), {key: getattr(source.fields, key) for key in _READ}]
            for source in _sources(settings)
        ],
    }


def create(settings: Mapping[str, Any]) -> "ImportedRewards":
    """The scorer; the files are read when the first answer is scored."""
    return ImportedRewards(_sources(settings))


class ImportedRewards:
    """Scorer of kind `imported`: value = the file's number; `unverifiable` for an answer without one."""

    def __init__(self, sources: Sequence[ImportedSource]) -> None:
        self._sources = sources
        self._rewards: dict[bytes, float] | None = None

    def scores(
        self, items: Sequence[tuple[Prompt, str]], should_stop: ShouldStop = never
    ) -> Iterator[tuple[int, Score]]:
        """(place, score) of each response, in order; see `engine.scorers.scorer_kinds.Scorer`."""
        if items and self._rewards is None:
            self._rewards = self._read(should_stop)
        rewards = self._rewards or {}
        for place, (prompt, text) in enumerate(items):
            value = rewards.get(imported.answer_key(prompt, text))
            reason = {} if value is not None else {"reason": "no reward came with this answer"}
            yield place, Score(value, status="ok" if value is not None else "unverifiable", detail=reason)

    def _read(self, should_stop: ShouldStop) -> dict[bytes, float]:
        """Reward of each answer of the files, by its key; of equal answers the first."""
        rewards: dict[bytes, float] = {}
        for source in self._sources:
            for answer in imported.answers(source):
                if should_stop():
                    raise Cancelled("stopped while the imported rewards were read")
                if answer.reward is not None:
                    rewards.setdefault(imported.answer_key(answer.prompt, answer.text), answer.reward)
        return rewards

    def close(self) -> None:
        """Forget the rewards."""
        self._rewards = None


def _sources(settings: Mapping[str, Any]) -> list[ImportedSource]:
    checked("imported", Settings, settings)
    return imported.named(settings, "scorer 'imported'")
