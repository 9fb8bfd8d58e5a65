"""Mathematical equality with the reference answer, by math-verify."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from engine.config.kinds import VerifierKind
from engine.verifiers.answer_extraction import find_marked, undecorated
from engine.verifiers.comparison import SHOWN, UnverifiableError, needed
from engine.verifiers.kinds import text as same_words
from engine.verifiers.reference import marked_reference, unmatchable

_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{([^{}]*)\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_FUNCTION = re.compile(
    "(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|exp|det|dim|ker|deg|max|min|sup|inf|lim|mod|gcd|lcm|sqrt|abs|sign|"
    "floor|ceil|infty|infinity|alpha|beta|gamma|delta|theta|lambda|sigma|omega|phi",
    re.IGNORECASE,
)


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Mathematical equality of the marked answer, or of what math-verify finds in the text.

    A reference in words ("east", "wodniw") is compared as `text`: as a product of letters it would equal every
    anagram of itself, and an answer that is a bare word would equal nothing.
    """
    gold = needed(reference)
    words = _TEXT_COMMAND.sub(r"\1", gold)
    if in_words(words):
        return same_words.verify(verifier, words, _TEXT_COMMAND.sub(r"\1", text))
    marked = find_marked(text)
    extracted = undecorated(marked) if marked is not None else text[-2000:]
    if undecorated(extracted) == undecorated(gold):
        return 1.0, extracted
    return float(_equal(gold, extracted, whole=marked is not None)), extracted


def in_words(reference: str) -> bool:
    """Whether a reference is words rather than mathematics: no digit, and a word that names no function."""
    plain = _COMMAND.sub(" ", reference)
    return not any(map(str.isdigit, plain)) and any(
        not _FUNCTION.fullmatch(word) for word in _WORD.findall(plain)
    )


def _equal(gold: str, answer: str, *, whole: bool = True) -> bool:
    # Here, because math-verify takes a second and only the worker process compares.
    from math_verify import parse, verify

    # Its own time limits use signals, which this worker's hard limit replaces.
    expected = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not expected:
        raise UnverifiableError(f"math-verify cannot read the reference answer {gold[:SHOWN]!r}")
    found = parse(f"\\boxed{{{answer}}}" if whole else answer, parsing_timeout=None)
    return bool(verify(expected, found, timeout_seconds=None))


def _stored(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    if not any(sign.isalnum() or sign in "∞∅" for sign in answer):
        raise unmatchable(answer, at)
    return marked_reference(answer, at)


KIND = VerifierKind(verify=verify, stored=_stored, prepare=partial(_equal, "1", "1"))
