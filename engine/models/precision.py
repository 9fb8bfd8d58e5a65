"""The number format that a model's weights are loaded in: `auto` resolved, in one place.

On a GPU `auto` is what the checkpoint is stored in, where that is 16 bits: its makers trained and measured it so, and
it takes half the memory and less than half the time. A float32 checkpoint stays float32. On the CPU it is float32: most
CPUs compute nothing faster in 16 bits, and stored results were made so.

Whatever the format, sums, log-softmax and losses are float32 or wider. Which format it was is part of the identity of
every result, so none made in bfloat16 on a GPU is taken for one made in float32 on a CPU.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine.models import gguf_files, model_info
from engine.models.devices import Device, this_machine
from engine.models.model_info import DTYPES

AUTO: Final = "auto"
BYTES: Final[Mapping[str, int]] = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one weight."""


def resolved_dtype(
    asked: str | None, device: Device, ref: str, revision: str = "", *, trains: bool = False
) -> str:
    """One of `model_info.DTYPES`: what is asked for or, for `auto` and None, what suits model and device.

    Args:
        asked: a setting `dtype`.
        device: where the model is loaded.
        ref: `zoo:NAME`, a folder, a GGUF file, or a hub id, of which config.json is fetched when it is needed.
        revision: of a hub id.
        trains: whether its weights, or an adapter on them, are trained: small gradients are zero in float16.

    Raises:
        ModelError: the model's files cannot be read.
    """
    if asked not in (None, AUTO):
        return str(asked)
    if device.type == "cpu":
        return "float32"
    own = own_dtype(ref, revision)
    if own == "float16" and trains:
        own = "bfloat16"
    return "float32" if own == "bfloat16" and not device.bfloat16 else own


def settled_dtype(stored: str | None, device: str, ref: str, revision: str = "") -> str:
    """What the setting of a stored model, scorer or run stands for: one of `model_info.DTYPES`.

    A run is settled when its file is read (`engine.registry.run_files`), so that whoever looks at it later, on
    whatever machine, means the same results. None is float32: what it has always been in stores.

    Raises:
        ModelError: an unknown format; for `auto`, no such device, or the model's files cannot be read.
    """
    model_info.check_dtype(stored)
    if stored == AUTO:
        return resolved_dtype(stored, this_machine().device(device), ref, revision)
    return stored or "float32"


def own_dtype(ref: str, revision: str = "") -> str:
    """The number format that a model is stored in, as one of `model_info.DTYPES`.

    By config.json, which transformers goes by too, else by the weights; float32 where they have another. A quantised
    GGUF file holds less than any of them: its weights are unpacked into bfloat16.

    Raises:
        ModelError: the model's files cannot be read.
    """
    if gguf_files.is_gguf(ref):
        return gguf_files.read(Path(ref).expanduser()).dtype
    config = model_info.config(ref, revision)
    text: Mapping[str, Any] = config.get("text_config") or {}
    for scope in (config, text):
        if named := scope.get("dtype") or scope.get("torch_dtype"):
            return str(named) if named in DTYPES else "float32"
    return model_info.stored_dtype(ref, revision)
