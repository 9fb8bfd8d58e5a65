"""The same JSON value as the reference answer."""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from engine.base.errors import ConfigError
from engine.config.kinds import VerifierKind
from engine.verifiers.answer_extraction import MAX_CHARS, marked
from engine.verifiers.comparison import UnverifiableError, Verdict, needed

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n`~]*\n(.*?)\n?[ \t]*\1", re.DOTALL | re.MULTILINE)
_GOES_ON = re.compile(r"\s*[}\],:]")
_TAIL = re.compile(r"[\s.!*`]*")


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> Verdict:
    """Equality of JSON values; numbers by value, objects in any order. `value` may hold the expected one.

    NaN, infinities and an object with one key twice are not JSON.
    """
    if "value" in verifier:
        expected = _strict(json.dumps(verifier["value"]))
    else:
        try:
            expected = _strict(needed(reference))
        except (ValueError, RecursionError) as error:
            raise UnverifiableError(f"the reference answer is not JSON: {error}") from error
    first = None
    for written, where in _written(text.strip()):
        first = first or written
        try:
            return Verdict(_same(_strict(written), expected), written, where)
        except (ValueError, RecursionError):
            continue
    return Verdict(0.0, first or "", "no JSON")


def _written(text: str) -> Iterator[tuple[str, str]]:
    """What may be the JSON of a response, the most credible first."""
    yield text, "the whole text"
    fences = _FENCE.findall(text[-MAX_CHARS:])
    for _, inside in reversed(fences[-2:]):
        yield inside.strip(), "the last fence"
    for found in marked(text):
        yield found.answer.strip().strip("*`").strip().removesuffix("."), found.mark
    if (embedded := _embedded(text[-MAX_CHARS:])) is not None:
        yield embedded, "in the text"


def _embedded(text: str) -> str | None:
    """The last object in a text, or an array at its end or on lines of its own: "see [1]" is prose, braces are not."""
    decoder = json.JSONDecoder()
    found, at, tries = None, 0, 0
    while (start := min((at for at in (text.find("{", at), text.find("[", at)) if at >= 0), default=-1)) >= 0:
        tries += 1
        if tries > 200:
            break
        try:
            _, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            at = start + 1
            continue
        alone = (
            not text[text.rfind("\n", 0, start) + 1 : start].strip()
            and not text[at:].partition("\n")[0].strip()
        )
        if (text[start] == "{" and not _GOES_ON.match(text, at)) or alone or _TAIL.fullmatch(text, at):
            found = text[start:at]
    return found


def _strict(text: str) -> Any:
    return json.loads(text, parse_constant=_no_json, parse_float=Decimal, object_pairs_hook=_each_once)


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
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        # As programs read them, but for those that all become infinite or 0.
        return left == right or (float(left) == float(right) and 0 < abs(float(left)) < float("inf"))
    return bool(left == right)


def _stored(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    try:
        _strict(answer)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"prompts: {at}: the reference answer is not JSON: {error}",
            "a reference that is a string is written with its quotes",
        ) from None
    return {}


KIND = VerifierKind(verify=verify, stored=_stored, takes_lists=True)
