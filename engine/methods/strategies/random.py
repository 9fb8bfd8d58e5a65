"""Each prompt goes to a teacher drawn at random."""

import numpy as np

from engine.methods.strategy import Assignment, Evidence, Strategy


def assign(evidence: Evidence, count: int) -> Assignment:
    """Teachers drawn evenly, by the run's seed."""
    choices = np.random.default_rng(evidence.seed).integers(len(evidence.names), size=count, dtype=np.int64)
    note = f"random: uniform over {len(evidence.names)} teachers, seed {evidence.seed}"
    return Assignment(choices, None, note)


STRATEGY = Strategy(
    about="Each prompt goes to a teacher drawn at random", assign=assign, calibration="never", place=5
)
