"""What a server's error means, by its status, its codes and its words, wherever they stand.

One classifier for every status and for error objects in replies of status 200. The words are those of the servers that
people run and rent; each pattern names whose they are.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from engine.base import foreign_json
from engine.base.foreign_json import WrongShape
from engine.base.sanitize import one_line
from storage.records import Status

Kind = Literal["overload", "down", "fault", "rejected", "unusable"]
"""overload: too much is asked; down: not reached; fault: a broken reply, perhaps because of this request;
rejected: this request is refused and will be again; unusable: every request will be."""

BUSY: Final = (429, 503, 529)
"""Status codes of a server of which too much is asked."""


@dataclass(eq=False)
class Failure(Exception):
    """A request that brought no answer."""

    kind: Kind
    """What it says of the server."""
    message: str
    """For the operator."""
    wait: float | None = None
    """Seconds that the server asks to be left alone; None when it does not."""
    status: Status = "error"
    """Of the response, when this is the last word."""
    remedy: str = ""
    """What the operator can do, where the reply tells."""
    code: int = 0
    """HTTP status, where there was one that matters; else 0."""
    parameter: str = ""
    """The request's own parameter that the server refuses, so that it refuses every request."""


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


TOO_LONG: Final = _any(
    # OpenAI, vLLM, OpenRouter, Mistral, LM Studio, Ollama, llama.cpp, SGLang, MiniMax, Groq, xAI, Together
    r"context[ _-]?(?:length|window|size|limit|overflow)",
    r"max(?:imum)?.{0,20}(?:length|seq_len|model_len|input_len|session_len)",
    r"(?:prompt|input|message|request|text|content|sequence|conversation|query)s?\b"
    r".{0,40}(?<!took )too (?:long|large|many)",
    r"too many (?:input |prompt )?tokens(?!,? please wait)",  # Cohere, AI21; Bedrock's throttling says it otherwise
    r"(?:prompt|input).{0,20}(?:is longer than|is larger than|is greater than)",
    r"(?:prompt|input|sequence|conversation|messages?|tokens?).{0,60}(?<!rate limit )"
    r"(?:exceed|must be less than|over the limit|supports? (?:only )?(?:up to|at most))",
    r"supports (?:only )?(?:up to|at most) [\d,]+ tokens",
    # Moonshot; OpenAI and Groq; DashScope
    r"exceeded model token limit|token limit exceeded|length of the (?:messages|prompt|input)|range of input length",
    r"inputs?`? (?:tokens? \+|must have less than)",  # TGI
    r"max(?:_completion|_new)?_tokens must be at least 1, got -",  # vLLM, when the prompt alone is too long
    r"request[ _](?:entity[ _])?too[ _]large|payload too large|string_above_max_length|expected maxLength",
    r"n_ctx|超长|过长|长度超|超过.{0,12}长度|超出.{0,12}长度",  # llama.cpp; Zhipu, Qwen
)
_OF_THE_BOUND: Final = re.compile(r"max_\w*tokens|(?:completion|output) tokens", re.IGNORECASE)
_OF_THE_PROMPT: Final = re.compile(
    r"prompt|input|context|messages|sequence|conversation|got -", re.IGNORECASE
)
_BOUND_BY_ITSELF: Final = re.compile(r"max_\w*tokens\W* must be less than or equal", re.IGNORECASE)
"""An error about the bound on generated tokens alone is not one prompt's; the last is Groq's."""
FLAGGED: Final = _any(
    r"content[ _-]?(?:filter|policy|management|moderation)|responsible ?ai",  # OpenAI, Azure, Moonshot
    r"moderation|flagged|safety (?:system|filter|setting|polic|reason|check)",  # OpenRouter, OpenAI
    r"prompt (?:was )?blocked|block_?reason|prohibited[ _]content",  # Gemini
    r"guardrail|inappropriate|data_?inspection",  # Bedrock, DashScope
    r"(?<!case[- ])sensitive|unsafe|content exists risk",  # Doubao, MiniMax; DeepSeek
    r"\bsafety\b|request (?:was|has been) blocked|blocked by (?!cloudflare|firewall|network)",
    r"violat\w* .{0,60}(?:polic|guideline|terms)|usage polic|invalid_prompt",  # OpenAI, Anthropic
    r"harmful|jailbreak|high risk",  # Moonshot
    r"不安全|敏感|违规|涉及.{0,8}风险|风险内容",  # Zhipu, Hunyuan, ERNIE
)
_ACCOUNT: Final = _any(
    r"(?:account|organi[sz]ation|project|user|key|subscription) .{0,40}"
    r"(?:suspend|ban|block|deactivat|disabl|terminat|restrict)",
    r"country|region|territory|not authori[sz]ed|permission|access denied",
)
_KEY_WORDS: Final = _any(
    r"api[ _-]?key (?:is )?(?:not valid|invalid|expired|missing)|API_KEY_INVALID",  # Gemini, with status 400
    r"invalid[ _-]?api[ _-]?key|unauthenticated|invalid[ _]token",
)
_SPENT: Final = _any(
    r"insufficient[ _](?:quota|balance|credit|fund)|exceeded_current_quota|credit balance|out of credits",
    r"payment required",
    r"arrear|overdue|余额|欠费|billing[_ ](?:hard|not)|account is not active",
)
_NO_MODEL: Final = _any(
    r"model[_ ]not[_ ](?:found|exist|open)|no models? (?:is |are )?loaded|(?:unknown|no such|invalid|valid) model",
    r"model is required",
    r"models? .{0,80}(?:does not exist|do not exist|not found|not exist|is not (?:loaded|available|supported|a valid))",
)
_BUSY_WORDS: Final = _any(r"rate[ _-]?limit|throttl|too[ _]many[ _]requests|overloaded|at[ _]capacity")
_MINIMAX: Final = {
    "1000": 500,
    "1001": 504,
    "1002": 429,
    "1004": 401,
    "1008": 402,
    "1026": 400,
    "1027": 400,
    "1039": 429,
}
"""Its own codes, in `base_resp` of a reply of status 200."""
_WORDS_OF_STATUS: Final = (
    # What stands in `code`, `type` or `status` of an error without a number: OpenAI, Anthropic, gRPC (Gemini), Bedrock.
    (429, _any(r"rate_?limit|resource_exhausted|throttl|too_?many_?requests|rate_limited|1302|1305")),
    (529, _any(r"overloaded|engine_overloaded|at_capacity")),
    (503, _any(r"unavailable|not_?ready|model_?loading|loading_model")),
    (504, _any(r"deadline_exceeded|timeout")),
    (401, _any(r"authentication|unauthenticated|invalid_api_key|unauthorized")),
    (402, _any(r"insufficient_quota|insufficient_balance|billing|payment_required|arrearage")),
    (403, _any(r"permission|forbidden")),
    (404, _any(r"not_?found")),
    (
        400,
        _any(
            r"invalid_?(?:request|argument|parameter|prompt)|bad_?request|failed_precondition|content_filter"
        ),
    ),
    (500, _any(r"server_?error|internal|api_error")),
)

_KEY_REMEDY: Final = "set the variable that `api_key_env` names to a key that this server takes"
_REMEDIES: Final = {
    401: _KEY_REMEDY,
    402: "the account behind the key has nothing left: fill it up, or use another key",
    403: _KEY_REMEDY,
    404: "check the address (it usually ends with /v1) and the model's name there",
    405: "check the address (it usually ends with /v1)",
}
_AFFORD: Final = "lower `sampling: {max_tokens: …}` of this teacher, or fill up the account behind the key"
_QUOTED: Final = frozenset(
    ("flagged_input", "input", "ctx", "prompt", "messages", "failed_generation", "request")
)
"""Keys under which a server quotes the request: its words are not the server's."""
_MOST_LEAVES: Final = 200
_SHOWN: Final = 300
_READ: Final = 4000
"""Characters of an error that are looked at."""


def meaning(code: int | None, body: bytes, headers: Mapping[str, str], now: float) -> Failure:
    """What an error means.

    Args:
        code: HTTP status; None where an error came as a reply of status 200.
        body: of the reply, whatever is in it.
        headers: of the reply.
        now: seconds since the epoch, for a time that is a date.
    """
    data = _data(body)
    leaves = list(_leaves(data)) if not isinstance(data, str) else [("message", data)]
    text = " ".join(f"{value}" for key, value in leaves if key not in _QUOTED)[:_READ]
    said = _said(data).removeprefix(f"{code}: ")
    given, code = code, _code(leaves, text) if code is None else code
    if given in (400, 403, 500) and (_BUSY_WORDS.search(_codes(leaves)) or "ThrottlingException" in text):
        code = 429
    message = f"HTTP {given}: {said}" if given else f"the reply is an error: {said}"
    wait = _wait(headers, leaves, text, now)
    if code in BUSY and not re.search(r"request too large", text, re.IGNORECASE):
        # Gemini speaks of a quota where it only means: slower.
        spent = _SPENT.search(text) if wait is None or "insufficient_quota" in text else None
        if spent and code == 429:
            return Failure("unusable", message, remedy=_REMEDIES[402])
        return Failure("overload", message, wait, code=code)
    of_the_bound = _OF_THE_BOUND.search(text) and not _OF_THE_PROMPT.search(text)
    of_the_prompt = TOO_LONG.search(text) and not of_the_bound and not _BOUND_BY_ITSELF.search(text)
    if code == 413 or (code not in (401, 402, 404, 408, 504) and of_the_prompt):
        return Failure("rejected", message, status="too_long")
    if code in (None, 400, 403, 422, 451, 500) and FLAGGED.search(text) and not _ACCOUNT.search(text):
        return Failure("rejected", message, status="refused")
    if code == 502:
        return Failure("down", message, wait)
    if code is None or code >= 500 or code in (408, 409, 425):
        return Failure("fault", message, wait)
    if code == 402 and "max_tokens" in text:
        return Failure("unusable", message, remedy=_AFFORD)
    if code in (401, 402, 403, 404, 405) or code < 400:
        return Failure("unusable", message, remedy=_REMEDIES.get(code, ""))
    for words, remedy in ((_SPENT, 402), (_KEY_WORDS, 401), (_NO_MODEL, 404)):
        if words.search(text):
            return Failure("unusable", message, remedy=_REMEDIES[remedy])
    return Failure("rejected", message, parameter=_parameter(leaves, said))


PARAMETERS: Final = ("temperature", "top_p", "top_k", "seed", "stop", "max_completion_tokens", "max_tokens")


def remedy(parameter: str, said: str) -> str:
    """What helps against a server that refuses a parameter of every request."""
    if parameter == "max_tokens" and "max_completion_tokens" in said:
        return (
            "this server calls it otherwise: `endpoint: {token_limit: max_completion_tokens}` of the teacher"
        )
    if parameter not in PARAMETERS:
        return f"take `{parameter}` out of the teacher's `endpoint: {{extra_body: …}}`, or mend it"
    if parameter == "max_completion_tokens":
        parameter = "max_tokens"
    return (
        f"leave it out with `sampling: {{{parameter}: null}}` of the teacher (of a registered model: "
        f"`endpoint: {{leave_out: [{parameter}]}}`), or give a value that this server takes"
    )


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


_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_TRY_AGAIN: Final = re.compile(
    r"(?:try again|retry|wait)\w* (?:in|after|for)?\s*((?:\d+h)?(?:\d+m)?\d+(?:\.\d+)?\s?m?s)", re.IGNORECASE
)


def _wait(headers: Mapping[str, str], leaves: list[tuple[str, Any]], text: str, now: float) -> float | None:
    """Seconds that the server asks to be left alone, in whichever way it says so; None where it does not."""
    inner = {key.lower(): str(value) for key, value in leaves}
    for told in (headers, inner):
        if (seconds := retry_after(told, now)) is not None:
            return seconds
        with suppress(ValueError):
            return max(0.0, float(told.get("retry-after-ms", "")) / 1000)
        with suppress(ValueError):
            at = float(told.get("x-ratelimit-reset", ""))
            at = at / 1000 if at > 1e11 else at  # OpenRouter: milliseconds since the epoch
            left = at - now if at > 1e8 else at
            if 0 < left < math.inf:
                return left
    said = inner.get("retrydelay") or (found[1] if (found := _TRY_AGAIN.search(text)) else "")
    if said and (parts := _DURATION.fullmatch(said.replace(" ", ""))) and any(parts.groups()):
        hours, minutes, seconds_, thousandths = (float(part or 0) for part in parts.groups())
        return 3600 * hours + 60 * minutes + seconds_ + thousandths / 1000
    return None


def _data(body: bytes) -> Any:
    """The JSON in an error's body; its text, or its title, where it is none."""
    try:
        data = foreign_json.parse(body).raw
    except WrongShape:
        text = body[: 4 * _READ].decode("utf-8", "replace")
        title = re.search(r"<title>([^<]{1,200})</title>", text, re.IGNORECASE)
        return title[1] if title else text
    return data[0] if isinstance(data, list) and data else data


def _leaves(data: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(key, value) of what an error holds, JSON within text included, but for what it quotes of the request."""
    if isinstance(data, str) and depth < 8 and data.lstrip()[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):  # OpenRouter's `metadata.raw` is the upstream's whole body
            data = json.loads(data)
    if isinstance(data, Mapping | list) and depth < 8:
        pairs = data.items() if isinstance(data, Mapping) else ((key, item) for item in data)
        for index, (name, item) in enumerate(pairs):
            if index >= _MOST_LEAVES:
                return
            if name not in _QUOTED:
                yield from _leaves(item, str(name), depth + 1)
        if key == "loc" and isinstance(data, list) and data:  # FastAPI: what a 422 is about
            yield "param", data[-1]
    elif isinstance(data, str | int | float) and not isinstance(data, bool):
        yield key, data[:_READ] if isinstance(data, str) else data


_NAMES_CODE: Final = (
    "code",
    "status",
    "status_code",
    "statusCode",
    "type",
    "error_code",
    "http_code",
    "reason",
)


def _codes(leaves: list[tuple[str, Any]]) -> str:
    """What an error says of itself in words that are meant for programs."""
    return " ".join(str(value) for key, value in leaves if key in _NAMES_CODE)


def _code(leaves: list[tuple[str, Any]], text: str) -> int | None:
    """The HTTP status that an error in a reply of status 200 stands for; None where it tells none."""
    named = _codes(leaves).split()
    for value in named:
        if value in _MINIMAX and any(key == "status_msg" for key, _ in leaves):
            return _MINIMAX[value]
        if re.fullmatch(r"[45]\d\d", value):
            return int(value)
        if re.fullmatch(r"[45]\d{4}", value):  # FastChat: 42901
            return int(value) // 100
    for status, words in _WORDS_OF_STATUS:
        if any(words.search(value) for value in named):
            return status
    return 429 if _BUSY_WORDS.search(text) else 402 if _SPENT.search(text) else None


def _parameter(leaves: list[tuple[str, Any]], said: str) -> str:
    """The request's own parameter that an error is about; empty where it is about something else."""
    named = {str(value).rpartition(".")[2] for key, value in leaves if key in ("param", "parameter")}
    quoted, bare = r"[`'\"‘“]{0}[`'\"’”]|\b{0}: extra inputs", r"\b{0}\b"
    told = {
        each
        for each in PARAMETERS
        if re.search(
            (bare if "_" in each else quoted).format(each), said, re.IGNORECASE
        )  # others are words, too
    }
    return next((each for found in (named, told) for each in PARAMETERS if each in found), "")


def _said(data: Any) -> str:
    """What the server says of the error, with its code, on one line."""
    if isinstance(data, Mapping):
        for key in ("error", "base_resp", "errors"):
            if data.get(key):
                inner = data[key][0] if isinstance(data[key], list) else data[key]
                return _said(inner)
        keys = (
            "code",
            "status_code",
            "error_code",
            "message",
            "msg",
            "status_msg",
            "error_msg",
            "detail",
            "title",
        )
        parts = [_words(data[key]) for key in keys if data.get(key)]
        if isinstance(more := data.get("metadata"), Mapping) and (
            raw := more.get("raw") or more.get("reasons")
        ):
            parts.append(_words(raw))  # OpenRouter's own message is "Provider returned error"
        if parts:
            return one_line(": ".join(parts), _SHOWN)
    return one_line(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False), _SHOWN)


def _words(value: Any) -> str:
    """What FastAPI lists of a request's faults, as a sentence each; any other value as text."""
    value = value.get("detail", value) if isinstance(value, Mapping) else value
    if isinstance(value, list) and all(isinstance(item, Mapping) and "msg" in item for item in value):
        return "; ".join(f"{'.'.join(map(str, item.get('loc', ())))}: {item['msg']}" for item in value[:5])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
