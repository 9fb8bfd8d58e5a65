"""Whether a response is right, by its prompt's verifier: what runs inside the worker process of `exact_answer`."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.base.errors import ConfigError
from engine.base.plugins import VERIFIERS
from engine.config.kinds import VerifierKind, verifier_kind
from engine.verifiers.comparison import FULL_SCORE, SHOWN, UnverifiableError, Verdict

Outcome = dict[str, Any]
"""`value` (1.0, 0.0, or None), `status` (`ok` or `unverifiable`), `detail` (small JSON)."""


def stored_with(kind: str, answer: Any, choices: Any, at: str) -> Mapping[str, Any]:
    """The verifier that is stored with a prompt.

    A reference that nothing could match would make every response wrong without a word, so it is refused here, where
    its place is known.

    Args:
        kind: one of `engine.config.kinds.verifiers`.
        answer: the reference.
        choices: the row's choices, or None.
        at: file and line, for errors.

    Raises:
        ConfigError: the reference does not fit the kind.
    """
    stored = verifier_kind(kind).stored
    return {"kind": kind, **(stored(answer, choices, at) if stored is not None else {})}


def verify(verifier: Mapping[str, Any], reference: str | None, text: str) -> Outcome:
    """Whether a response is right: `value` 1.0 or 0.0; None with a reason when its verifier cannot be used.

    Args:
        verifier: `{"kind": …}` and what `stored_with` or the prompt's source put there; under `any_of` what each of
            several references has of its own, of which one is enough.
        reference: the prompt's reference answer; a verifier's own `answer` goes before it.
        text: the whole response.
    """
    try:
        kind = _kind(verifier)
        each = [{**verifier, **one} for one in verifier.get("any_of") or [dict[str, Any]()]]
        found = _best(Verdict(*kind.verify(one, one.get("answer", reference), text)) for one in each)
    except UnverifiableError as error:
        return {"value": None, "status": "unverifiable", "detail": {"reason": str(error)}}
    detail: dict[str, Any] = {"extracted": found.extracted[:SHOWN]}
    if found.why:
        detail["why"] = found.why
    if 0.0 < found.score < FULL_SCORE:
        detail["score"] = found.score
    return {"value": float(found.score >= FULL_SCORE), "status": "ok", "detail": detail}


def _best(found: Iterator[Verdict]) -> Verdict:
    """The first that is right, else the first of the best."""
    best = next(found)
    while best.score < FULL_SCORE and (another := next(found, None)) is not None:
        best = another if another.score > best.score else best
    return best


def prepare(kind: str) -> None:
    """Imports what a kind needs, so that no response's time limit pays for it."""
    if kind in VERIFIERS.names():
        verifier_kind(kind).prepare()


def _kind(verifier: Mapping[str, Any]) -> VerifierKind:
    name = verifier.get("kind")
    try:
        return verifier_kind(str(name))
    except ConfigError:
        known = ", ".join(VERIFIERS.names())
        raise UnverifiableError(f"unknown verifier kind {name!r}; known: {known}") from None
