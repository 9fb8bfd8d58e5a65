"""What verifiers have in common: a reference that cannot be used, and when two words are the same."""

import math
import unicodedata
from typing import Any, NamedTuple

FULL_SCORE = 1.0 - 1e-9
"""A score from which on a response is right."""
SHOWN = 200
"""Characters of a text that messages show."""


class Verdict(NamedTuple):
    """What a verifier finds; one of another package may give a tuple of the first two."""

    score: float
    """Right is a score of 1."""
    extracted: str
    """The answer that was read."""
    why: str = ""
    """Where it was read, in words."""


class UnverifiableError(Exception):
    """The verifier itself cannot be used: the response is neither right nor wrong."""


def needed(reference: Any) -> str:
    """The reference answer as text.

    Raises:
        UnverifiableError: there is none.
    """
    if reference is None:
        raise UnverifiableError("the prompt has no reference answer")
    return str(reference)


def normal(text: str) -> str:
    """The text without letter case, kinds of whitespace and differences of Unicode forms."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def is_number(value: Any) -> bool:
    """Whether it reads as a finite number, thousands separators allowed."""
    try:
        return math.isfinite(float(str(value).replace(",", "")))
    except ValueError:
        return False
