"""What a PEFT adapter's folder holds, read without torch: weights that are added to those of a base model."""

from dataclasses import dataclass
from pathlib import Path

from engine.base import foreign_json
from engine.base.errors import ModelError
from engine.base.foreign_json import WrongShape
from engine.models.model_info import has_chat_template, has_tokenizer, weights_in

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MANIFEST = "manifest.json"
"""What a checkpoint and a trained adapter say of themselves."""

KINDS = ("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "VERA")
"""Those that can be added to the base's weights; prompts and prefixes cannot."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that can be used."""

    folder: str
    base: str
    """What it was trained on: a folder, a hub id; empty when it does not say."""
    parameters: int
    tokenizer: bool
    """Whether it brings a tokenizer of its own, which is used then."""
    chat_template: bool
    quantization: str
    """`nf4`: it was trained on weights in 4 bits, and belongs to those values; empty for others."""


def check(folder: str) -> Adapter:
    """The adapter in a folder.

    Raises:
        ModelError: naming the file and the remedy.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise ModelError(f"adapter folder {folder!r} does not exist", "correct the path in `adapter`")
    try:
        config = foreign_json.read(place / CONFIG)
        kind, base = config["peft_type"].text(), config.get("base_model_name_or_path")
    except FileNotFoundError:
        raise ModelError(
            f"adapter {folder!r} has no {CONFIG}", "give a folder written by save_pretrained of peft"
        ) from None
    except (OSError, WrongShape) as error:
        raise ModelError(
            f"adapter {folder!r}: {CONFIG} cannot be read: {error}", "copy the file again"
        ) from error
    if kind not in KINDS:
        raise ModelError(
            f"adapter {folder!r} is of type {kind}, which cannot be added to a model's weights",
            f"use one of {', '.join(KINDS)}",
        )
    if not (place / WEIGHTS).is_file():
        raise ModelError(
            f"adapter {folder!r} has no {WEIGHTS}",
            "save it with safe_serialization: only safetensors are read, because pickles can run code",
        )
    return Adapter(
        folder=str(place),
        base="" if base is None else str(base.raw),
        parameters=weights_in(place / WEIGHTS, folder),
        tokenizer=has_tokenizer(place),
        chat_template=has_tokenizer(place) and has_chat_template(place, folder),
        quantization=_quantization(place),
    )


def _quantization(place: Path) -> str:
    """PEFT's own files do not say; the manifest beside them does."""
    try:
        found = foreign_json.read(place / MANIFEST).get("quantization")
        return "" if found is None else found.text()
    except (OSError, WrongShape):
        return ""  # not trained here
