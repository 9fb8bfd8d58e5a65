"""Answers from a local model, in this process, through transformers.

This file stays light, because identities are asked for by commands that never load a model; the work is done in
`engine.teachers.local.batches`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.base.errors import ConfigError, ModelError
from engine.config.kinds import TeacherKind
from engine.config.paths import RunFolder
from engine.config.section import ReasoningMarks, Section
from engine.models import adapters, model_info
from engine.models.chat_template import BOUNDARY_VERSION
from engine.models.model_info import DEVICES, ModelCheck, fingerprint
from engine.models.precision import settled_dtype
from engine.teachers import teacher_kinds
from storage.records import Model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from engine.teachers.local.batches import TransformersBackend

VERSION = 1
"""Raised when the same settings would give other responses."""


class Settings(Section):
    """The run file's keys of such a teacher or student."""

    dtype: str | None = None
    """None: auto, 16 bits on a GPU where its files have them, else float32."""
    thinking: bool | None = None
    """Passed to the chat template as `enable_thinking`; None leaves the template's default."""
    trust_remote_code: bool = False
    device: str = "auto"
    batch_tokens: int | None = None
    """Token positions of keys and values in one batch; None fits them into memory."""
    adapter: str = ""
    """Folder of a PEFT adapter, which is added to the weights of `model`."""
    reasoning_marks: ReasoningMarks = ()
    """What stands before and after reasoning in a response, e.g. [["<plan>", "</plan>"]]; those of most are known."""


def _located(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    model, update = settings["model"], dict[str, Any]()
    if settings["adapter"]:
        update["adapter"] = folder.path(settings["adapter"])
        if not model:
            try:
                model = adapters.check(update["adapter"]).base
            except ModelError:
                model = ""  # said before a run, with its remedy
    return {**update, "model": folder.reference(model) if model else ""}


KIND = TeacherKind(settings=Settings, located=_located, local_files=True, in_process=True)

IDENTITY_OPTIONS = ("dtype", "thinking")
"""Those that shape an answer."""


def identity(model: Model) -> dict[str, Any]:
    """Everything of the backend that shapes a response: weights, tokenizer and template, number format, context."""
    chosen = options(model)
    parts = {
        "backend": "transformers",
        "version": VERSION,
        "boundary_version": BOUNDARY_VERSION,
        "model": fingerprint(model.model, model.revision),
        "context": model.context,
        **{key: chosen[key] for key in IDENTITY_OPTIONS},
    }
    if chosen["reasoning_marks"]:
        parts["reasoning_marks"] = chosen["reasoning_marks"]
    if chosen["adapter"]:
        adapter = adapters.check(chosen["adapter"])
        parts["adapter"] = fingerprint(chosen["adapter"])
        if adapter.quantization:
            parts["quantization"] = adapter.quantization
    return parts


def check(model: Model) -> ModelCheck:
    """What the model's files say, all options and files checked, without torch."""
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
    """The backend, with the model loaded."""
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
    """The model's options over the defaults, `dtype` as it is loaded.

    Raises:
        ConfigError: an unknown or wrong option.
        ModelError: an unknown `dtype`.
    """
    chosen = {"reasoning_marks": (), **teacher_kinds.options(model, Settings).model_dump()}
    if not re.fullmatch(DEVICES, chosen["device"]):
        raise ConfigError(
            f"model {model.name!r}: unknown device {chosen['device']!r}", "use auto, cpu, cuda, cuda:N or mps"
        )
    chosen["dtype"] = settled_dtype(chosen["dtype"], chosen["device"], model.model, model.revision)
    return chosen
