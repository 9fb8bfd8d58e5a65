"""The same words as the reference answer, or the same number."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from engine.config.kinds import VerifierKind
from engine.verifiers import quantities
from engine.verifiers.answer_extraction import (
    MAX_CHARS,
    after_lead,
    before_reason,
    emphasized,
    find_marked,
    marked,
    undecorated,
)
from engine.verifiers.comparison import Verdict, needed, normal
from engine.verifiers.notation import plain
from engine.verifiers.quantities import Quantity
from engine.verifiers.reference import marked_reference

_YES_OR_NO = re.compile(r"\W*(yes|no|true|false)\b(?!-)(?!\s+(?:doubt|one|matter)\b)", re.IGNORECASE)


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> Verdict:
    """Equality of words: letter case, kinds of whitespace, Unicode forms and decoration do not matter.

    A reference that is a number, with no more than a known unit beside it, is compared as a number: 42 is 42.0,
    and 18 is "$18.00" and "18 dollars".
    """
    gold, number = _reference(needed(reference))
    if number is not None and number.known:
        read, mark = _number(text)
        if read is not None:
            return Verdict(quantities.same(number, read), read.written, mark)
    wanted = normal(gold)
    first = None
    for answer, mark in _answers(text, wanted):
        first = first or (answer, mark)
        if normal(answer) == wanted or normal(plain(answer)) == normal(plain(gold)):
            return Verdict(1.0, answer, mark)
    return Verdict(0.0, *(first or ("", "")))


@lru_cache(maxsize=256)
def _reference(written: str) -> tuple[str, Quantity | None]:
    """Its final answer, and the number that this is; kept, since several responses are compared with it."""
    gold = undecorated(find_marked(written) or written)
    return gold, quantities.read(gold)


def _number(text: str) -> tuple[Quantity | None, str]:
    for found in marked(text):
        said = undecorated(before_reason(undecorated(found.answer)))
        last = said.rpartition("=")[2]
        read = quantities.read(said) or quantities.read(last) or quantities.first_in(last)
        if read is not None:
            return read, found.mark
    if "\n" not in text.strip() and (read := quantities.read(undecorated(text))) is not None:
        return read, "the whole text"
    if (bold := emphasized(text)) and (read := quantities.read(bold.answer)) is not None:
        return read, bold.mark
    return quantities.last_in(text[-MAX_CHARS:]), "the last number"


def _answers(text: str, wanted: str) -> Iterator[tuple[str, str]]:
    """What may be the answer in words: of the first mark or of the whole text, without its lead and its reason."""
    found = next(marked(text), None) or emphasized(text)
    whole = undecorated(text[-MAX_CHARS:])
    for answer, mark in (
        (undecorated(found.answer), found.mark) if found else (whole, "the whole text"),
        (whole, "the whole text"),
    ):
        yield answer, mark
        said = undecorated(before_reason(answer))
        yield said, mark
        yield undecorated(after_lead(said)), mark
        if wanted in ("yes", "no", "true", "false") and (word := _YES_OR_NO.match(answer)):
            yield word[1], mark


def _stored(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    return marked_reference(answer, at)


KIND = VerifierKind(verify=verify, stored=_stored)
