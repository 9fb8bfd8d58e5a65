"""Answers from a local model through vLLM: an OpenAI server that the engine starts, watches and stops.

This file stays light, because identities are asked for by commands that never start anything; the work is done in
`engine.teachers.vllm_server.managed`.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from engine.base.errors import ConfigError
from engine.base.suggest import nearest
from engine.config.endpoint import EndpointConfig
from engine.config.vllm import CONCURRENCY, ServerConfig
from engine.models import model_info
from engine.models.model_info import ModelCheck, fingerprint
from engine.teachers.vllm_server import command
from storage.records import Model

if TYPE_CHECKING:
    from engine.teachers.vllm_server.managed import ManagedBackend

VERSION = 1
"""Raised when the same settings would give other answers."""

OPTIONS = ("dtype", "trust_remote_code", "endpoint", "server")
"""The keys of `Model.options` that this backend knows."""


class Settings(NamedTuple):
    """A model's options, checked."""

    endpoint: EndpointConfig
    server: ServerConfig
    dtype: str
    trust_remote_code: bool


def identity(model: Model) -> dict[str, Any]:
    """Everything of the backend that shapes an answer: weights and template, number format, vLLM's arguments.

    Raises:
        ConfigError: an unknown or wrong option.
        ModelError: no such model.
    """
    chosen = settings(model)
    parts: dict[str, Any] = {
        "backend": "vllm",
        "version": VERSION,
        "model": fingerprint(model.model, model.revision),
        "context": model.context,
        "dtype": chosen.dtype,
        "args": list(chosen.server.args),
        "mode": chosen.endpoint.mode,
        "extra_body": chosen.endpoint.extra_body,
    }
    if chosen.endpoint.mode == "completion":
        parts["template"] = chosen.endpoint.template
    return parts


def create(model: Model, folder: Path | None = None) -> "ManagedBackend":
    """The backend; its server is started with the first request.

    Args:
        model: its `options` may hold `dtype`, `trust_remote_code`, `endpoint` (`engine.config.endpoint`) and
            `server` (`engine.config.vllm`).
        folder: where the server's log file goes, and the note by which an orphan is found; None: a folder for
            temporary files.

    Raises:
        ConfigError: an unknown or wrong option.
        NotAvailable: vLLM is not on this machine.
    """
    from engine.teachers.vllm_server.managed import ManagedBackend

    chosen = settings(model)
    return ManagedBackend(model, chosen, command.find(chosen.server.command), folder)


def check(model: Model) -> ModelCheck:
    """What the model's files say, all options checked, without torch; whether vLLM is here is another question.

    Raises:
        ConfigError: an unknown or wrong option.
        ModelError: the model cannot be used.
    """
    settings(model)
    return model_info.check(model.model, revision=model.revision)


def as_files(model: Model) -> Model:
    """The same model as transformers reads it, for its tokenizer and template."""
    kept = {key: model.options[key] for key in ("trust_remote_code",) if key in model.options}
    return replace(model, backend="transformers", options=kept)


def settings(model: Model) -> Settings:
    """The model's options over the defaults.

    Raises:
        ConfigError: an unknown or wrong option.
    """
    for option in model.options:
        if option not in OPTIONS:
            near = nearest(option, OPTIONS)
            raise ConfigError(
                f"model {model.name!r}: backend 'vllm' has no option {option!r}",
                f"did you mean {near!r}?" if near else f"use one of {', '.join(OPTIONS)}",
            )
    given = model.options.get("endpoint", {})
    try:
        return Settings(
            EndpointConfig.model_validate({"concurrency": CONCURRENCY, **given}),
            ServerConfig.model_validate(model.options.get("server", {})),
            model.options.get("dtype") or "auto",
            bool(model.options.get("trust_remote_code")),
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise ConfigError(
            f"model {model.name!r}: {where}: {problem['msg']}", "mend it in the run file"
        ) from None
