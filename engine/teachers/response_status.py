"""What all backends say the same way of an answer: its status, its failure."""

import re

from storage.records import Request, Response, Status

_REFUSAL_CHARS = 300
_REFUSAL = re.compile(
    r"(?:I['’]m sorry|I am sorry|Sorry|I apologi[sz]e)[,.]? (?:but )?I(?: am|['’]m)? ?"
    r"(?:can['’]?t|cannot|unable to|not able to) (?:assist|help|comply|fulfill|answer|provide)\b"
    r"|I(?:['’]m| am)? (?:can['’]?t|cannot|won['’]?t|unable to|not able to) (?:assist|help)(?: you)? with "
    r"(?:that|this|your|the)\b",
    re.IGNORECASE,
)
_FINISH: dict[Status, str] = {"too_long": "too_long", "refused": "content_filter"}


def status(text: str, finish_reason: str) -> Status:
    """What became of an answer that came; `finish_reason` is what `engine.models.endings.ending` gives.

    An answer whose end is not known is one that may have been cut off.
    """
    if finish_reason == "length":
        return "truncated"
    if finish_reason in ("content_filter", "error"):
        return "refused" if finish_reason == "content_filter" else "error"
    if not text.strip():
        return "empty"
    if finish_reason != "stop":
        return "truncated"
    if len(text) <= _REFUSAL_CHARS and _REFUSAL.match(text.strip()):
        return "refused"
    return "ok"


def failed(request: Request, status: Status, reason: str, prompt_tokens: int = 0) -> Response:
    """The response to a request that got none."""
    return Response(
        key=request.key,
        text="",
        status=status,
        finish_reason=_FINISH.get(status, "error"),
        prompt_tokens=prompt_tokens,
        completion_tokens=0,
        latency_s=0.0,
        error=reason,
    )
