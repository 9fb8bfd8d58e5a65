"""One teacher by compatibility-adjusted reward (Xu et al. 2024, arXiv 2411.07133)."""

import numpy as np

from engine.base.errors import ConfigError
from engine.methods.strategy import Assignment, Evidence, Load, Setting, Strategy, one_teacher, only

BETA = Setting(
    "car_beta",
    default=3.0,
    about="β of the strategy `car` (Xu et al. 2024): weight of the student's loss.",
    hashed_as="beta",
)


def assign(evidence: Evidence, count: int) -> Assignment:
    """Every prompt to the teacher of the highest quality / (1 + β · the student's loss on its responses).

    A reward model may give negative means, which the quotient would order the wrong way round (a larger loss
    would raise the value): then all are shifted so that the lowest becomes 1, and the note says so.
    """
    if evidence.mean_quality is None or evidence.mean_loss is None:
        raise ConfigError(
            "the strategy `car` needs every teacher's mean quality and the student's mean loss",
            "calibrate and score first",
        )
    beta = BETA.of(evidence)
    known = ~(np.isnan(evidence.mean_quality) | np.isnan(evidence.mean_loss))
    if not known.any():
        raise ConfigError(
            "no teacher has a scored answer, so `car` cannot choose", "check the calibration answers"
        )
    quality = evidence.mean_quality
    lowest = float(np.min(quality[known]))
    shift = 1.0 - lowest if lowest < 0 else 0.0
    value = np.where(known, (quality + shift) / (1 + beta * evidence.mean_loss), -np.inf)
    best = int(value.argmax())
    note = f"car: {evidence.names[best]} has the best quality / (1 + {beta:g} · loss) = {value[best]:.4g}"
    if shift:
        note += f"; qualities were shifted by {shift:.4g}, because {lowest:.4g} is negative"
    if not known.all():
        left = ", ".join(name for name, is_known in zip(evidence.names, known, strict=True) if not is_known)
        note += f"; without a scored answer: {left}"
    return one_teacher(best, count, note)


def loads(evidence: Evidence, count: float) -> list[Load]:
    """All prompts to one teacher, which calibration has yet to choose."""
    return [only(i, evidence, count) for i in range(len(evidence.names))]


STRATEGY = Strategy(
    about="One teacher answers everything: the best of quality / (1 + β · the student's loss on its answers)",
    assign=assign,
    loads=loads,
    settings=(BETA,),
    place=4,
)
