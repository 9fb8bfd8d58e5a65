"""The trainable part of a student: LoRA adapters through PEFT, or all weights.

LoRA: Hu et al., arXiv 2106.09685: W stays, and W + (alpha / rank)·B·A is learned, B starting at zero.
QLoRA: Dettmers et al., arXiv 2305.14314: the same beside a W in 4 bits.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from engine.base.errors import ConfigError
from engine.models.quantization import is_quantised

ALL_LINEAR = "all-linear"
"""All linear layers except the output embedding, which may share its weight with the input's: an adapter merged into
one of the two would change both."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is trained."""

    method: Literal["lora", "qlora", "full"] = "lora"
    rank: int = 16
    alpha: float = 32.0
    """The adapter's update is scaled by alpha / rank."""
    dropout: float = 0.0
    """On the adapters' input."""


def make_trainable(model: Any, tuning: Tuning, seed: int) -> Any:
    """Return the student ready to be trained: a `PeftModel` around it, or itself for `full`.

    The adapters are put into `model` in place (`PeftModel.unload()` takes them out again). The same seed
    gives the same A matrices.

    Raises:
        ConfigError: the student carries an adapter already, is in 4 bits for another method or not in 4 bits for
            `qlora`, or has no linear layer that PEFT knows.
    """
    if hasattr(model, "peft_config"):
        raise ConfigError("the student already carries an adapter", "merge it, or load the plain one")
    four_bit = tuning.method == "qlora"
    if is_quantised(model) != four_bit:
        raise ConfigError(
            f"a student in {'full precision' if four_bit else '4 bits'} cannot be trained by `{tuning.method}`",
            f"load it with four_bit={four_bit}",
        )
    if tuning.method == "full":
        model.requires_grad_(True)
        return model
    from peft import LoraConfig, TaskType, get_peft_model  # seconds of imports, not needed for `full`

    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.dropout,
        target_modules=ALL_LINEAR,
    )
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            # GPT-2 keeps weights transposed; PEFT sets fan_in_fan_out by itself and warns that it did.
            warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
            # In bfloat16 the optimizer keeps float32 masters; adapters in float32 would cast every activation, which
            # is little beside unpacking 4-bit weights.
            return get_peft_model(model, config, autocast_adapter_dtype=four_bit)
    except ValueError as error:
        raise ConfigError(
            f"LoRA cannot be put on this student: {error}",
            "use `distill: {method: full}`, or another student",
        ) from error


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, by name, tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
