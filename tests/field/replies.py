"""What the tests of this folder have in common: a reply, and what is made of it."""

import json
import time
from typing import Any

from engine.config.endpoint import EndpointConfig
from engine.teachers.endpoint.failure import Failure, meaning
from engine.teachers.endpoint.reply import read
from storage.records import Request, Response, Sampling

ASKED = Request(1, ({"role": "user", "content": "What is 2 + 2?"},), Sampling(max_tokens=48))


def body(
    text: Any = "The sum is 4.", finish: Any = "stop", choice: Any = (), usage: Any = None, **message: Any
) -> bytes:
    """A reply's body; `choice` holds more keys of its choice."""
    inner = {"index": 0, "message": {"role": "assistant", "content": text, **message}, **dict(choice)}
    if finish != "left out":
        inner["finish_reason"] = finish
    given = {"prompt_tokens": 9, "completion_tokens": 12} if usage is None else usage
    return json.dumps({"id": "c1", "choices": [inner], "usage": given}, ensure_ascii=False).encode()


def answered(reply: bytes, **settings: Any) -> Response:
    """The response in a reply of status 200."""
    return read(reply, {}, ASKED, EndpointConfig.model_validate(settings), 0.1)


def refused(status: int | None, error: Any, headers: Any = ()) -> Failure:
    """What an error means; `error` is its body, as JSON or as text."""
    sent = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    return meaning(status, sent.encode(), dict(headers), time.time())


def verdict(status: int, reply: bytes) -> list[str]:
    """In one word what a reply is, with what belongs to it."""
    try:
        if status >= 400:
            raise meaning(status, reply, {}, time.time())
        found = answered(reply)
    except Failure as problem:
        if problem.parameter:
            return ["parameter", problem.parameter]
        if problem.kind == "rejected":
            return [problem.status]
        return [problem.kind]
    return [found.status, found.finish_reason, found.text, found.reasoning]
