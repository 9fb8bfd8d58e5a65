"""From a row's reference answer to what the scorer `exact_answer` needs, checked while the row's place is known.

A reference that no answer could ever match would make every answer wrong without a word.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from engine.base.errors import ConfigError


def verifier_of(kind: str, answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    """The verifier of a prompt, as `engine.scorers.kinds.exact_answer` documents it.

    Args:
        kind: `math`, `choice`, `regex`, `json` or `text`.
        answer: the reference; for `choice` a letter or one of the choices' texts, for `regex` the pattern.
        choices: for `choice`: a list of texts, or JSON of one; None when the row has none.
        at: file and line, for errors.

    Raises:
        ConfigError: the reference does not fit the kind.
    """
    if kind == "choice":
        return _choice(answer, choices, at)
    if kind == "regex":
        try:
            re.compile(answer)
        except re.error as error:
            raise ConfigError(
                f"prompts: {at}: {answer[:80]!r} is not a regular expression: {error}", "mend the pattern"
            ) from None
        return {"kind": "regex", "pattern": answer}
    if kind == "json":
        try:
            json.loads(answer)
        except ValueError as error:
            raise ConfigError(
                f"prompts: {at}: the reference answer is not JSON: {error}",
                "a reference that is a string is written with its quotes",
            ) from None
    return {"kind": kind}


def _choice(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    if isinstance(choices, str):  # CSV holds a list as JSON text
        try:
            choices = json.loads(choices)
        except ValueError:
            raise ConfigError(f"prompts: {at}: the choices are not JSON", "write a list of texts") from None
    if choices is not None and not (isinstance(choices, list) and all(isinstance(c, str) for c in choices)):
        raise ConfigError(f"prompts: {at}: the choices are not a list of texts", "write a list of texts")
    texts = list(choices or ())
    letter = answer.strip().strip("().").upper()
    if answer in texts:
        letter = chr(ord("A") + texts.index(answer))
    if not re.fullmatch("[A-Z]", letter) or (texts and ord(letter) - ord("A") >= len(texts)):
        raise ConfigError(
            f"prompts: {at}: the reference answer {answer[:80]!r} is none of the choices",
            "give the letter (A is the first choice) or the choice's text",
        )
    return {"kind": "choice", "answer": letter, "choices": texts}
