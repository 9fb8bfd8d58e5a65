"""The run file's settings of an endpoint: what is sent, how much at a time, and what to do on failures."""

from __future__ import annotations

import ipaddress
import operator
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from engine.config.section import FinishReasons, ReasoningMarks, Section

Parameter = Literal["temperature", "top_p", "top_k", "max_tokens", "seed", "stop"]
"""What `sampling` has."""

RESERVED = ("model", "messages", "prompt", "stream", "n")
"""Keys of a request's body that `extra_body` may not replace."""


class ConcurrencyConfig(Section):
    """Requests in flight at one URL: where adapting starts, and how far it may go."""

    start: int = Field(8, ge=1, title="first in flight")
    """How many requests at first."""
    max: int = Field(64, ge=1, title="most in flight")
    """How many at most."""

    @model_validator(mode="after")
    def _in_order(self) -> ConcurrencyConfig:
        if self.start > self.max:
            raise ValueError(f"`start` ({self.start}) is above `max` ({self.max})")
        return self


class RetryConfig(Section):
    """When a request is sent again, and when a server is left alone or given up."""

    tries: int = Field(3, ge=1)
    """Broken replies to one request (server error, timeout, garbage) before it is stored as an error."""
    failures: int = Field(5, ge=2)
    """Failures in a row that open the breaker: then one request at a time asks whether the server is well."""
    probes: int = Field(8, ge=1)
    """Failed ones of those before the server is given up in this run."""
    cooldown: float = Field(1.0, gt=0)
    """Seconds before the first of them; twice as many before each next one, up to 60."""
    max_wait: float = Field(900.0, gt=0)
    """Seconds of Retry-After that are waited for; a server that asks for more is given up."""

    @model_validator(mode="after")
    def _one_prompt_opens_no_breaker(self) -> RetryConfig:
        if self.tries >= self.failures:
            raise ValueError("`failures` must be above `tries`, or one bad prompt passes for a dead server")
        return self


class PriceConfig(Section):
    """Dollars per million tokens."""

    input: float = Field(0.0, ge=0, title="price in")
    """$ per million prompt tokens."""
    output: float = Field(0.0, ge=0, title="price out")
    """$ per million response tokens."""


class EndpointConfig(Section):
    """How an OpenAI-compatible endpoint is asked."""

    mode: Literal["chat", "completion"] = "chat"
    """Whether messages are sent, or one text made by `template`."""
    template: str = "{prompt}"
    """The text of a completion request; `{prompt}` is the conversation, its messages a blank line apart."""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What this server calls the bound on generated tokens."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """More keys of the request's body; part of a response's identity. Never put a key here."""
    leave_out: tuple[Parameter, ...] = Field((), exclude_if=operator.not_)
    """Parameters that are not sent, for a server that refuses them; the same as null in `sampling`."""
    finish_reasons: FinishReasons = Field(default_factory=dict)
    """What this server's own words for the end of a response mean, e.g. {done: stop}; those of most are known."""
    reasoning_marks: ReasoningMarks = ()
    """What stands before and after reasoning in a response, e.g. [["<plan>", "</plan>"]]; those of most are known."""
    concurrency: ConcurrencyConfig = ConcurrencyConfig()
    connect_timeout: float = Field(10.0, gt=0)
    """Seconds."""
    read_timeout: float = Field(600.0, gt=0)
    """Seconds for a whole response."""
    retry: RetryConfig = RetryConfig()
    allow_http: bool = False
    """Whether a key may travel unencrypted to another machine."""

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if "{prompt}" not in value:
            raise ValueError("must contain `{prompt}`")
        return value

    @field_validator("leave_out")
    @classmethod
    def _once_each(cls, value: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
        return tuple(sorted(set(value)))

    @field_validator("extra_body")
    @classmethod
    def _only_more(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in RESERVED:
            if key in value:
                raise ValueError(f"`{key}` is set by the engine")
        return value

    @property
    def identity(self) -> dict[str, Any]:
        """What of this shapes a response, as JSON; settings newer than stored responses only where they are set."""
        parts: dict[str, Any] = {"mode": self.mode, "extra_body": self.extra_body}
        if self.mode == "completion":
            parts["template"] = self.template
        newer = ("leave_out", "finish_reasons", "reasoning_marks")
        return parts | self.model_dump(mode="json", include=set(newer))


class Addressed(Section):
    """What is served elsewhere: where it is, whose key is sent, and how it is asked."""

    base_url: str | tuple[str, ...] | None = None
    """http://HOST:8000/v1; several are replicas of one model."""
    api_key_env: str | None = Field(None, title="key variable")
    """Variable that holds the key; None: no key."""
    endpoint: EndpointConfig = EndpointConfig()

    @field_validator("api_key_env")
    @classmethod
    def _is_a_variable_name(cls, value: str | None) -> str | None:
        # A key pasted here would end in the store with the run file.
        if value is not None and not value.replace("_", "").isalnum():
            raise ValueError("must be the *name* of an environment variable, never the key itself")
        return value

    @field_validator("base_url")
    @classmethod
    def _are_addresses(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        urls = (value,) if isinstance(value, str) else () if value is None else value
        if value is not None and not urls:
            raise ValueError("name at least one address")
        if len(set(urls)) < len(urls):
            raise ValueError("the same address stands here twice")
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("must be addresses like `http://127.0.0.1:8000/v1`")
            if parts.username is not None or parts.password is not None or parts.query:
                # It would be stored with the run file.
                raise ValueError("must not hold a password or a query; keys come from `api_key_env`")
        return value

    @model_validator(mode="after")
    def _key_is_safe(self) -> Self:
        urls = (self.base_url,) if isinstance(self.base_url, str) else self.base_url or ()
        open_way = any(urlsplit(url).scheme != "https" and not loopback(url) for url in urls)
        if self.api_key_env and not self.endpoint.allow_http and open_way:
            raise ValueError(
                "`base_url` is plain http, so the key could be read on the way: use https, "
                "or say `endpoint: {allow_http: true}` for a network that you trust"
            )
        return self


def loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
