"""Linear layers in 4 bits by bitsandbytes: NF4 with double quantisation (QLoRA: Dettmers et al., arXiv 2305.14314).

torch is imported when something is quantised.
"""

from typing import Any

from engine.models import nf4


def arguments(dtype: Any, device: str) -> dict[str, Any]:
    """What `from_pretrained` is told: all linear layers but the output embedding in 4 bits, computed in `dtype`.

    Raises:
        NotAvailable: bitsandbytes is not installed.
    """
    nf4.check()
    from transformers import BitsAndBytesConfig

    build: Any = BitsAndBytesConfig
    quantised = build(load_in_4bit=True, bnb_4bit_compute_dtype=dtype, **nf4.NF4)
    return {"quantization_config": quantised, "device_map": {"": device}}


def is_quantised(model: Any) -> bool:
    """Whether the model was loaded in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def weight_bytes(model: Any) -> int:
    """Memory of the weights, with the scales of those in 4 bits."""
    total = 0
    for weight in model.parameters():
        total += weight.nbytes
        if (state := getattr(weight, "quant_state", None)) is not None:
            total += state.absmax.nbytes + state.state2.absmax.nbytes
    return total


def compute_plainly(model: Any) -> None:
    """Keeps the quantised layers from changing their weights in a forward pass.

    With AVX512-BF16, bitsandbytes repacks a weight for good in the first pass in eval mode, its scales rounded to
    bfloat16: training would go on from other weights than it began with, and a resumed run from others again.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def dequantised(model: Any) -> Any:
    """The model with each 4-bit layer as a plain one, of the values that it computed with; changed in place.

    transformers' `dequantize` gives GPT-2's transposed layers the wrong way round.
    """
    if not is_quantised(model):
        return model
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for name, module in list(model.named_modules()):
        if not isinstance(module, Linear4bit):
            continue
        weight = dequantize_4bit(module.weight.data, module.weight.quant_state).to(model.dtype)
        plain: Any
        transposed: Any = Conv1D
        with torch.device("meta"):
            if module.source_cls is transposed:
                plain = transposed(module.out_features, module.in_features)
                weight = weight.T.contiguous()
            else:
                plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
        plain.weight = nn.Parameter(weight, requires_grad=False)
        if module.bias is not None:
            plain.bias = module.bias
        model.set_submodule(name, plain)
    model.hf_quantizer.remove_quantization_config(model)
    model.is_loaded_in_4bit = False
    return model
