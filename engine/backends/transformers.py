"""Answers from a local model, in this process, through transformers.

This file stays light, because identities are asked for by commands that never load a model; the work is done in
`engine.backends._local`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.modelfiles import check_dtype, fingerprint
from engine.suggest import nearest
from engine.templates import BOUNDARY_VERSION
from storage.records import Model

if TYPE_CHECKING:
    from engine.backends._local import TransformersBackend

VERSION = 1
"""Raised when the same settings would give other answers."""

DEFAULTS: Mapping[str, Any] = {
    "dtype": "float32",
    "thinking": None,
    "trust_remote_code": False,
    "device": "auto",
    "batch_tokens": None,
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
    return {
        "backend": "transformers",
        "version": VERSION,
        "boundary_version": BOUNDARY_VERSION,
        "model": fingerprint(model.model, model.revision),
        "context": model.context,
        **{key: chosen[key] for key in IDENTITY_OPTIONS},
    }


def create(model: Model) -> "TransformersBackend":
    """The backend, with the model loaded.

    Args:
        model: its `options` may hold `dtype`, `device`, `batch_tokens` (token positions of keys and values in
            one batch; None fits them into memory), `thinking` (passed to the template as `enable_thinking`),
            `trust_remote_code`.

    Raises:
        ConfigError: an unknown option.
        ModelError: the model cannot be loaded, or its template refuses the model's system prompt.
    """
    from engine.backends._local import TransformersBackend

    return TransformersBackend(model, options(model))


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
    return chosen
