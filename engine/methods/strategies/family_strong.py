"""The strongest teacher of the student's own family answers everything."""

from engine.base.errors import ConfigError
from engine.methods.strategy import (
    Assignment,
    Evidence,
    Load,
    Strategy,
    by_strength,
    one_teacher,
    strongest_loads,
)


def assign(evidence: Evidence, count: int) -> Assignment:
    """Every prompt to the strongest teacher whose family is the student's, letter case aside."""
    order, why = by_strength(evidence, _members(evidence))
    name = evidence.names[order[0]]
    return one_teacher(order[0], count, f"family_strong: {name} has {why} in {evidence.student_family}")


def loads(evidence: Evidence, count: float) -> list[Load]:
    """All prompts to one teacher of the family; to any of them when size does not decide."""
    return strongest_loads(evidence, count, _members(evidence))


def _members(evidence: Evidence) -> list[int]:
    family = evidence.student_family.casefold()
    members = [i for i, other in enumerate(evidence.families) if family and other.casefold() == family]
    if not members:
        known = ", ".join(sorted({f for f in evidence.families if f})) or "none"
        raise ConfigError(
            f"`family_strong` needs a teacher of the student's family `{evidence.student_family or '(none)'}`; "
            f"the teachers' are: {known}",
            "set `family` of student and teachers to one name, or leave the strategy out",
        )
    return members


STRATEGY = Strategy(
    about="The strongest teacher of the student's own family answers everything",
    assign=assign,
    loads=loads,
    calibration="without sizes",
    place=3,
)
