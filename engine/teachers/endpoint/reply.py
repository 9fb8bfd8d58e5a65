"""What a server's reply means: an answer, or one of five kinds of failure."""

import json
import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import openai

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
        status: of the completion, when this is the last word.
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
    """The completion in a reply's body.

    Raises:
        Failure: not JSON, or JSON without an answer.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise Failure("fault", f"the reply is not JSON: {_start(body)!r}") from None
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Failure("fault", f"the reply has no answer: {_start(body)!r}")
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": choice.get("text")}
    reason = str(choice.get("finish_reason") or "stop")
    if reason in _BROKEN:
        raise Failure("fault", f"the server ended the answer with finish_reason {reason!r}")
    refusal = message.get("refusal")
    text = _text(message.get("content"))
    finish = "content_filter" if refusal else _FINISH.get(reason, "stop")
    reasoning = _text(message.get("reasoning_content") or message.get("reasoning"))
    if not reasoning:
        reasoning, text = split_reasoning(text)
    size = len(text.encode("utf-8", "replace")) + len(reasoning.encode("utf-8", "replace"))
    if size > MAX_BYTES_PER_TOKEN * request.sampling.max_tokens:
        # Stored, it would be judged, at a judge's price, and learned.
        raise Failure(
            "fault", f"an answer of {size:,} bytes is not one of {request.sampling.max_tokens:,} tokens"
        )
    usage = data.get("usage") if isinstance(data.get("usage"), dict) else {}
    asked = "".join(str(turn["content"]) for turn in request.messages)
    return Response(
        key=request.key,
        text=text,
        status=status(text, finish),
        finish_reason=finish,
        prompt_tokens=_tokens(usage.get("prompt_tokens"), asked),
        completion_tokens=_tokens(usage.get("completion_tokens"), text + reasoning),
        latency_s=latency_s,
        reasoning=reasoning,
        error=_text(refusal)[:_SHOWN],
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


def _text(content: Any) -> str:
    """The text of a message's content: a string, a list of parts, or nothing."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    if content is None:
        return ""
    if not isinstance(content, str):
        raise Failure("fault", f"the answer is a {type(content).__name__}, not text")
    return content


def _tokens(given: Any, text: str) -> int:
    if isinstance(given, int) and 0 <= given < 2**31:
        return given
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def _start(body: bytes) -> str:
    return body[:80].decode("utf-8", "replace")
