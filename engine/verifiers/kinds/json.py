"""The same JSON value as the reference answer."""

import json
import re
from collections.abc import Mapping
from typing import Any

from engine.base.errors import ConfigError
from engine.config.kinds import VerifierKind
from engine.verifiers.answer_extraction import find_marked
from engine.verifiers.comparison import UnverifiableError, needed


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Equality of JSON values; numbers by value, objects in any order. `value` may hold the expected one.

    NaN, infinities and an object with one key twice are not JSON.
    """
    if "value" in verifier:
        expected = verifier["value"]
    else:
        try:
            expected = json.loads(needed(reference))
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


def _stored(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    try:
        json.loads(answer, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"prompts: {at}: the reference answer is not JSON: {error}",
            "a reference that is a string is written with its quotes",
        ) from None
    return {}


KIND = VerifierKind(verify=verify, stored=_stored, takes_lists=True)
