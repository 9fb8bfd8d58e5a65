"""Quality that came with imported responses: the number beside each answer, as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.config.kinds import ScorerKind
from engine.config.paths import RunFolder
from engine.config.section import Section
from engine.config.sources import ImportedSource
from engine.scorers.scorer_kinds import Progress, checked
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

    def score(self, items: Sequence[tuple[Prompt, str]], progress: Progress | None = None) -> list[Score]:
        """One score per response, in order; see `engine.scorers.scorer_kinds.Scorer`."""
        if not items:
            return []
        if self._rewards is None:
            self._rewards = {}
            for source in self._sources:
                for answer in imported.answers(source):
                    if answer.reward is not None:
                        key = imported.answer_key(answer.prompt, answer.text)
                        self._rewards.setdefault(key, answer.reward)
        found = [self._rewards.get(imported.answer_key(prompt, text)) for prompt, text in items]
        if progress is not None:
            progress(len(items), len(items))
        return [
            Score(value=None, status="unverifiable", detail={"reason": "no reward came with this answer"})
            if value is None
            else Score(value=value)
            for value in found
        ]

    def close(self) -> None:
        """Forget the rewards."""
        self._rewards = None


def _sources(settings: Mapping[str, Any]) -> list[ImportedSource]:
    checked("imported", Settings, settings)
    return imported.named(settings, "scorer 'imported'")
