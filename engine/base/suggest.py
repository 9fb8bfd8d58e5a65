"""The nearest valid word for a mistyped one."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """The valid word closest to `word`, or None when none is close."""
    matches = get_close_matches(word, list(valid), n=1, cutoff=0.6)
    return matches[0] if matches else None


def hint(word: str, valid: Iterable[str]) -> str:
    """What a message about a mistyped word goes on with: "; did you mean `…`?", or nothing when none is close."""
    guess = nearest(word, valid)
    return f"; did you mean `{guess}`?" if guess else ""


def remedy(word: str, valid: Iterable[str]) -> str:
    """What to do about an unknown word: take the nearest valid one, or one of them all when none is close."""
    words = list(valid)
    guess = nearest(word, words)
    return f"did you mean {guess!r}?" if guess else f"use one of {', '.join(words)}"
