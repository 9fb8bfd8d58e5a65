"""What a server's reply means: a response, or a failure."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import openai

from engine.base import foreign_json
from engine.base.foreign_json import Value, WrongShape
from engine.base.sanitize import one_line
from engine.config.endpoint import EndpointConfig
from engine.models.endings import ending, is_given
from engine.models.reasoning import said
from engine.teachers.endpoint.failure import Failure, meaning
from engine.teachers.response_status import status
from storage.records import Request, Response

BYTES_PER_TOKEN = 4
"""For servers that do not say how many tokens they used."""

MAX_BYTES_PER_TOKEN = 256
"""No vocabulary has longer tokens on average: cl100k's longest, a run of spaces, has 128."""

_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks", "thoughts")
"""Fields of a message that hold reasoning: of DeepSeek, SGLang; vLLM, Groq; OpenRouter; Ollama; LiteLLM."""
_THOUGHT_PARTS = ("thinking", "reasoning", "reasoning_text", "thought", "summary_text")
"""Types of a content's parts that hold reasoning, of Mistral, Anthropic, Bedrock and Cohere."""
_ENDS = ("finish_reason", "native_finish_reason", "finish_details", "done_reason")
"""Fields of a choice that say how it ended, of: everybody; OpenRouter; OpenAI's former ones; Ollama."""
_OF_ERRORS = (
    "error",
    "errors",
    "detail",
    "message",
    "code",
    "error_code",
    "base_resp",
    "promptFeedback",
    "prompt_feedback",
)
"""Fields of a reply without a response that say why."""
_SHOWN = 300


def read(
    body: bytes,
    headers: Mapping[str, str],
    request: Request,
    settings: EndpointConfig,
    latency_s: float,
) -> Response:
    """The response in a reply of status 200.

    Args:
        body: of the reply.
        headers: of the reply.
        request: what was asked.
        settings: of the endpoint: what was sent, and what its words mean.
        latency_s: seconds that it took.

    Raises:
        Failure: an error, not JSON, or JSON without a response.
    """
    try:
        reply = foreign_json.parse(_uncommented(body))
        without = not reply.object().get("choices") and any(reply.raw.get(key) for key in _OF_ERRORS)
        if without or reply.raw.get("error"):
            raise meaning(None, body, headers, time.time())
        choice = reply["choices"][0]
        if choice.object().get("error"):
            raise meaning(None, json.dumps(choice.raw["error"]).encode(), headers, time.time())
        message = choice.get("message") or Value({"content": choice["text"].text()})
        text, refusal = _text(message.get("content")), _text(message.get("refusal"))
    except WrongShape as problem:
        start = one_line(body[:_SHOWN].decode("utf-8", "replace"), 80)
        raise Failure("fault", f"the reply has no response: {problem}; it starts {start!r}") from None
    thought, bounded = _thought(message), "max_tokens" not in settings.leave_out
    size = len(text.encode("utf-8", "replace")) + len(thought.encode("utf-8", "replace"))
    if bounded and size > MAX_BYTES_PER_TOKEN * request.sampling.max_tokens:
        # Stored, it would be judged, at a judge's price, and learned.
        raise Failure(
            "fault", f"a response of {size:,} bytes is not one of {request.sampling.max_tokens:,} tokens"
        )
    refusal = refusal or "".join(_flat(part.get("refusal")) for part in _parts(message))
    counted = _counted(reply, "completion_tokens")
    finish = _finish(choice.raw, settings)
    if finish is None:
        cut = bounded and (counted or 0) >= request.sampling.max_tokens
        finish = "length" if cut else "stop"
    if finish == "error":
        raise Failure("fault", f"the server ended the response with finish_reason {_given(choice.raw)!r}")
    apart = said(text, settings.reasoning_marks, parsed=bool(thought))
    reasoning = (
        thought if apart.reasoning in thought else "\n\n".join(filter(None, (thought, apart.reasoning)))
    )
    finish = "content_filter" if refusal else finish
    asked = "".join(str(turn["content"]) for turn in request.messages)
    return Response(
        key=request.key,
        text=apart.answer,
        status=status(apart.answer, finish),
        finish_reason=finish,
        prompt_tokens=_tokens(_counted(reply, "prompt_tokens"), asked),
        completion_tokens=_tokens(counted, text + thought),
        latency_s=latency_s,
        reasoning=reasoning,
        error=one_line(refusal, _SHOWN),
        mark=apart.mark if apart.reasoning else "its own field" if thought else "",
    )


def failure(error: openai.APIError, now: float) -> Failure:
    """What an error of the client means; `now` in seconds since the epoch, for a Retry-After that is a date."""
    if isinstance(error, openai.APIStatusError):
        reply = error.response
        body = reply.content or reply.reason_phrase.encode()
        return meaning(error.status_code, body, reply.headers, now)
    cause = error.__cause__
    # The client's transport differs by its version; the names of its errors do not.
    name = type(cause or error).__name__
    told = one_line(f"{cause or error}")
    if name == "ReadTimeout":
        return Failure("fault", "no reply within the timeout")
    reason = f"{name}: {told}" if told else name
    if name in ("ConnectError", "ConnectTimeout", "ProxyError"):
        return Failure("down", f"cannot be reached ({reason})")
    if name in ("LocalProtocolError", "UnsupportedProtocol", "InvalidURL"):
        return Failure("unusable", f"the request cannot be sent ({reason})")
    return Failure("fault", reason)


def _uncommented(body: bytes) -> bytes:
    """The body without the comments of an event stream before it, by which OpenRouter keeps a connection open."""
    while body.lstrip()[:1] == b":":
        body = body.lstrip().partition(b"\n")[2]
    return body


def _given(choice: Mapping[str, Any]) -> str:
    """How the server says that the response ended; empty where it does not."""
    return next((one_line(str(choice[key]), 80) for key in _ENDS if is_given(choice.get(key))), "")


def _finish(choice: Mapping[str, Any], settings: EndpointConfig) -> str | None:
    """How the response ended, see `engine.models.endings.ending`; None where the server does not say."""
    found = [ending(choice[key], settings.finish_reasons) for key in _ENDS if is_given(choice.get(key))]
    # What OpenRouter calls `stop` may have ended otherwise at the provider.
    worse = [end for end in found[1:] if end in ("length", "content_filter", "error")]
    return worse[0] if worse and found[0] == "stop" else found[0] if found else None


def _text(content: Value | None) -> str:
    """The text of a message's content, a string or a list of parts, without those that hold reasoning."""
    if content is None:
        return ""
    if isinstance(content.raw, list):
        return "".join(
            part.text() if isinstance(part.raw, str) else _text(part.get("text"))
            for part in content.list()
            if not (isinstance(part.raw, Mapping) and _is_thought(part.raw))
        )
    return content.text()


def _is_thought(part: Mapping[str, Any]) -> bool:
    return part.get("type") in _THOUGHT_PARTS or part.get("thought") is True  # Gemini marks a part that is


def _parts(message: Value) -> Iterator[Mapping[str, Any]]:
    """The parts of a message's content that are objects."""
    content = message.object().get("content")
    yield from (part for part in content if isinstance(part, Mapping)) if isinstance(content, list) else ()


def _thought(message: Value) -> str:
    """The reasoning that a server keeps apart, in a field of its own or in parts of the content."""
    fields = (_flat(message.raw.get(key)) for key in _THOUGHTS)
    parts = (_flat(part) for part in _parts(message) if _is_thought(part))
    return (next(filter(str.strip, fields), "") or "\n\n".join(filter(None, parts))).strip()


def _flat(value: Any, depth: int = 0) -> str:
    """The text in whatever a server puts reasoning into; nothing of what is encrypted."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth < 8:
        return "".join(_flat(item, depth + 1) for item in value)
    if isinstance(value, Mapping) and depth < 8:
        inner = (
            value.get(key)
            for key in ("text", "thinking", "reasoning", "summary", "content", "reasoning_text")
        )
        return next(filter(None, (_flat(item, depth + 1) for item in inner)), "")
    return ""


def _counted(reply: Value, key: str) -> int | None:
    """Tokens as the server counted them; None where it did not."""
    with suppress(WrongShape):
        return reply["usage"][key].integer()
    return None


def _tokens(counted: int | None, text: str) -> int:
    """What the server counted, or else a guess: none for a text is no count."""
    if counted or (counted == 0 and not text):
        return counted or 0
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)
