"""The strongest teacher answers everything."""

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
    """Every prompt to the teacher with the most parameters, or the best mean quality when not all are known."""
    order, why = by_strength(evidence, range(len(evidence.names)))
    return one_teacher(order[0], count, f"strong: {evidence.names[order[0]]} has {why}")


def loads(evidence: Evidence, count: float) -> list[Load]:
    """All prompts to one teacher; to any of them when size does not decide."""
    return strongest_loads(evidence, count, range(len(evidence.names)))


STRATEGY = Strategy(
    about="The strongest teacher answers everything",
    assign=assign,
    loads=loads,
    calibration="without sizes",
    place=1,
)
