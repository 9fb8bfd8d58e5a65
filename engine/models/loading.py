"""Loading of local models: the one place where tokenizers, causal language models and reward models come from.

What can be said of a model without loading it is in `engine.models.model_info`, whose functions can be had from here
too. torch and transformers are imported when something is loaded. Remote code runs only when asked for, per
model.
"""

import json
import re
import warnings
from typing import TYPE_CHECKING, Any

from engine.base.errors import ModelError
from engine.models import adapters
from engine.models.model_info import DTYPES, ModelCheck, check, check_dtype, context_length, fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "DTYPES",
    "ModelCheck",
    "check",
    "check_dtype",
    "context_length",
    "fingerprint",
    "load_causal_lm",
    "load_encoder",
    "load_reward_model",
    "load_tokenizer",
    "pick_device",
]

_CLASSES = {
    "AutoModel": "language model without its head",
    "AutoModelForCausalLM": "causal language model",
    "AutoModelForSequenceClassification": "sequence classifier",
}


def load_tokenizer(
    ref: str,
    revision: str = "",
    trust_remote_code: bool = False,
    *,
    chat_template: bool = True,
    adapter: str = "",
) -> "PreTrainedTokenizerBase":
    """Tokenizer of a model, with a pad token: its own, or its EOS token when it has none.

    Args:
        ref: `zoo:NAME`, a folder, a GGUF file, or a hub id.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python that the model's repository brings along.
        chat_template: whether a missing chat template is an error.
        adapter: a folder whose tokenizer, if it has one, takes the place of the model's.

    Raises:
        ModelError: no such model, no tokenizer, no chat template, or neither pad nor EOS token.
    """
    own = adapters.check(adapter) if adapter else None
    if own is not None and own.tokenizer:
        found = ModelCheck(ref=ref, folder=own.folder)
    else:
        found = check(ref, revision=revision, weights=False, chat_template=chat_template)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            found.folder or ref, trust_remote_code=trust_remote_code, **_source(found, revision)
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model {ref!r}: its tokenizer cannot be loaded: {error}",
            "save it again with save_pretrained of a current transformers; if it needs code of its own, "
            "set trust_remote_code and pin a revision",
        ) from error
    if found.file and found.vocabulary is not None:
        _drop_added(tokenizer, found.vocabulary)
    if chat_template and not tokenizer.chat_template:
        raise ModelError(f"model {ref!r} has no chat template", "use an instruct model")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"model {ref!r}: its tokenizer has neither a pad nor an EOS token",
                "set `eos_token` in tokenizer_config.json: without it no answer can end",
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _drop_added(tokenizer: Any, vocabulary: int) -> None:
    """Takes tokens out that the model has no row for: transformers gives every byte-level GGUF `<|endoftext|>`."""
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = [token for token in state["added_tokens"] if token["id"] < vocabulary]
    if len(kept) < len(state["added_tokens"]):
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps({**state, "added_tokens": kept}))


def load_causal_lm(
    ref: str,
    dtype: str = "float32",
    device: str = "auto",
    revision: str = "",
    *,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    chat_template: bool = True,
    adapter: str = "",
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model in eval mode on its device, and its tokenizer with a pad token; the vocabulary stays.

    Args:
        ref: `zoo:NAME`, a folder, a GGUF file, or a hub id.
        dtype: one of `DTYPES`.
        device: `auto` (CUDA when there is one, else the CPU), `cpu`, `cuda`, `cuda:1`, `mps`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python that the model's repository brings along.
        attn_implementation: None is `sdpa`, or `eager` for models that sdpa cannot do: those that cap
            attention logits (Gemma 2) or use ALiBi (Bloom).
        chat_template: whether a missing chat template is an error.
        adapter: folder of a PEFT adapter that is added to the weights, in `dtype`.

    Raises:
        ModelError: naming what is missing and the remedy; also when stored weights do not fill the model,
            which transformers would initialise at random.
    """
    tokenizer = load_tokenizer(ref, revision, trust_remote_code, chat_template=chat_template, adapter=adapter)
    found = check(ref, revision=revision, chat_template=chat_template and not adapter)
    model = _load(
        "AutoModelForCausalLM",
        found,
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
        attn_implementation=attn_implementation,
    )
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"model {ref!r}: its tokenizer has {len(tokenizer)} tokens but its embedding only {rows} rows",
            "use the tokenizer that belongs to the model",
        )
    return _with_adapter(model, ref, adapter) if adapter else model, tokenizer


def _with_adapter(model: "PreTrainedModel", ref: str, adapter: str) -> "PreTrainedModel":
    """The model with an adapter's weights added to its own: as fast as without one."""
    from peft import PeftModel

    remedy = "the adapter belongs to another base: set `model` to the one that it was trained on"
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            wrapped: Any = PeftModel.from_pretrained(model, adapter)
        merged: PreTrainedModel = wrapped.merge_and_unload().eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"adapter {adapter!r} does not fit model {ref!r}: {error}", remedy) from error
    missing = [str(warning.message) for warning in said if "missing adapter keys" in str(warning.message)]
    if missing:
        raise ModelError(f"adapter {adapter!r} does not fit model {ref!r}: {missing[0][:200]}", remedy)
    return merged


def load_encoder(
    ref: str,
    dtype: str = "float32",
    device: str = "auto",
    revision: str = "",
    *,
    trust_remote_code: bool = False,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A language model without its head in eval mode on its device, and its tokenizer.

    Its outputs hold `last_hidden_state`, (B, T, H). A causal language model's head is left on disk.

    Args:
        ref: `zoo:NAME`, a folder, a GGUF file, or a hub id.
        dtype: one of `DTYPES`.
        device: as for `load_causal_lm`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python that the model's repository brings along.

    Raises:
        ModelError: as `load_causal_lm`.
    """
    tokenizer = load_tokenizer(ref, revision, trust_remote_code)
    model = _load(
        "AutoModel",
        check(ref, revision=revision),
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    return model, tokenizer


def load_reward_model(
    ref: str,
    dtype: str = "float32",
    device: str = "auto",
    revision: str = "",
    *,
    trust_remote_code: bool = False,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A sequence classifier with one output in eval mode on its device, and its tokenizer.

    Args:
        ref: `zoo:NAME`, a folder, a GGUF file, or a hub id.
        dtype: one of `DTYPES`.
        device: as for `load_causal_lm`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python that the model's repository brings along.

    Raises:
        ModelError: as `load_causal_lm`; also when the model has no trained head of one output.
    """
    tokenizer = load_tokenizer(ref, revision, trust_remote_code)
    model = _load(
        "AutoModelForSequenceClassification",
        check(ref, revision=revision),
        dtype=dtype,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if model.config.num_labels != 1:
        raise ModelError(
            f"model {ref!r} has {model.config.num_labels} outputs; a reward is one number",
            "use a reward model with `num_labels: 1`, such as those of the Skywork-Reward family",
        )
    return model, tokenizer


def _load(
    auto_class: str,
    found: ModelCheck,
    *,
    dtype: str,
    device: str,
    revision: str,
    trust_remote_code: bool,
    attn_implementation: str | None = None,
) -> "PreTrainedModel":
    """The model of one of transformers' auto classes, whole, in eval mode on its device."""
    check_dtype(dtype)
    target = pick_device(device)
    import torch
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    more: dict[str, Any] = {"use_safetensors": True}
    if found.file:
        # Weights stay as they are packed otherwise, and are unpacked with every token.
        more = {"quantization_config": transformers.GgufConfig(dequantize=True)}
    level = logging.get_verbosity()
    if auto_class == "AutoModel":
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # the head is left on disk on purpose
    try:
        loaded: Any = getattr(transformers, auto_class).from_pretrained(
            found.folder or found.ref,
            dtype=getattr(torch, dtype),
            attn_implementation=attn_implementation,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
            **more,
            **_source(found, revision),
        )
        model, info = loaded
    except (OSError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        raise ModelError(
            f"model {found.ref!r} cannot be loaded as a {_CLASSES[auto_class]}: {error}",
            "the folder must come from save_pretrained of transformers",
        ) from error
    finally:
        logging.set_verbosity(level)
    if info["missing_keys"]:
        names = sorted(info["missing_keys"])
        raise ModelError(
            f"model {found.ref!r}: {len(names)} weights are not in its files and would be random, e.g. {names[0]}",
            "save the whole model; a LoRA adapter is named as `adapter` beside its base",
        )
    loaded_model: PreTrainedModel = model.to(target).eval()
    return loaded_model


def pick_device(device: str) -> str:
    """The torch device name: `auto` becomes `cuda` when a GPU can be used, else `cpu`.

    Raises:
        ModelError: not a device name, or a GPU asked for where there is none.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise ModelError(f"unknown device {device!r}", "use auto, cpu, cuda, cuda:N or mps")
    if device.startswith("cuda"):
        index = int(device.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise ModelError(f"device {device!r} is not there", "use device auto or cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device 'mps' is not there", "use device auto or cpu")
    return device


def _source(found: ModelCheck, revision: str) -> dict[str, Any]:
    """Keyword arguments that keep transformers off the network when the model is here."""
    if found.file:
        return {"local_files_only": True, "gguf_file": found.file}
    if found.folder is not None:
        return {"local_files_only": True}
    return {"revision": revision or "main"}
