"""Teachers that gave no usable response to more than half of the prompts that they were asked about.

A run goes on without them, and can end well; so they are named at its end, in its report and in the app.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.job.context import RunContext
from storage import responses


@dataclass(frozen=True, slots=True)
class FailingTeacher:
    """One of them."""

    name: str
    asked: int
    """Prompts to which it has a response of any status."""
    unusable: Mapping[str, int]
    """Status → how many of these are not `ok`."""
    last: str
    """What its newest error was; empty without one."""

    def __str__(self) -> str:
        """One line."""
        count = sum(self.unusable.values())
        statuses = ", ".join(f"{number:,} {status}" for status, number in self.unusable.items())
        said = f"; the last error: {self.last}" if self.last else ""
        return f"teacher `{self.name}` has no usable response to {count:,} of {self.asked:,} prompts ({statuses}){said}"


def fails(counts: Mapping[str, int]) -> bool:
    """Whether more than half of the responses, counted by status, cannot be used."""
    return 2 * counts.get("ok", 0) < sum(counts.values())


def find(context: RunContext) -> tuple[FailingTeacher, ...]:
    """A run's failing teachers, in its order."""
    counts: dict[int, dict[str, int]] = {}
    for row in responses.counts(context.store, context.generations, context.prompt_set):
        counts.setdefault(row.teacher_id, {})[row.status] = row.count
    found = []
    for teacher, generation in zip(context.teachers, context.generations, strict=True):
        given = counts.get(generation.teacher_id, {})
        if fails(given):
            unusable = {status: count for status, count in given.items() if status != "ok"}
            last = responses.last_error(context.store, generation) if "error" in given else ""
            found.append(FailingTeacher(teacher.name, sum(given.values()), unusable, last))
    return tuple(found)
