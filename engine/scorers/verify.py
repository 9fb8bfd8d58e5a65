"""Judging one answer against its verifier: what runs inside the worker process of `exact_answer`."""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from engine.scorers.answer_extraction import MAX_CHARS, extract_final_answer, find_marked, undecorated

Outcome = dict[str, Any]
"""`value` (1.0, 0.0, or None), `status` (`ok` or `unverifiable`), `detail` (small JSON)."""

FULL_SCORE = 1.0 - 1e-9
_SHOWN = 200
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{([^{}]*)\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_FUNCTION = re.compile(
    "(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|exp|det|dim|ker|deg|max|min|sup|inf|lim|mod|gcd|lcm|sqrt|abs|sign|"
    "floor|ceil|infty|infinity|alpha|beta|gamma|delta|theta|lambda|sigma|omega|phi",
    re.IGNORECASE,
)
_LETTER = re.compile(r"\(([A-Z])\)|([A-Z])(?=[.:),]|$)")
_SEVERAL = re.compile(r"\(?([A-Z])\)?\s*(?:,|/|&|\band\b|\bor\b)\s*(?:and\s+|or\s+)?\(?([A-Z])(?![\w'])")
_LETTER_INSIDE = re.compile(r"\(([A-Z])\)|\b(?:option|choice)\s+([A-Z])\b", re.IGNORECASE)


class UnverifiableError(Exception):
    """The verifier itself cannot be used: the answer is neither right nor wrong."""


def judge(verifier: Mapping[str, Any], reference: str | None, text: str) -> Outcome:
    """Whether an answer is right: `value` 1.0 or 0.0; None with a reason when its verifier cannot be used.

    Args:
        verifier: `{"kind": ...}`; kinds are the keys of `KINDS`.
        reference: the prompt's reference answer; a verifier's own `answer` goes before it.
        text: the whole answer.
    """
    try:
        check = KINDS.get(str(verifier.get("kind")))
        if check is None:
            known = ", ".join(KINDS)
            raise UnverifiableError(f"unknown verifier kind {verifier.get('kind')!r}; known: {known}")
        score, extracted = check(verifier, verifier.get("answer", reference), text)
    except UnverifiableError as error:
        return {"value": None, "status": "unverifiable", "detail": {"reason": str(error)}}
    detail: dict[str, Any] = {"extracted": extracted[:_SHOWN]}
    if 0.0 < score < FULL_SCORE:
        detail["score"] = score
    return {"value": float(score >= FULL_SCORE), "status": "ok", "detail": detail}


def warm_up(kind: str) -> None:
    """Import what a kind needs, so that no answer's time limit pays for it."""
    if kind == "math":
        _math_right("1", "1")
    elif kind == "reasoning_gym":
        import reasoning_gym  # noqa: F401


def _reasoning_gym(verifier: Mapping[str, Any], _: Any, text: str) -> tuple[float, str]:
    """The task's own score of the extracted answer.

    An entry that came through JSON may have lost tuples or integer keys that its task needs. The test for it
    is the reference answer: unless that gets the full score, nothing is judged.
    """
    task, entry = str(verifier.get("task")), verifier.get("entry")
    if not isinstance(entry, Mapping):
        raise UnverifiableError("the verifier has no `entry`")
    score = _score_function(task)
    reference = entry.get("answer")
    if not _reference_passes(task, json.dumps(entry, sort_keys=True)):
        raise UnverifiableError(
            f"task {task!r} does not accept its own reference answer after storage as JSON"
        )
    extracted = extract_final_answer(text, numeric=_is_number(reference))
    # Decoration may have been part of the answer: quotes of a string, a final full stop.
    marked = (find_marked(text) or text[-MAX_CHARS:]).strip()
    return max(_attempt(score, form, entry) for form in dict.fromkeys((extracted, marked))), extracted


def _attempt(score: Callable[[str, Any], float], answer: str, entry: Mapping[str, Any]) -> float:
    """The task's score; 0.0 when its code fails on the answer, since it did not fail on the reference."""
    try:
        return float(score(answer, entry))
    except Exception:
        return 0.0


@lru_cache(maxsize=64)
def _score_function(task: str) -> Callable[[str, Any], float]:
    from reasoning_gym import get_score_answer_fn

    try:
        found: Callable[[str, Any], float] = get_score_answer_fn(task)
    except (ValueError, AssertionError) as error:
        raise UnverifiableError(f"reasoning-gym has no task {task!r}: {error}") from error
    return found


@lru_cache(maxsize=256)
def _reference_passes(task: str, entry_json: str) -> bool:
    entry = json.loads(entry_json)
    answer = entry.get("answer")
    if answer is None:
        return True  # tasks such as countdown accept any answer that fits their metadata
    try:
        return float(_score_function(task)(str(answer), entry)) >= FULL_SCORE
    except UnverifiableError:
        raise
    except Exception:
        return False


def _math(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Mathematical equality by math-verify: of the marked answer, or of what it finds in the text.

    A reference in words ("east", "wodniw") is compared as `text`: as a product of letters it would equal every
    anagram of itself, and an answer that is a bare word would equal nothing.
    """
    gold = _needed(reference)
    words = _TEXT_COMMAND.sub(r"\1", gold)
    if in_words(words):
        return _text(verifier, words, _TEXT_COMMAND.sub(r"\1", text))
    marked = find_marked(text)
    extracted = undecorated(marked) if marked is not None else text[-2000:]
    if undecorated(extracted) == undecorated(gold):
        return 1.0, extracted
    return float(_math_right(gold, extracted, whole=marked is not None)), extracted


def in_words(reference: str) -> bool:
    """Whether a reference is words rather than mathematics: no digit, and a word that names no function."""
    plain = _COMMAND.sub(" ", reference)
    return not any(map(str.isdigit, plain)) and any(
        not _FUNCTION.fullmatch(word) for word in _WORD.findall(plain)
    )


def _math_right(gold: str, answer: str, *, whole: bool = True) -> bool:
    from math_verify import parse, verify

    # Its own time limits use signals, which this worker's hard limit replaces.
    expected = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not expected:
        raise UnverifiableError(f"math-verify cannot read the reference answer {gold[:_SHOWN]!r}")
    found = parse(f"\\boxed{{{answer}}}" if whole else answer, parsing_timeout=None)
    return bool(verify(expected, found, timeout_seconds=None))


def _choice(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Equality of the chosen letter; `choices` (a list of texts) lets an answer quote the text instead.

    An answer that names several options chooses none.
    """
    gold = _needed(reference).strip().strip("().").upper()
    if not re.fullmatch("[A-Z]", gold):
        raise UnverifiableError(f"the reference answer {gold[:_SHOWN]!r} is not the letter of a choice")
    found = undecorated(find_marked(text) or text)
    letter = _LETTER.match(found)
    choices = [_normal(str(choice)) for choice in verifier.get("choices") or ()]
    several = _SEVERAL.match(found)
    if several and several[1] != several[2]:
        chosen = ""
    elif letter:
        chosen = letter[1] or letter[2]
    elif _normal(found) in choices:
        chosen = chr(ord("A") + choices.index(_normal(found)))
    else:
        inside = {"".join(groups).upper() for groups in _LETTER_INSIDE.findall(found)}
        chosen = inside.pop() if len(inside) == 1 else ""
    return float(chosen == gold), chosen or found


def _regex(verifier: Mapping[str, Any], _: Any, text: str) -> tuple[float, str]:
    """Whether `pattern` is found anywhere in the answer."""
    try:
        found = re.search(str(verifier["pattern"]), text)
    except KeyError:
        raise UnverifiableError("the verifier has no `pattern`") from None
    except re.error as error:
        raise UnverifiableError(f"the verifier's pattern is not a regular expression: {error}") from error
    return float(found is not None), found[0] if found else ""


def _json(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Equality of JSON values; numbers by value, objects in any order. `value` may hold the expected one.

    NaN, infinities and an object with one key twice are not JSON.
    """
    if "value" in verifier:
        expected = verifier["value"]
    else:
        try:
            expected = json.loads(_needed(reference))
        except ValueError as error:
            raise UnverifiableError(f"the reference answer is not JSON: {error}") from error
    found = (find_marked(text) or text).strip()
    fenced = re.search(r"```(?:json)?\s*\n(.*?)\n\s*```", found, re.DOTALL)
    found = fenced[1] if fenced else found
    try:
        given = json.loads(found, parse_constant=_no_json, object_pairs_hook=_each_once)
        return float(_same(given, expected)), found
    except (ValueError, RecursionError):
        return 0.0, found


def _text(_: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Equality of words: letter case, kinds of whitespace and Unicode forms do not matter."""
    gold = _needed(reference)
    numeric = _is_number(gold)
    extracted = extract_final_answer(text, numeric)
    return float(_normal(extracted) == _normal(extract_final_answer(gold, numeric))), extracted


KINDS: Mapping[str, Callable[[Mapping[str, Any], Any, str], tuple[float, str]]] = {
    "reasoning_gym": _reasoning_gym,
    "math": _math,
    "choice": _choice,
    "regex": _regex,
    "json": _json,
    "text": _text,
}


def _needed(reference: Any) -> str:
    if reference is None:
        raise UnverifiableError("the prompt has no reference answer")
    return str(reference)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(str(value).replace(",", "")))
    except ValueError:
        return False


def _no_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _same(left: Any, right: Any) -> bool:
    """Equality of JSON values in which true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
