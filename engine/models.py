"""Loading of local models: the one place where tokenizers and causal language models come from.

What can be said of a model without loading it is in `engine.modelfiles`, whose functions can be had from here
too. torch and transformers are imported when something is loaded. Remote code runs only when asked for, per
model.
"""

import re
from typing import TYPE_CHECKING, Any

from engine.errors import ModelError
from engine.modelfiles import DTYPES, ModelCheck, check, check_dtype, context_length, fingerprint

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
    "load_tokenizer",
    "pick_device",
]


def load_tokenizer(
    ref: str, revision: str = "", trust_remote_code: bool = False, *, chat_template: bool = True
) -> "PreTrainedTokenizerBase":
    """Tokenizer of a model, with a pad token: its own, or its EOS token when it has none.

    Args:
        ref: `zoo:NAME`, a folder, or a hub id.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python that the model's repository brings along.
        chat_template: whether a missing chat template is an error.

    Raises:
        ModelError: no such model, no tokenizer, no chat template, or neither pad nor EOS token.
    """
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


def load_causal_lm(
    ref: str,
    dtype: str = "float32",
    device: str = "auto",
    revision: str = "",
    *,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    chat_template: bool = True,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model in eval mode on its device, and its tokenizer with a pad token; the vocabulary stays.

    Args:
        ref: `zoo:NAME`, a folder, or a hub id.
        dtype: one of `DTYPES`.
        device: `auto` (CUDA when there is one, else the CPU), `cpu`, `cuda`, `cuda:1`, `mps`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python that the model's repository brings along.
        attn_implementation: None is `sdpa`, or `eager` for models that sdpa cannot do: those that cap
            attention logits (Gemma 2) or use ALiBi (Bloom).
        chat_template: whether a missing chat template is an error.

    Raises:
        ModelError: naming what is missing and the remedy; also when stored weights do not fill the model,
            which transformers would initialise at random.
    """
    check_dtype(dtype)
    tokenizer = load_tokenizer(ref, revision, trust_remote_code, chat_template=chat_template)
    found = check(ref, revision=revision, chat_template=chat_template)
    target = pick_device(device)
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source = {**_source(found, revision), "trust_remote_code": trust_remote_code}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            found.folder or ref,
            dtype=getattr(torch, dtype),
            attn_implementation=attn_implementation,
            use_safetensors=True,
            output_loading_info=True,
            **source,
        )
        model, info = loaded
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"model {ref!r} cannot be loaded as a causal language model: {error}",
            "run `persyn doctor` on it; the folder must come from save_pretrained of transformers",
        ) from error
    if info["missing_keys"]:
        names = sorted(info["missing_keys"])
        raise ModelError(
            f"model {ref!r}: {len(names)} weights are not in its files and would be random, e.g. {names[0]}",
            "save the whole model; for a LoRA adapter give the merged folder",
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"model {ref!r}: its tokenizer has {len(tokenizer)} tokens but its embedding only {rows} rows",
            "use the tokenizer that belongs to the model",
        )
    return model.to(target).eval(), tokenizer


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
    if found.folder is not None:
        return {"local_files_only": True}
    return {"revision": revision or "main"}
