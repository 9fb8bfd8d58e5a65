"""Quality 0 or 1: whether the final answer is right, for prompts that carry a verifier.

The verifiers, a file each in `engine.verifiers.kinds`, run in one worker process with a hard time limit; see
`engine.scorers.verify_process`.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import Field

from engine.config.kinds import ScorerKind
from engine.config.section import Section
from engine.scorers.scorer_kinds import ShouldStop, checked, never
from engine.scorers.verify_process import Worker
from storage.records import Prompt, Score

VERSION = 3
"""Part of every score's hash: raised when a changed rule is worth all scores, and all that follows from them, anew."""


class Settings(Section):
    """The run file's keys of this scorer."""

    timeout_s: int | float = Field(10.0, gt=0)
    """Seconds that one response may take. An int stays one: the stored hash of 3 is not that of 3.0."""


KIND = ScorerKind(settings=Settings, verifies=True)


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that shapes a score, as JSON: the rules' version, the time limit, the judging libraries."""
    chosen = checked("exact_answer", Settings, settings)
    return {
        "kind": "exact_answer",
        "version": VERSION,
        "timeout_s": chosen.timeout_s,
        "libraries": {name: version(name) for name in ("math-verify", "reasoning-gym")},
    }


def create(settings: Mapping[str, Any]) -> "ExactAnswer":
    """The scorer; its worker starts with the first answer."""
    return ExactAnswer(checked("exact_answer", Settings, settings).timeout_s)


class ExactAnswer:
    """Scorer of kind `exact_answer`: value 1.0 for a right answer, 0.0 for a wrong one.

    A score without a value has status `unverifiable` (no verifier, or one that cannot be used), `timeout`,
    or `error`, with the reason in `detail`.
    """

    def __init__(self, timeout_s: float) -> None:
        self._worker = Worker(timeout_s)

    def scores(
        self, items: Sequence[tuple[Prompt, str]], should_stop: ShouldStop = never
    ) -> Iterator[tuple[int, Score]]:
        """(place, score) of each response, in order; see `engine.scorers.scorer_kinds.Scorer`."""
        for place, (prompt, text) in enumerate(items):
            yield place, self._one(prompt, text)

    def _one(self, prompt: Prompt, text: str) -> Score:
        if prompt.verifier is None:
            reason = {"reason": "the prompt has no verifier"}
            return Score(value=None, status="unverifiable", detail=reason)
        outcome = self._worker.judge(prompt.verifier, prompt.answer, text)
        return Score(value=outcome["value"], status=outcome["status"], detail=outcome["detail"])

    def close(self) -> None:
        """End the worker. Closing twice is allowed."""
        self._worker.close()
