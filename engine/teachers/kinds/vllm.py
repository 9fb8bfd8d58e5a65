"""Answers from a local model through vLLM: an OpenAI server that the engine starts, watches and stops.

This file stays light, because identities are asked for by commands that never start anything; the work is done in
`engine.teachers.vllm_server.managed`.
"""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config.kinds import TeacherKind
from engine.config.paths import RunFolder
from engine.config.vllm import CONCURRENCY, ServerConfig, VllmConfig
from engine.models import model_info
from engine.models.model_info import ModelCheck, fingerprint
from engine.teachers.teacher_kinds import options
from engine.teachers.vllm_server import command
from storage.records import Model

if TYPE_CHECKING:
    from engine.teachers.vllm_server.managed import ManagedBackend

VERSION = 1
"""Raised when the same settings would give other responses."""


def identity(model: Model) -> dict[str, Any]:
    """Everything of the backend that shapes a response: weights and template, number format, vLLM's arguments."""
    chosen = settings(model)
    return {
        "backend": "vllm",
        "version": VERSION,
        "model": fingerprint(model.model, model.revision),
        "context": model.context,
        "dtype": chosen.dtype or "auto",
        "args": list(chosen.server.args),
        **chosen.endpoint.identity,
    }


def create(model: Model, folder: Path | None = None) -> "ManagedBackend":
    """The backend; its server is started with the first request.

    Args:
        model: its `options` may hold `dtype`, `trust_remote_code`, `endpoint` (`engine.config.endpoint`) and
            `server` (`engine.config.vllm`).
        folder: where the server's log file goes, and the note by which an orphan is found; None: a folder for
            temporary files.
    """
    from engine.teachers.vllm_server.managed import ManagedBackend

    chosen = settings(model)
    return ManagedBackend(model, chosen, command.find(chosen.server.command), folder)


def check(model: Model) -> ModelCheck:
    """What the model's files say, all options checked, without torch; whether vLLM is here is another question."""
    settings(model)
    return model_info.check(model.model, revision=model.revision)


def as_files(model: Model) -> Model:
    """The same model as transformers reads it, for its tokenizer and template."""
    kept = {key: model.options[key] for key in ("trust_remote_code",) if key in model.options}
    return replace(model, backend="transformers", options=kept)


def settings(model: Model) -> VllmConfig:
    """The model's options over the defaults; those of requests in flight are vLLM's own.

    Raises:
        ConfigError: an unknown or wrong option.
    """
    chosen = options(model, VllmConfig)
    if "concurrency" in chosen.endpoint.model_fields_set:
        return chosen
    return chosen.model_copy(
        update={"endpoint": chosen.endpoint.model_copy(update={"concurrency": CONCURRENCY})}
    )


def _located(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    return {"model": folder.reference(settings["model"]) if settings["model"] else ""}


def _ready(model: Model) -> str:
    server = ServerConfig.model_validate(model.options.get("server", {}))
    return f"starts with {shlex.join(command.find(server.command))}"


KIND = TeacherKind(
    settings=VllmConfig,
    located=_located,
    local_files=True,
    starts_server=True,
    as_files=as_files,
    ready=_ready,
)
