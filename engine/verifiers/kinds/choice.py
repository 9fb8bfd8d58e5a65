"""The letter of a multiple choice, and no other."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.base import foreign_json
from engine.base.errors import ConfigError
from engine.base.foreign_json import WrongShape
from engine.config.kinds import VerifierKind
from engine.verifiers.answer_extraction import (
    MAX_CHARS,
    after_lead,
    before_reason,
    emphasized,
    marked,
    undecorated,
)
from engine.verifiers.choices import labelled
from engine.verifiers.comparison import SHOWN, UnverifiableError, Verdict, needed, normal
from engine.verifiers.notation import plain

_CALLED = (
    r"(?:the\s+)?(?:correct\s+|right\s+|best\s+|final\s+)?(?:option|choice|letter|answer|statement)s?[\s:*]{0,3}"
    r"(?:is\s+)?"
)
_ALONE = re.compile(
    rf"(?:{_CALLED})?[\[({{<]?([A-Za-z])[\])}}>]?[.:),]?(?:입니다|이다|です|である)?", re.IGNORECASE
)
_FIRST = re.compile(
    rf"(?:{_CALLED})?(?:[(\[]([A-Za-z])[)\]]|([A-Z])(?=[.:),\]](?!\w\.)|\*\*|$|\s+[-–—=]+>?\s|\s*\n)"
    r"|([a-z])(?=\)(?!\w)))"
    rf"|{_CALLED}([A-Z])(?![\w'’])"
    r"|([A-Z])(?=\s+(?:is|was|because|since|as it|would|seems|fits|being|matches)\b)",
)
_SEVERAL = re.compile(
    r"\W*(?:both\s+|either\s+)?(?:option\s+|choice\s+)?\(?([A-Z])\)?\s*(?:,|/|&|\band\b|\bor\b)\s*"
    r"(?:and\s+|or\s+)?(?:option\s+|choice\s+)?\(?([A-Z])(?![\w'])"
)
_INSIDE = re.compile(
    r"\(([A-Z])\)|\b(?:option|choice|letter)\s+[(\"'*]{0,3}([A-Za-z])\b(?!['’])|\*\*\(?([A-Z])[).:]?\*\*"
    r"|\b([B-HJ-Z])\b(?=\s+(?:is|was)\s)|\bA(?=\s+is\s)|(?:选|選)(?:项|择)?\s?([A-Z])|([A-Z])\s?(?:选项|正确)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\W*(?:(?:option|choice|answer)\b)?[^.\n;,A-Z]{0,30}?\b(?:not|isn['’]t|wrong|incorrect|false|ruled out|"
    r"eliminated|doesn['’]t|does not|cannot)\b"
    r"|.{0,3}(?:错误|不对|不正确)",
)
_DENYING = re.compile(
    r"\b(?:not|rule out|rules out|eliminate|eliminates|isn['’]t|exclude|than|neither|nor)\W+(?:option\W+|choice\W+)?$",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"(?:\b(?:choose|chose|pick|picked|select|selected|go with|going with|opt for|settle on|conclude(?: that)?)"
    r"|(?:\b(?:correct|right|best|most appropriate|final)\s+(?:option|choice|letter|one|response)\s*"
    r"(?:is|:|would be|=))|选择?|選擇?|故选|应选)"
    r"[\s:：*]{0,4}(?:the\s+)?(?:(?:option|choice|letter|answer)\s+)?[\[(\"'*$]{0,4}([A-Za-z])(?![\w'’])",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"(?:\b(?:option|choice|answer)\s+)?[(\[*]{0,4}\b([A-Z])[)\]*:.]{0,4}\s+(?:is|seems|looks)\s+"
    r"(?:therefore\s+|clearly\s+|the\s+)*(?:correct|right|best|most (?:likely|appropriate|accurate)|true|answer)\b"
)
_BETWEEN_WORDS = re.compile(r"[^\w%$.-]+|\.(?=\s|$)")
_KEYS = (
    "answer",
    "final_answer",
    "choice",
    "option",
    "letter",
    "correct_answer",
    "correct",
    "selection",
    "label",
)


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> Verdict:
    """Equality of the chosen letter; `choices` (a list of texts) lets a response quote the text instead.

    A letter goes before a text that is the same letter. A response that names several options chooses none.
    """
    gold = needed(reference).strip().strip("().").upper()
    if not re.fullmatch("[A-Z]", gold):
        raise UnverifiableError(f"the reference answer {gold[:SHOWN]!r} is not the letter of a choice")
    choices = [normal(str(choice)) for choice in verifier.get("choices") or ()]
    first = None
    for said, mark in _said(text[-MAX_CHARS:]):
        first = first or (said, mark)
        if (chosen := _chosen(said, choices)) is not None:
            return Verdict(chosen == gold, chosen or said, mark if chosen else f"{mark}: several are named")
    return Verdict(0.0, *(first or ("", "")))


def _said(text: str) -> Iterator[tuple[str, str]]:
    """Where a choice may be named, the most credible first."""
    if (value := _in_json(text)) is not None:
        yield value, "in its JSON"
    for found in marked(text):
        yield found.answer, found.mark
    chosen = [*_CHOSEN.finditer(text), *_VERDICT.finditer(text)]
    chosen = [one for one in chosen if not _DENYING.search(text[max(0, one.start() - 30) : one.start(1)])]
    if chosen:
        last = max(chosen, key=lambda one: one.start())
        yield last[1], f"after “{' '.join(last[0][: last.start(1) - last.start()].split()) or last[0]}”"
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        yield from (
            (line, f"the {place} line")
            for line, place in ((lines[-1], "last"), (lines[0], "first"))
            if _alone(line)
        )
    if bold := emphasized(text):
        yield bold.answer, bold.mark
    yield text, "the whole text"


def _alone(line: str) -> bool:
    return bool(_ALONE.fullmatch(_bare(line)))


def _in_json(text: str) -> str | None:
    """The choice that a response in JSON names."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        found = foreign_json.parse(text[start : end + 1]).object()
    except WrongShape:
        return None
    lowered = {key.lower().replace(" ", "_"): value for key, value in found.items()}
    return next((lowered[key] for key in _KEYS if isinstance(lowered.get(key), str)), None)


def _chosen(said: str, choices: Sequence[str]) -> str | None:
    """The letter that a text names; "" for several, None for none."""
    bare = _bare(said)
    if (several := _SEVERAL.match(bare)) and several[1] != several[2]:
        return ""
    if (alone := _ALONE.fullmatch(bare)) and _offered(alone[1], choices):
        return alone[1].upper()
    for form in dict.fromkeys((bare, _bare(before_reason(bare)), _bare(after_lead(before_reason(bare))))):
        if normal(form) in choices:
            return _letter(choices.index(normal(form)))
    if first := _FIRST.match(bare):
        letter = next(filter(None, first.groups())).upper()
        rest = normal(bare[first.end() :].lstrip(".:),]*-–—= \t"))
        others = [place for place, choice in enumerate(choices) if choice and rest == choice]
        if _offered(letter, choices):
            return letter if not others or letter in map(_letter, others) else ""
    if (quoting := re.match(r"([A-Za-z])\s+(.+)", bare, re.DOTALL)) and _offered(quoting[1], choices):
        place = ord(quoting[1].upper()) - ord("A")
        if place < len(choices) and choices[place] and _begins(normal(quoting[2]), choices[place]):
            return quoting[1].upper()
    return _inside(bare, choices)


def _inside(bare: str, choices: Sequence[str]) -> str | None:
    named = set()
    for found in _INSIDE.finditer(bare):
        letter = (next(filter(None, found.groups()), "A")).upper()
        after, before = bare[found.end() : found.end() + 60], bare[max(0, found.start() - 30) : found.start()]
        if _offered(letter, choices) and not _DENIED.match(after) and not _DENYING.search(before):
            named.add(letter)
    if len(named) == 1:
        return named.pop()
    if named:
        return ""
    words = _words(bare)
    quoted = [place for place, choice in enumerate(choices) if choice and _words(choice) in words]
    if (begins := re.match(r"([A-Z])\s", bare)) and _offered(begins[1], choices) and quoted:
        return (
            begins[1] if begins[1] == _letter(quoted[0]) else ""
        )  # "A blue": the letter of one, the text of another
    denies = re.search(r"\b(?:not|never|neither)\b|n['’]t\b", bare)
    return _letter(quoted[0]) if len(quoted) == 1 and len(bare) < SHOWN and not denies else None


def _words(text: str) -> str:
    return f" {_BETWEEN_WORDS.sub(' ', normal(text)).strip()} "


def _bare(said: str) -> str:
    return undecorated(plain(undecorated(said))) if "\n" not in said.strip() else undecorated(said)


def _begins(text: str, choice: str) -> bool:
    return text == choice or bool(re.match(rf"{re.escape(choice)}(?!\w)", text))


def _offered(letter: str, choices: Sequence[str]) -> bool:
    return not choices or ord(letter.upper()) - ord("A") < len(choices)


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _stored(answer: Any, choices: Any, at: str) -> Mapping[str, Any]:
    """`answer`, the letter of the choice that the reference names, and `choices`, their texts.

    It names one by its label (the letter, where choices have none), its text, or as a number by its place from 0, as
    MMLU has it. What names one choice by its letter and another by its text is refused.
    """
    texts, labels = labelled(choices, at)
    words = answer.strip() if isinstance(answer, str) else json.dumps(answer)
    if isinstance(answer, int | float) and not isinstance(answer, bool) and words not in labels:
        places = {place for place in range(len(texts)) if place == answer}
    else:
        letters = labels or [chr(ord("A") + place) for place in range(len(texts) or 26)]
        places = _places(letters, words.strip("().").upper())
        if not (labels and places):
            places |= _places(texts, words)
    if len(places) > 1:
        which = " and ".join(chr(ord("A") + place) for place in sorted(places))
        raise ConfigError(
            f"prompts: {at}: the reference answer {words[:80]!r} may be choice {which}: a letter, a text, a place",
            'give the choices labels, {"text": […], "label": ["A", …]}, and the answer as a label',
        )
    if not places or min(places) > 25:
        raise ConfigError(
            f"prompts: {at}: the reference answer {words[:80]!r} is none of the choices",
            "give the letter (A is the first choice), the choice's text, or its place as a number (0 is the first)",
        )
    return {"answer": chr(ord("A") + places.pop()), "choices": texts}


def _places(names: list[str], name: str) -> set[int]:
    return {place for place, each in enumerate(names) if each.strip() == name}


KIND = VerifierKind(verify=verify, stored=_stored, takes_places=True)
