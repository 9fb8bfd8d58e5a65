"""Answers from any OpenAI-compatible endpoint.

This file stays light, because identities are asked for by commands that send nothing; the work is done in
`engine.teachers.endpoint.client`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.base import api_keys
from engine.base.errors import ConfigError
from engine.config.endpoint import Addressed, EndpointConfig
from engine.config.kinds import TeacherKind
from engine.teachers.teacher_kinds import options
from storage.records import Model

if TYPE_CHECKING:
    from engine.teachers.endpoint.client import EndpointBackend

VERSION = 1
"""Raised when the same settings would give other responses."""

OPENAI = "https://api.openai.com/v1"


def identity(model: Model) -> dict[str, Any]:
    """Everything of the backend that shapes a response: the served model and what is sent, not where to."""
    chosen = settings(model)
    return {
        "backend": "openai",
        "version": VERSION,
        "model": model.model,
        "revision": model.revision,
        **chosen.identity,
    }


def create(model: Model, *, lenient: bool = False) -> "EndpointBackend":
    """The backend; nothing is sent yet.

    Args:
        model: whose settings it has.
        lenient: whether requests that are refused are given back whatever their number: the caller settles whose fault
            that is.
    """
    from engine.teachers.endpoint.client import EndpointBackend

    backend = EndpointBackend(
        f"{model.role} `{model.name}`", model.model, urls(model), key(model), settings(model)
    )
    backend.lenient = lenient
    return backend


def settings(model: Model) -> EndpointConfig:
    """The model's endpoint settings, checked.

    Raises:
        ConfigError: an unknown or wrong option, or nothing that says where to send.
    """
    chosen = options(model, Addressed)
    if not chosen.base_url and not chosen.api_key_env:
        raise ConfigError(
            f"model {model.name!r}: backend 'openai' has no `base_url`",
            f"set it to the server's address; without one, {OPENAI} is asked, which needs `api_key_env`",
        )
    return chosen.endpoint


def impatient(model: Model) -> Model:
    """The same model for a try by hand: a server that fails or asks to wait is given up within seconds."""
    given = model.options.get("endpoint", {})
    retry = {"tries": 1, "failures": 2, "probes": 1, "cooldown": 0.1, "max_wait": 5.0}
    return replace(model, options={**model.options, "endpoint": {**given, "retry": retry}})


def urls(model: Model) -> list[str]:
    """The addresses of the model's servers."""
    given = model.options.get("base_url") or OPENAI
    return [given] if isinstance(given, str) else list(given)


def key(model: Model) -> str | None:
    """The key, from the environment; None when the model names no variable.

    Raises:
        ConfigError: see `engine.base.api_keys.read`.
    """
    variable = model.options.get("api_key_env")
    return api_keys.read(f"model {model.name!r}", variable) if variable else None


KIND = TeacherKind(
    settings=Addressed,
    about={
        "model": "The name it is served by.",
        "family": "Of the served model, e.g. qwen2; empty: not known.",
        "parameters": "Number of weights, e.g. 7.6B; None: not known.",
        "context": "Tokens of prompt and response together; None: not known.",
    },
    remote=True,
    openai_api=True,
    impatient=impatient,
)
