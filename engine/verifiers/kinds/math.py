"""Mathematical equality with the reference answer: numbers exactly, everything else by math-verify."""

import re
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

from engine.config.kinds import VerifierKind
from engine.verifiers import quantities
from engine.verifiers.answer_extraction import (
    Found,
    after_lead,
    before_reason,
    emphasized,
    find_marked,
    marked,
    undecorated,
)
from engine.verifiers.comparison import SHOWN, UnverifiableError, Verdict, needed
from engine.verifiers.kinds import text as same_words
from engine.verifiers.notation import latex, plain
from engine.verifiers.quantities import Quantity
from engine.verifiers.reference import marked_reference, unmatchable

_SHORT = 120
"""Characters of a line that may be an answer, or a sentence with it."""
_TAIL = 2000
"""Characters of an unmarked text's end in which math-verify looks for an answer."""
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_FUNCTION = re.compile(
    "(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|exp|det|dim|ker|deg|max|min|sup|inf|lim|mod|gcd|lcm|sqrt|abs|sign|"
    "floor|ceil|infty|infinity|and|pi|alpha|beta|gamma|delta|theta|lambda|sigma|omega|phi",
    re.IGNORECASE,
)
_BASE = re.compile(
    r"\(?(?P<digits>(?=[A-Za-z]{0,9}\d)[0-9A-Za-z][0-9A-Za-z ,.]{0,80}|[A-F]{1,20}(?=_\{?1[1-6]))\)?"
    r"_\{?\s?(?P<base>\d{1,2}|[a-z]+)\s?\}?",
    re.ASCII,
)
_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12,
    "sixteen": 16, "bin": 2, "oct": 8, "hex": 16,
}  # fmt: skip
_OPERATOR = re.compile(r"[-=<>^*/+\\(\[{|]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
_DOTS = re.compile(r"\\(?:[lc]?dots[bcmio]?)(?![A-Za-z])|\.{3}")
_MATHEMATICS = re.compile(r"\$(?!\s)[^$\n]*[^$\s\\]\$(?!\d)|\\[(\[]|\\[a-z]+\{")
_ASSIGNED = re.compile(r"(?<![A-Za-z\\])([a-z])\s?=\s?")
_POLYNOMIAL = re.compile(r"\d\s?[a-z](?![a-z])|[a-z]\s?\^")
_WORDS = re.compile(r"(?<![\\A-Za-z])(?!sqrt|pi\b|log|ln\b)[A-Za-z]{2,}")
_UNIT_WORDS = re.compile(r"\s+[A-Za-z]{2,}\.?(?:\s[A-Za-z]+){0,3}$")
_APART = re.compile(r"\d\s+\d")
_FORMULA = re.compile(r"(?:\$|\\\(|\\\[)([^$\n]{1,200}?)(?:\$|\\\)|\\\])")
_EQUALS = re.compile(r"(?<![<>!])=|\\approx|≈")


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> Verdict:
    """Mathematical equality of the marked answer, or of what is found in the text.

    A reference in words ("east", "wodniw") is compared as `text`: as a product of letters it would equal every
    anagram of itself, and an answer that is a bare word would equal nothing. A reference that is a number is compared
    as one, exactly; see `engine.verifiers.quantities`.
    """
    gold = undecorated(find_marked(needed(reference)) or needed(reference))
    number = quantities.read(gold)
    if number is None and in_words(gold):
        return same_words.verify(verifier, plain(gold), text)
    read = None
    for found in marked(text):
        if _says_nothing(found):
            continue
        return _of_number(number, gold, found) if number else _of_expression(gold, found)
    whole = text.strip() if len(text) <= _SHORT else ""
    if number is not None:
        read, mark = quantities.read(undecorated(whole)), "the whole text"
        if read is None and whole and not _WORDS.search(whole):
            return _of_number(number, gold, Found(whole, mark, prose=False))
        if read is None and (bold := emphasized(text)):
            read, mark = _quantity(bold), bold.mark
        if read is None and not _MATHEMATICS.search(text[-_TAIL:]):
            read, mark = quantities.last_in(text), "the last number"
            if read is None and any(map(str.isdigit, text[-_SHORT:])):
                return Verdict(0.0, text[-_SHORT:], "no single number")
        if read is not None:
            return Verdict(quantities.same(number, read), read.written, mark)
    last = text.rstrip().rpartition("\n")[2]
    if formulas := _FORMULA.findall(last[-_TAIL:]):
        verdict = _of_expression(gold, Found(formulas[-1], "the last formula", prose=False))
        if verdict.score:
            return verdict
    elif 0 < len(last) <= _SHORT:
        verdict = _of_expression(gold, Found(last, "the last line", prose=True))
        if verdict.score:
            return verdict
    tail = text[-_TAIL:]
    return Verdict(
        undecorated(tail) == gold or _equal(latex(gold), tail, whole=False),
        tail,
        "what math-verify finds in the text",
    )


def in_words(reference: str) -> bool:
    """Whether a reference is words: one that names no function, and no operator if there are digits."""
    shown = plain(reference)
    if any(map(str.isdigit, shown)) and _OPERATOR.search(shown):
        return False
    return any(not _FUNCTION.fullmatch(word) for word in _WORD.findall(_COMMAND.sub(" ", shown)))


def _says_nothing(found: Found) -> bool:
    """Of a sentence: that it is words without mathematics ("easy to check"), so that the answer stands elsewhere."""
    words = found.answer.split()
    return (
        found.prose
        and len(words) > 2
        and not re.search(r"[\d\\$]", found.answer)
        and not any(quantities.read(word) for word in words)
        and all(len(word) > 1 for word in words)
    )


def _of_number(gold: Quantity, written: str, found: Found) -> Verdict:
    read = _quantity(found)
    if read is not None:
        return Verdict(quantities.same(gold, read), read.written, found.mark)
    return _of_expression(written, found)


def _quantity(found: Found) -> Quantity | None:
    """The number that an answer is, or that its sentence says first."""
    answer = undecorated(found.answer)
    if (read := quantities.read(answer)) is not None:
        return read
    said = undecorated(before_reason(answer)).rstrip("!") if found.prose else answer
    *before, last = _EQUALS.split(said)
    if re.search(r"[,;]|\b(?:and|or)\b", "".join(before)):
        return None
    if before and _POLYNOMIAL.search(before[-1]) and last.strip() == "0":
        return None  # an equation rather than a value
    forms = [last, after_lead(last)] if found.prose else [last]
    if not _WORDS.search(plain(said)) and not re.search("[a-z]", plain(said)):
        forms += reversed(before)  # 15 = 3 × 5
    read = next(filter(None, map(quantities.read, dict.fromkeys((said, *forms)))), None)
    return quantities.first_in(last) if read is None and found.prose else read


def _of_expression(gold: str, found: Found) -> Verdict:
    answer = undecorated(found.answer)
    forms = [answer]
    if found.prose:
        said = undecorated(before_reason(answer))
        forms = [said, undecorated(after_lead(said)), undecorated(said.rpartition(": ")[2])]
        forms.append(_UNIT_WORDS.sub("", forms[1]))
    if len(labels := set(_ASSIGNED.findall(answer))) == 1 and not labels & set(_ASSIGNED.findall(gold)):
        forms.append(_ASSIGNED.sub("", forms[-1]))  # x = 2 or x = 3
    expected = latex(gold)
    right = any(undecorated(form) == gold or _equal(expected, latex(form)) for form in dict.fromkeys(forms))
    return Verdict(right, forms[0], found.mark)


def _equal(gold: str, answer: str, *, whole: bool = True) -> bool:
    if whole and _APART.search(answer) and not _APART.search(gold):
        return False  # math-verify joins digits
    if whole and _squeezed(gold) == _squeezed(answer):
        return True
    if whole and (bases := [_BASE.fullmatch(one.strip()) for one in (gold, answer)]) != [None, None]:
        return _same_numeral(bases[0], bases[1], gold, answer)
    if whole and (_DOTS.search(gold) or _DOTS.search(answer)):
        return _same_sequence(gold, answer)
    if whole and gold.strip() == "0" and _POLYNOMIAL.search(answer) and "=" in answer:
        return False
    # Here, because math-verify takes a second and only the worker process compares.
    from math_verify import parse, verify

    from engine.verifiers.closeness import contradicted

    expected = _parsed(gold)
    # Its own time limits use signals, which this worker's hard limit replaces.
    found = parse(f"\\boxed{{{answer}}}" if whole else answer, parsing_timeout=None)
    return bool(
        verify(expected, found, timeout_seconds=None, allow_set_relation_comp=True)
    ) and not contradicted(expected, found)


@lru_cache(maxsize=256)
def _parsed(gold: str) -> list[Any]:
    from math_verify import parse

    expected: list[Any] = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not expected:
        raise UnverifiableError(f"math-verify cannot read the reference answer {gold[:SHOWN]!r}")
    return expected


def _squeezed(text: str) -> str:
    return re.sub(r"\s|\\[!,;: ]", "", text)


def _same_numeral(gold: re.Match[str] | None, given: re.Match[str] | None, *texts: str) -> bool:
    """Numerals with their base: the digits are the same, and so is the base where both name it."""
    digits, bases = [], []
    for numeral, text in zip((gold, given), texts, strict=True):
        digits.append(re.sub(r"[ ,\\]", "", numeral["digits"] if numeral else text).lstrip("0").upper())
        base = numeral["base"] if numeral else None
        bases.append(None if base is None else _BASES.get(base) or (int(base) if base.isdigit() else base))
    return digits[0] == digits[1] and (None in bases or bases[0] == bases[1])


def _same_sequence(gold: str, given: str) -> bool:
    """Sequences with dots: the same stands before and after them; two members, where one has more before them."""
    parts = [_DOTS.split(one.strip(" ()\\{}[]")) for one in (gold, given)]
    if len(parts[0]) != 2 or len(parts[1]) != 2:
        return False
    members = [[[one.strip() for one in part.split(",") if one.strip()] for part in both] for both in parts]
    (first, last), (given_first, given_last) = members
    shared = min(len(first), len(given_first))
    return (
        (len(first) == len(given_first) or shared > 1)
        and bool(last) == bool(given_last)
        and len(last) == len(given_last)
        and all(_equal(*pair) for pair in zip(first[:shared], given_first, strict=False))
        and all(_equal(*pair) for pair in zip(last, given_last, strict=True))
    )


def _stored(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    if not any(sign.isalnum() or sign in "∞∅" for sign in answer):
        raise unmatchable(answer, at)
    return marked_reference(answer, at)


KIND = VerifierKind(verify=verify, stored=_stored, prepare=partial(_equal, "1", "2"))
