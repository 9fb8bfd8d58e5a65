"""The letter of a multiple choice, and no other."""

import json
import re
from collections.abc import Mapping
from typing import Any

from engine.base.errors import ConfigError
from engine.config.kinds import VerifierKind
from engine.verifiers import chosen_letter
from engine.verifiers.answer_extraction import MAX_CHARS
from engine.verifiers.choices import labelled
from engine.verifiers.comparison import SHOWN, UnverifiableError, Verdict, needed, normal


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> Verdict:
    """Equality of the chosen letter; `choices` (a list of texts) lets a response quote the text instead.

    A letter goes before a text that is the same letter. A response that names several options chooses none.
    """
    gold = needed(reference).strip().strip("().").upper()
    if not re.fullmatch("[A-Z]", gold):
        raise UnverifiableError(f"the reference answer {gold[:SHOWN]!r} is not the letter of a choice")
    choices = [normal(str(choice)) for choice in verifier.get("choices") or ()]
    labels = verifier.get("labels") or ()
    first = None
    for said, mark in chosen_letter.said(text[-MAX_CHARS:]):
        first = first or (said, mark)
        if (chosen := chosen_letter.chosen(said, choices, labels)) is not None:
            return Verdict(chosen == gold, chosen or said, mark if chosen else f"{mark}: several are named")
    return Verdict(0.0, *(first or ("", "")))


def _stored(answer: Any, choices: Any, at: str) -> Mapping[str, Any]:
    """`answer`, the letter of the choice that the reference names, `choices`, their texts, and `labels` unless A, B, …

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
            "give the letter (A is the first choice), the choice's text, or its place as a number (0 is the first)"
            + (
                ""
                if texts
                else ", and name the columns of the choices: `choices` or `choice_columns` in `fields`"
            ),
        )
    own = labels and labels != [chr(ord("A") + place) for place in range(len(labels))]
    return {"answer": chr(ord("A") + places.pop()), "choices": texts, **({"labels": labels} if own else {})}


def _places(names: list[str], name: str) -> set[int]:
    return {place for place, each in enumerate(names) if each.strip() == name}


KIND = VerifierKind(verify=verify, stored=_stored, takes_places=True)
