"""Which prompts of a run several teachers answer, so that rewards are known there. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.config.run_file import Run
from engine.methods import strategy_kinds
from storage.records import Split

CALIBRATED: tuple[Split, ...] = ("calibration", "validation")
"""Answered by every teacher."""
TRAINED: tuple[Split, ...] = ("calibration", "validation", "synthesis")
"""Every strategy gives each of these prompts one row of training data."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the strategies of a run ask of several teachers."""

    run: Run

    @property
    def teachers_per_prompt(self) -> int | None:
        """k, of a calibration that asks k teachers for each prompt; None when it asks all."""
        k = self.run.calibration.teachers_per_prompt
        return None if k == len(self.run.teachers) else k

    @property
    def needed(self) -> bool:
        """Whether any strategy needs all teachers' responses to the calibration prompts."""
        return self.full or any(map(self.needed_by, self.run.strategies))

    def needed_by(self, strategy: str) -> bool:
        """Whether this strategy needs all teachers' responses to the calibration prompts."""
        return strategy_kinds.needs_calibration(
            strategy, [teacher.parameters for teacher in self.run.teachers]
        )

    @property
    def full(self) -> bool:
        """Whether any strategy needs all teachers' responses to all prompts."""
        return any(strategy_kinds.load(name).needs_full_parallel for name in self.run.strategies)

    @property
    def answered_by_all(self) -> tuple[Split, ...]:
        """The splits that every teacher answers; none where a stored design says who answers what."""
        if self.full:
            return TRAINED
        return CALIBRATED if self.needed and self.teachers_per_prompt is None else ()

    @property
    def labelled(self) -> tuple[Split, ...]:
        """The splits whose prompts several teachers answer, so that rewards are defined there."""
        return TRAINED if self.full else CALIBRATED

    def responses(self, counts: Mapping[str, int]) -> int:
        """Responses that labels are made of, from prompts per split: C·M, or fewer by design."""
        teachers = len(self.run.teachers)
        k = self.teachers_per_prompt or teachers
        return counts.get("calibration", 0) * k + counts.get("validation", 0) * teachers
