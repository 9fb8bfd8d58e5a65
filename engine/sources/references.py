"""The reference answer of a row: what is kept with its prompt, and what its verifier compares with."""

import json
import math
from collections.abc import Mapping
from typing import Any

from engine.base.errors import ConfigError
from engine.config.kinds import verifier_kind
from engine.verifiers.verify import stored_with

Reference = tuple[str | None, Mapping[str, Any] | None]
"""(answer, verifier) of a prompt."""


def unverified(given: Any) -> Reference:
    """What is kept of an answer that nothing is compared with."""
    return (given if given is None or isinstance(given, str) else json.dumps(given, ensure_ascii=False)), None


def reference(given: Any, choices: Any, verifier: str, at: str) -> Reference:
    """The reference, and the verifier that is stored with it. Of a list each member is an answer that is accepted.

    Args:
        given: the answer's cell as JSON.
        choices: that of the choices.
        verifier: its kind.
        at: file and line, for errors.

    Raises:
        ConfigError: nothing could match it.
    """
    kind = verifier_kind(verifier)
    accepted = ([] if given is None else [given]) if kind.takes_lists else _accepted(given, at)
    if any(isinstance(one, float) and math.isinf(one) for one in accepted):
        raise ConfigError(f"prompts: {at}: the reference answer is no finite number", "write it as text")
    if not accepted:
        raise ConfigError(
            f"prompts: {at}: `verifier: {verifier}` needs an answer, and this row's is empty",
            "take the row out, or leave `verifier` out",
        )
    texts = [one if kind.takes_places else _text(one) for one in accepted]
    stored = [stored_with(verifier, one, choices, at) for one in texts]
    if len(stored) == 1:
        shown = stored[0].get("answer") if kind.takes_places and not isinstance(accepted[0], str) else None
        return shown or _text(accepted[0]), stored[0]
    several = [{"answer": text, **one} for text, one in zip(texts, stored, strict=True)]
    alike = {key: value for key, value in several[0].items() if all(one[key] == value for one in several)}
    different = [{key: value for key, value in one.items() if key not in alike} for one in several]
    return json.dumps(accepted, ensure_ascii=False), {**alike, "any_of": different}


def _accepted(given: Any, at: str) -> list[Any]:
    """The answers that are accepted, none twice; none where there is none.

    Forms of several: a list; SQuAD's `{"text": […]}`; TriviaQA's `{"value": …, "aliases": […]}`.
    """
    if isinstance(given, Mapping):
        if "aliases" in given:
            given = [given.get("value"), *_listed(given["aliases"])]
        elif (texts := given.get("text")) is not None:
            given = _listed(texts)
        else:
            raise ConfigError(
                f"prompts: {at}: the answer is an object with {', '.join(given)}, and no text",
                f"name what is meant within it: `fields: {{answer: COLUMN.{next(iter(given), 'KEY')}}}`",
            )
    found: dict[str, Any] = {}
    for one in _listed(given):
        if isinstance(one, list | Mapping):
            raise ConfigError(
                f"prompts: {at}: an answer within the list of accepted ones is no text",
                "write a list of texts or numbers",
            )
        if one is not None and _text(one).strip():
            found.setdefault(_text(one), one)
    return list(found.values())


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _text(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
