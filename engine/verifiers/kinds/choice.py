"""The letter of a multiple choice, and no other."""

import re
from collections.abc import Mapping
from typing import Any

from engine.base import foreign_json
from engine.base.errors import ConfigError
from engine.base.foreign_json import Value, WrongShape
from engine.config.kinds import VerifierKind
from engine.verifiers.answer_extraction import find_marked, undecorated
from engine.verifiers.comparison import SHOWN, UnverifiableError, needed, normal

_LETTER = re.compile(r"\(([A-Z])\)|([A-Z])(?=[.:),]|$)")
_SEVERAL = re.compile(r"\(?([A-Z])\)?\s*(?:,|/|&|\band\b|\bor\b)\s*(?:and\s+|or\s+)?\(?([A-Z])(?![\w'])")
_LETTER_INSIDE = re.compile(r"\(([A-Z])\)|\b(?:option|choice)\s+([A-Z])\b", re.IGNORECASE)


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Equality of the chosen letter; `choices` (a list of texts) lets a response quote the text instead.

    A response that names several options chooses none.
    """
    gold = needed(reference).strip().strip("().").upper()
    if not re.fullmatch("[A-Z]", gold):
        raise UnverifiableError(f"the reference answer {gold[:SHOWN]!r} is not the letter of a choice")
    found = undecorated(find_marked(text) or text)
    letter = _LETTER.match(found)
    choices = [normal(str(choice)) for choice in verifier.get("choices") or ()]
    several = _SEVERAL.match(found)
    if several and several[1] != several[2]:
        chosen = ""
    elif letter:
        chosen = letter[1] or letter[2]
    elif normal(found) in choices:
        chosen = chr(ord("A") + choices.index(normal(found)))
    else:
        inside = {"".join(groups).upper() for groups in _LETTER_INSIDE.findall(found)}
        chosen = inside.pop() if len(inside) == 1 else ""
    return float(chosen == gold), chosen or found


def _stored(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    """`answer`, the letter that the reference is or whose text it is, and `choices`."""
    try:  # CSV holds a list as JSON text
        given = foreign_json.parse(choices) if isinstance(choices, str) else Value(choices, "choices")
        texts = [] if given.raw is None else [choice.text() for choice in given.list()]
    except WrongShape as problem:
        raise ConfigError(
            f"prompts: {at}: the choices are not a list of texts: {problem}", "write a list of texts"
        ) from None
    letter = answer.strip().strip("().").upper()
    if answer in texts:
        letter = chr(ord("A") + texts.index(answer))
    if not re.fullmatch("[A-Z]", letter) or (texts and ord(letter) - ord("A") >= len(texts)):
        raise ConfigError(
            f"prompts: {at}: the reference answer {answer[:80]!r} is none of the choices",
            "give the letter (A is the first choice) or the choice's text",
        )
    return {"answer": letter, "choices": texts}


KIND = VerifierKind(verify=verify, stored=_stored)
