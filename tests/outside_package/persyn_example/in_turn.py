"""A strategy that lets teachers answer in turn: `strategies: [in_turn]`, `turn_length: 3`."""

import numpy as np

from engine.methods.strategy import Assignment, Evidence, Setting, Strategy

LENGTH = Setting(
    "turn_length",
    default=1.0,
    about="Prompts that a teacher answers before it is the next one's turn.",
    low=1.0,
)


def assign(evidence: Evidence, count: int) -> Assignment:
    """Prompt i to teacher (i // length) mod M."""
    length = int(LENGTH.of(evidence))
    choices = np.arange(count, dtype=np.int64) // length % len(evidence.names)
    return Assignment(choices, None, f"in_turn: {length} prompts each, in the run file's order")


STRATEGY = Strategy(about="Teachers answer in turn", assign=assign, settings=(LENGTH,), calibration="never")
