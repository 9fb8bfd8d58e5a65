"""The same words as the reference answer."""

from collections.abc import Mapping
from typing import Any

from engine.config.kinds import VerifierKind
from engine.verifiers.answer_extraction import extract_final_answer
from engine.verifiers.comparison import is_number, needed, normal
from engine.verifiers.reference import marked_reference


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Equality of words: letter case, kinds of whitespace and Unicode forms do not matter."""
    gold = needed(reference)
    numeric = is_number(gold)
    extracted = extract_final_answer(text, numeric)
    return float(normal(extracted) == normal(extract_final_answer(gold, numeric))), extracted


def _stored(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    return marked_reference(answer, at)


KIND = VerifierKind(verify=verify, stored=_stored)
