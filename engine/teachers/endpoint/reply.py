"""What a server's reply means: a response, or one of five kinds of failure."""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import openai

from engine.base import foreign_json
from engine.base.foreign_json import Value, WrongShape
from engine.models.reasoning import split_reasoning
from engine.teachers.response_status import status
from storage.records import Request, Response, Status

Kind = Literal["overload", "down", "fault", "rejected", "unusable"]
"""overload: too much is asked; down: not reached; fault: a broken reply, perhaps because of this request;
rejected: this request is refused and will be again; unusable: every request will be."""

BYTES_PER_TOKEN = 4
"""For servers that do not say how many tokens they used."""

MAX_BYTES_PER_TOKEN = 256
"""No vocabulary has longer tokens on average: cl100k's longest, a run of spaces, has 128."""

BUSY = (429, 503, 529)
"""Status codes of a server of which too much is asked."""

_SHOWN = 300
_TOO_LONG = re.compile(
    r"context[ _](?:length|window)|maximum.{0,20}length|too (?:long|many tokens)", re.IGNORECASE
)
_KEY = "set the variable that `api_key_env` names to a key that this server takes"
_REMEDIES = {
    401: _KEY,
    402: "the account behind the key has nothing left: fill it up, or use another key",
    403: _KEY,
    404: "check the address (it usually ends with /v1) and the model's name there",
}
_FINISH = {"length": "length", "max_tokens": "length", "content_filter": "content_filter"}
_BROKEN = ("error", "abort", "cancelled")


class Failure(Exception):
    """A request that brought no answer.

    Args:
        kind: what it says of the server.
        message: for the operator.
        wait: seconds that the server asks to be left alone; None when it does not.
        status: of the response, when this is the last word.
        remedy: what the operator can do, where the reply tells.
        code: HTTP status, where there was one that matters; else 0.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        wait: float | None = None,
        status: Status = "error",
        remedy: str = "",
        code: int = 0,
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.wait, self.status, self.remedy = kind, message, wait, status, remedy
        self.code = code


def read(body: bytes, request: Request, latency_s: float) -> Response:
    """The response in a reply's body.

    Raises:
        Failure: not JSON, or JSON without a response.
    """
    try:
        reply = foreign_json.parse(body)
        choice = reply["choices"][0]
        message = choice.get("message") or Value({"content": choice["text"].text()})
        reason = "stop" if (given := choice.get("finish_reason")) is None else given.text()
        refusal, text = _text(message.get("refusal")), _text(message.get("content"))
        reasoning = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
    except WrongShape as problem:
        start = body[:80].decode("utf-8", "replace")
        raise Failure("fault", f"the reply has no response: {problem}; it starts {start!r}") from None
    if reason in _BROKEN:
        raise Failure("fault", f"the server ended the response with finish_reason {reason!r}")
    finish = "content_filter" if refusal else _FINISH.get(reason, "stop")
    if not reasoning:
        reasoning, text = split_reasoning(text)
    size = len(text.encode("utf-8", "replace")) + len(reasoning.encode("utf-8", "replace"))
    if size > MAX_BYTES_PER_TOKEN * request.sampling.max_tokens:
        # Stored, it would be judged, at a judge's price, and learned.
        raise Failure(
            "fault", f"a response of {size:,} bytes is not one of {request.sampling.max_tokens:,} tokens"
        )
    asked = "".join(str(turn["content"]) for turn in request.messages)
    return Response(
        key=request.key,
        text=text,
        status=status(text, finish),
        finish_reason=finish,
        prompt_tokens=_tokens(reply, "prompt_tokens", asked),
        completion_tokens=_tokens(reply, "completion_tokens", text + reasoning),
        latency_s=latency_s,
        reasoning=reasoning,
        error=refusal[:_SHOWN],
    )


def failure(error: openai.APIError, now: float) -> Failure:
    """What an error of the client means; `now` in seconds since the epoch, for a Retry-After that is a date."""
    if isinstance(error, openai.APIStatusError):
        return _refused(error, now)
    cause = error.__cause__
    # The client's transport differs by its version; the names of its errors do not.
    name = type(cause or error).__name__
    said = f"{cause or error}"
    if name == "ReadTimeout":
        return Failure("fault", "no reply within the timeout")
    reason = f"{name}: {said}" if said else name
    if name in ("ConnectError", "ConnectTimeout", "ProxyError"):
        return Failure("down", f"cannot be reached ({reason})")
    if name in ("LocalProtocolError", "UnsupportedProtocol", "InvalidURL"):
        return Failure("unusable", f"the request cannot be sent ({reason})")
    return Failure("fault", reason)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by the header Retry-After, a number or an HTTP date; None without a usable one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _refused(error: openai.APIStatusError, now: float) -> Failure:
    code = error.status_code
    said = _said(error)
    message = f"HTTP {code}: {said}"
    wait = retry_after(error.response.headers, now)
    if code == 429 and "insufficient_quota" in said:
        return Failure("unusable", message, remedy=_REMEDIES[402])
    if code in BUSY:
        return Failure("overload", message, wait, code=code)
    if code == 502:
        return Failure("down", message, wait)
    if code >= 500 or code in (408, 409, 425):
        return Failure("fault", message, wait)
    if code in (401, 402, 403, 404, 405) or code < 400:
        return Failure("unusable", message, remedy=_REMEDIES.get(code, ""))
    if "content_filter" in said or "content_policy" in said:
        return Failure("rejected", message, status="refused")
    if code == 413 or _TOO_LONG.search(said):
        return Failure("rejected", message, status="too_long")
    return Failure("rejected", message)


def _said(error: openai.APIStatusError) -> str:
    """What the server says of the error, with its code."""
    body: Any = error.body
    if isinstance(body, dict):
        parts = [str(body[key]) for key in ("code", "message", "detail") if body.get(key)]
        if parts:
            return ": ".join(parts)[:_SHOWN]
    return (str(body) if body else error.response.reason_phrase)[:_SHOWN]


def _text(content: Value | None) -> str:
    """The text of a message's content: a string, a list of parts, or nothing."""
    if content is None:
        return ""
    if isinstance(content.raw, list):
        return "".join(_text(part.get("text")) for part in content.list())
    return content.text()


def _tokens(reply: Value, key: str, text: str) -> int:
    """What the server counted, or else a guess."""
    try:
        return reply["usage"][key].integer()
    except WrongShape:
        return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)
