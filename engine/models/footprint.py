"""How much memory a model takes, from the shape that its configuration gives it. No torch.

An estimate: what a pass keeps depends on the architecture. The constants are those of a Llama with LoRA on all linear
layers, and give 1.9 MB a token in training SmolLM2-135M in float32, where 2 MB were measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.models import gguf_files, model_info
from engine.models.precision import BYTES

GB: Final = 10**9
CPU_TOKENS: Final = 1024
"""Token positions of a forward pass on a CPU: what its caches hold (measured from 0.1M to 135M parameters)."""
MOST_TOKENS: Final = 32_768
"""Token positions of one forward pass on a GPU, however much memory is free: it has work enough, and each pass must end
within seconds for progress to be shown and a stop to be heard."""
MOST_TRAINED_TOKENS: Final = 8192
"""The same of a pass that is trained on."""
LEAST_TOKENS: Final = 512
"""The same at least; a batch that does not fit is halved (`engine.models.memory`)."""
_FREE_SHARE: Final = 0.5
"""Of the free memory, for a batch: the estimate is rough, and freed blocks do not always fit the next batch."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder."""

    parameters: int
    layers: int
    hidden: int
    """H, the width of hidden states."""
    inner: int
    """I, the width within the feed-forward part."""
    queries: int
    """Width of all queries of a position together."""
    keys: int
    """Width of all its keys together; its values have the same."""
    vocabulary: int


def of_config(config: Mapping[str, Any], parameters: int) -> Shape | None:
    """The shape that a transformers config describes, as a mapping; None where it has other keys."""
    text = {**config, **(config.get("text_config") or {})}

    def first(*names: str) -> int:
        return next((value for name in names if isinstance(value := text.get(name), int)), 0)

    layers = first("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    hidden, heads = (
        first("hidden_size", "n_embd", "d_model"),
        first("num_attention_heads", "n_head", "n_heads"),
    )
    if not (layers and hidden and heads):
        return None
    width = first("head_dim") or hidden // heads
    inner = first("intermediate_size", "n_inner", "ffn_dim") or 4 * hidden
    keys = width * (first("num_key_value_heads") or heads)
    return Shape(parameters, layers, hidden, inner, width * heads, keys, first("vocab_size"))


def of_files(ref: str, revision: str = "") -> Shape | None:
    """The shape of a model by its files; None where it is not on this machine, or cannot be told.

    Raises:
        ModelError: its files cannot be used.
    """
    if not model_info.is_here(ref, revision):
        return None
    found = model_info.check(ref, revision=revision, chat_template=False)
    if found.parameters is None:
        return None
    if not found.file:
        return of_config(model_info.config(ref, revision), found.parameters)
    header = gguf_files.read(Path(ref).expanduser())
    names = {
        "num_hidden_layers": "block_count",
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
    }
    values = {name: header.values.get(f"{header.architecture}.{key}") for name, key in names.items()}
    return of_config({**values, "vocab_size": header.vocabulary}, header.parameters)


def weights(parameters: float, dtype: str) -> int:
    """Bytes of the weights."""
    return int(parameters * BYTES[dtype])


def weights_in_4_bits(shape: Shape, dtype: str) -> int:
    """Bytes of the weights with `qlora`: linear layers in 4 bits with a byte of scale per 64, the rest in `dtype`."""
    h, i, q, k = shape.hidden, shape.inner, shape.queries, shape.keys
    linear = shape.layers * h * (2 * q + 2 * k + 3 * i)
    return int(linear * (0.5 + 1 / 64)) + weights(shape.parameters - linear, dtype)


def cache(shape: Shape, dtype: str) -> int:
    """Bytes of keys and values that one token position keeps."""
    return 2 * shape.layers * shape.keys * BYTES[dtype]


def forward(shape: Shape, dtype: str) -> int:
    """Bytes that one token position takes at once in a forward pass without gradients: those of its widest layer."""
    return (4 * shape.hidden + 3 * shape.inner + shape.queries + 2 * shape.keys) * BYTES[dtype]


def backward(shape: Shape, dtype: str, *, recomputed: bool) -> int:
    """Bytes that one token position keeps for the backward pass.

    Args:
        shape: of the model.
        dtype: of its weights.
        recomputed: whether only the input of each layer is kept (gradient checkpointing), and one layer at a time
            is computed again.
    """
    layer = (14 * shape.hidden + 5 * shape.inner) * BYTES[dtype]
    return shape.layers * shape.hidden * BYTES[dtype] + layer if recomputed else shape.layers * layer


def adapter(shape: Shape, rank: int) -> int:
    """Number of weights of a LoRA adapter on all linear layers but the output."""
    h, i, q, k = shape.hidden, shape.inner, shape.queries, shape.keys
    return shape.layers * rank * (2 * (h + q) + 2 * (h + k) + 3 * (h + i))


def trained(count: int, dtype: str) -> int:
    """Bytes beside the weights themselves of training so many: gradients, AdamW's two moments and, of 16 bits, float32
    masters with gradients of their own."""
    return count * (12 if dtype == "float32" else 18)


def sharded(shape: Shape, dtype: str, processes: int) -> dict[str, int]:
    """What it is for → bytes in each of the processes that train a model whole and have a part of it each.

    Beside float32 weights, gradients and moments there are whole weights for a while, in `dtype`: the output layer,
    a layer and the one that is gathered meanwhile; and gradients of the first two, on their way into the float32 sum.
    """
    head = shape.vocabulary * shape.hidden
    layer = max(shape.parameters - head, 0) // shape.layers
    part = -(-shape.parameters // processes)
    return {
        "weights": weights(part, "float32"),
        "gathered layers": weights(head + 2 * layer, dtype)
        + weights(head + layer, dtype)
        + weights(head + layer, "float32"),
        "gradients and optimizer": trained(part, "float32"),
    }


def affordable_tokens(shape: Shape | None, dtype: str, free: int, *, trains: bool = False) -> int:
    """Token positions of one forward pass on a GPU with so many bytes free; where nothing is known, a cautious number.

    Without gradients keys and values are counted too: a prompt that several responses share keeps them.
    """
    most = MOST_TRAINED_TOKENS if trains else MOST_TOKENS
    if shape is None:
        return most // 2
    each = backward(shape, dtype, recomputed=False) if trains else forward(shape, dtype) + cache(shape, dtype)
    return max(LEAST_TOKENS, min(most, int(free * _FREE_SHARE) // each))
