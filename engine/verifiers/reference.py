"""References as data sets have them: an answer alone, or a worked solution with the answer marked in it."""

import re
from collections.abc import Mapping
from typing import Any, Final

from engine.base.errors import ConfigError
from engine.verifiers.answer_extraction import find_marked, undecorated

_MARK: Final = re.compile(r"####|\\(?:boxed|fbox|framebox)\s*\{|<answer>", re.IGNORECASE)
_EMPTY: Final = re.compile(r"####|\\(?:boxed|fbox|framebox)\s*\{\s*\}|</?answer>", re.IGNORECASE)


def marked_reference(answer: str, at: str) -> Mapping[str, Any]:
    """`answer`, what a worked solution marks as its result: by `####` as GSM8K, in a box as MATH; empty without a mark.

    Args:
        answer: the reference.
        at: file and line, for errors.

    Raises:
        ConfigError: nothing is left of it without its marks.
    """
    if not undecorated(_EMPTY.sub("", answer)):
        raise unmatchable(answer, at)
    marked = find_marked(answer) if _MARK.search(answer) else None
    return {} if marked is None else {"answer": undecorated(marked)}


def unmatchable(answer: str, at: str) -> ConfigError:
    """What is raised for a reference that no response could match."""
    return ConfigError(
        f"prompts: {at}: the reference answer {answer[:80]!r} holds nothing to compare with",
        "correct the answer, or take the row out",
    )
