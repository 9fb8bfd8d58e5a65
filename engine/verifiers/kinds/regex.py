"""A regular expression, the reference answer, is found anywhere in the response."""

import re
from collections.abc import Mapping
from typing import Any

from engine.base.errors import ConfigError
from engine.config.kinds import VerifierKind
from engine.verifiers.comparison import UnverifiableError


def verify(verifier: Mapping[str, Any], reference: Any, text: str) -> tuple[float, str]:
    """Whether `pattern` is found."""
    try:
        found = re.search(str(verifier["pattern"]), text)
    except KeyError:
        raise UnverifiableError("the verifier has no `pattern`") from None
    except re.error as error:
        raise UnverifiableError(f"the verifier's pattern is not a regular expression: {error}") from error
    return float(found is not None), found[0] if found else ""


def _stored(answer: str, choices: Any, at: str) -> Mapping[str, Any]:
    try:
        re.compile(answer)
    except re.error as error:
        raise ConfigError(
            f"prompts: {at}: {answer[:80]!r} is not a regular expression: {error}", "mend the pattern"
        ) from None
    return {"pattern": answer}


KIND = VerifierKind(verify=verify, stored=_stored)
