"""Answers from a local model, in this process, through transformers.

This file stays light, because identities are asked for by commands that never load a model; the work is done in
`engine.teachers.local.batches`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.base.errors import ConfigError, ModelError
from engine.base.suggest import nearest
from engine.models import adapters, model_info
from engine.models.chat_template import BOUNDARY_VERSION
from engine.models.model_info import DEVICES, ModelCheck, check_dtype, fingerprint
from storage.records import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from engine.teachers.local.batches import TransformersBackend

VERSION = 1
"""Raised when the same settings would give other answers."""

DEFAULTS: Mapping[str, Any] = {
    "dtype": "float32",
    "thinking": None,
    "trust_remote_code": False,
    "device": "auto",
    "batch_tokens": None,
    "adapter": "",
}
"""The keys of `Model.options` that this backend knows, with their defaults."""

IDENTITY_OPTIONS = ("dtype", "thinking")
"""Those that shape an answer."""


def identity(model: Model) -> dict[str, Any]:
    """Everything of the backend that shapes an answer: weights, tokenizer and template, number format, context.

    Raises:
        ConfigError: an unknown option.
        ModelError: no such model.
    """
    chosen = options(model)
    parts = {
        "backend": "transformers",
        "version": VERSION,
        "boundary_version": BOUNDARY_VERSION,
        "model": fingerprint(model.model, model.revision),
        "context": model.context,
        **{key: chosen[key] for key in IDENTITY_OPTIONS},
    }
    if chosen["adapter"]:
        adapters.check(chosen["adapter"])
        parts["adapter"] = fingerprint(chosen["adapter"])
    return parts


def check(model: Model) -> ModelCheck:
    """What the model's files say, all options and files checked, without torch.

    Raises:
        ConfigError: an unknown or wrong option.
        ModelError: the model or its adapter cannot be used.
    """
    chosen = options(model)
    if not chosen["adapter"]:
        return model_info.check(model.model, revision=model.revision)
    adapter = adapters.check(chosen["adapter"])
    if not model.model:
        raise ModelError(
            f"adapter {adapter.folder!r} does not name the model that it was trained on",
            "set `model` to that model",
        )
    found = model_info.check(model.model, revision=model.revision, chat_template=not adapter.chat_template)
    return replace(found, parameters=found.parameters and found.parameters + adapter.parameters)


def create(model: Model) -> "TransformersBackend":
    """The backend, with the model loaded.

    Args:
        model: its `options` may hold `dtype`, `device`, `batch_tokens` (token positions of keys and values in
            one batch; None fits them into memory), `thinking` (passed to the template as `enable_thinking`),
            `trust_remote_code`, `adapter` (a PEFT adapter's folder, added to the weights).

    Raises:
        ConfigError: an unknown option.
        ModelError: the model cannot be loaded, or its template refuses the model's system prompt.
    """
    from engine.teachers.local.batches import TransformersBackend

    return TransformersBackend(model, options(model))


def tokenizer(model: Model) -> "PreTrainedTokenizerBase":
    """The tokenizer that the model's prompts go through: its own, or its adapter's.

    Raises:
        ModelError: it cannot be loaded, or has no chat template.
    """
    from engine.models.loading import load_tokenizer

    chosen = options(model)
    return load_tokenizer(model.model, model.revision, chosen["trust_remote_code"], adapter=chosen["adapter"])


def options(model: Model) -> dict[str, Any]:
    """The model's options over the defaults, checked."""
    for key in model.options:
        if key not in DEFAULTS:
            near = nearest(key, DEFAULTS)
            raise ConfigError(
                f"model {model.name!r}: backend 'transformers' has no option {key!r}",
                f"did you mean {near!r}?" if near else f"use one of {', '.join(DEFAULTS)}",
            )
    chosen = {**DEFAULTS, **model.options}
    check_dtype(chosen["dtype"])
    if not re.fullmatch(DEVICES, chosen["device"]):
        raise ConfigError(
            f"model {model.name!r}: unknown device {chosen['device']!r}", "use auto, cpu, cuda, cuda:N or mps"
        )
    return chosen
