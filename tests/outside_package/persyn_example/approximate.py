"""A verifier for measured quantities: the last number of the response is within 1 % of the reference."""

import math
from collections.abc import Mapping
from typing import Any

from engine.base.errors import ConfigError
from engine.config.kinds import VerifierKind
from engine.verifiers.answer_extraction import extract_final_answer
from engine.verifiers.comparison import needed

TOLERANCE = 0.01


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Whether the numbers are close."""
    extracted = extract_final_answer(text, numeric=True)
    try:
        given = float(extracted)
    except ValueError:
        return 0.0, extracted
    return float(math.isclose(given, float(needed(reference)), rel_tol=TOLERANCE)), extracted


def _stored(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    try:
        float(answer)
    except ValueError:
        raise ConfigError(f"prompts: {at}: {answer[:80]!r} is not a number", "mend the reference") from None
    return {}


KIND = VerifierKind(verify=verify, stored=_stored)
