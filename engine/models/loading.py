"""Loading of local models: the one place where tokenizers, language models and reward models come from.

What can be said of a model without loading it is in `engine.models.model_info`. torch and transformers are imported
when something is loaded. Code that a model's repository brings along runs only when asked for, and from the hub only at
a pinned revision.
"""

import json
import logging
import re
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from engine.base.errors import ModelError
from engine.base.sanitize import one_line
from engine.models import adapters, quantization
from engine.models.devices import Device, gpu, this_machine
from engine.models.model_info import ModelCheck, check, check_dtype, is_hub_id
from engine.models.precision import resolved_dtype

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

FLASH_FROM = (8, 0)
"""CUDA compute capability that FlashAttention 2 needs."""
_PROBE_TOKENS = 12

log = logging.getLogger(__name__)

AutoClass = Literal["AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification"]
_CLASSES: dict[AutoClass, str] = {
    "AutoModel": "language model without its head",  # which is left on disk
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
        found = ModelCheck(ref=ref, folder=own.folder, revision=revision)
    else:
        found = check(ref, revision=revision, weights=False, chat_template=chat_template)
    code = _allowed_code(found, trust_remote_code)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(found.folder or ref, **code, **_place(found))
    except Exception as error:  # of broken files transformers raises whatever its code stumbles over
        raise ModelError(
            f"model {ref!r}: its tokenizer cannot be loaded: {_said(error)}",
            "save it again with save_pretrained of a current transformers; if it needs code of its own, "
            "set trust_remote_code and pin a revision",
        ) from error
    if found.file and found.vocabulary is not None:
        _drop_added(tokenizer, found.vocabulary)
    if chat_template and not isinstance(tokenizer.chat_template, str | dict):
        raise ModelError(f"model {ref!r} has no chat template", "use an instruct model")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"model {ref!r}: its tokenizer has neither a pad nor an EOS token",
                "set `eos_token` in tokenizer_config.json: without it no answer can end",
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _said(error: Exception) -> str:
    """What an error of a library says: its kind too, where that is not an error of files or values."""
    said = one_line(str(error), 600)
    return said if isinstance(error, OSError | ValueError) and said else f"{type(error).__name__}: {said}"


def _drop_added(tokenizer: Any, vocabulary: int) -> None:
    """Takes tokens out that the model has no row for: transformers gives every byte-level GGUF `<|endoftext|>`."""
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = [token for token in state["added_tokens"] if token["id"] < vocabulary]
    if len(kept) < len(state["added_tokens"]):
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps({**state, "added_tokens": kept}))


def load_generation_config(
    ref: str, revision: str = "", trust_remote_code: bool = False
) -> "GenerationConfig":
    """What a model that is loaded has as its `generation_config`, without its weights.

    Args:
        ref: `zoo:NAME`, a folder, or a hub id.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python that the model's repository brings along.

    Raises:
        ModelError: no such model.
    """
    found = check(ref, revision=revision, weights=False, chat_template=False)
    code = _allowed_code(found, trust_remote_code)
    from transformers import AutoConfig, GenerationConfig

    where, place = found.folder or ref, _place(found)
    try:
        try:
            return GenerationConfig.from_pretrained(where, **place)
        except OSError:  # it has no file of its own
            return GenerationConfig.from_model_config(AutoConfig.from_pretrained(where, **code, **place))
    except Exception as error:  # as above
        raise ModelError(
            f"model {ref!r}: its generation_config.json cannot be read: {_said(error)}", "copy the file again"
        ) from error


def load_causal_lm(
    ref: str,
    dtype: str = "auto",
    device: str = "auto",
    revision: str = "",
    *,
    trust_remote_code: bool = False,
    adapter: str = "",
    four_bit: bool = False,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model in eval mode on its device, and its tokenizer with a pad token; the vocabulary stays.

    Attention is `flash_attention_2` where it can be (`_attend_fast`), else `sdpa`, else `eager`, for models that sdpa
    cannot do: those that cap attention logits (Gemma 2) or use ALiBi (Bloom).

    Args:
        ref: `zoo:NAME`, a folder, a GGUF file, or a hub id.
        dtype: one of `model_info.DTYPES`, or `auto` (`engine.models.precision`).
        device: `auto` (CUDA when there is one, else the CPU), `cpu`, `cuda`, `cuda:1`, `mps`.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python that the model's repository brings along.
        adapter: folder of a PEFT adapter that is added to the weights, in `dtype`: to those it was trained on, which of
            a QLoRA student are the dequantised ones.
        four_bit: linear layers in 4 bits, computed in `dtype`; see `engine.models.quantization`.

    Raises:
        ModelError: naming what is missing and the remedy; also when stored weights do not fill the model,
            which transformers would initialise at random.
    """
    tokenizer = load_tokenizer(ref, revision, trust_remote_code, adapter=adapter)
    found = check(ref, revision=revision, chat_template=not adapter)
    four_bit = four_bit or bool(adapter and adapters.check(adapter).quantization)
    model = load_weights(found, "AutoModelForCausalLM", dtype, device, trust_remote_code, four_bit=four_bit)
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"model {ref!r}: its tokenizer has {len(tokenizer)} tokens but its embedding only {rows} rows",
            "use the tokenizer that belongs to the model",
        )
    if adapter:  # added to the weights, it costs no time
        model = attach_adapter(quantization.dequantised(model), ref, adapter).merge_and_unload()
    return model, tokenizer


def attach_adapter(model: "PreTrainedModel", ref: str, adapter: str) -> Any:
    """A `PeftModel` in eval mode: the model with an adapter beside its weights.

    Args:
        model: the adapter's base, loaded; modules are put into it in place.
        ref: the model's reference, for errors.
        adapter: the adapter's folder.

    Raises:
        ModelError: the adapter belongs to another base, or its files cannot be read.
    """
    from peft import PeftModel

    remedy = "the adapter belongs to another base: set `model` to the one that it was trained on"
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            wrapped: Any = PeftModel.from_pretrained(model, adapter).eval()
    except Exception as error:  # as above
        raise ModelError(f"adapter {adapter!r} does not fit model {ref!r}: {_said(error)}", remedy) from error
    missing = [str(warning.message) for warning in said if "missing adapter keys" in str(warning.message)]
    if missing:
        raise ModelError(f"adapter {adapter!r} does not fit model {ref!r}: {missing[0][:200]}", remedy)
    return wrapped


def load_reward_model(
    ref: str,
    dtype: str = "auto",
    device: str = "auto",
    revision: str = "",
    *,
    trust_remote_code: bool = False,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A sequence classifier with one output and its tokenizer; arguments as for `load_causal_lm`.

    Raises:
        ModelError: as `load_causal_lm`; also when the model has no trained head of one output.
    """
    tokenizer = load_tokenizer(ref, revision, trust_remote_code)
    found = check(ref, revision=revision)
    model = load_weights(found, "AutoModelForSequenceClassification", dtype, device, trust_remote_code)
    if model.config.num_labels != 1:
        raise ModelError(
            f"model {ref!r} has {model.config.num_labels} outputs; a reward is one number",
            "use a reward model with `num_labels: 1`, such as those of the Skywork-Reward family",
        )
    return model, tokenizer


def load_weights(
    found: ModelCheck,
    auto_class: AutoClass,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    *,
    four_bit: bool = False,
) -> "PreTrainedModel":
    """The checked model by one of transformers' auto classes: whole, in eval mode, on its device.

    Raises:
        ModelError: as `load_causal_lm`.
    """
    check_dtype(dtype)
    target = as_torch_says(pick_device(device))
    dtype = resolved_dtype(dtype, target, found.ref, found.revision)
    code = _allowed_code(found, trust_remote_code)
    import torch
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    more: dict[str, Any] = {"use_safetensors": True}
    if found.file:
        # Weights stay as they are packed otherwise, and are unpacked with every token.
        more = {"quantization_config": transformers.GgufConfig(dequantize=True)}
    if four_bit:
        more |= quantization.arguments(getattr(torch, dtype), target.name)
    level = logging.get_verbosity()
    if auto_class == "AutoModel":
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # the head is left on disk on purpose
    try:
        loaded: Any = getattr(transformers, auto_class).from_pretrained(
            found.folder or found.ref,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            **code,
            **(placement(target, found) | more),
            **_place(found),
        )
        model, info = loaded
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError(
            f"model {found.ref!r} does not fit {target} in {dtype}: {error}",
            "free memory there, or name another `device` or other `devices`; a dry run says what would fit",
        ) from error
    except Exception as error:  # as above
        raise ModelError(
            f"model {found.ref!r} cannot be loaded as a {_CLASSES[auto_class]}: {_said(error)}",
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
    if four_bit:
        quantization.compute_plainly(model)
    loaded_model: PreTrainedModel = model.to(target.name).eval()
    _attend_fast(loaded_model, target, dtype)
    attention = loaded_model.config._attn_implementation
    log.info("loaded %s: %s on %s, attention %s", found.ref, dtype, target, attention)
    return loaded_model


def placement(target: Device, found: ModelCheck) -> dict[str, Any]:
    """Arguments of `from_pretrained` by which each weight goes from its file to its GPU.

    Without them the whole model is built in main memory first and then copied. A GGUF file is unpacked there anyway.
    """
    return {} if target.type == "cpu" or found.file else {"device_map": {"": target.name}}


def can_flash(target: Device, dtype: str) -> bool:
    """Whether FlashAttention 2 runs here: with its package, on a GPU from Ampere on, and on weights of 16 bits."""
    return (
        dtype != "float32"
        and target.type == "cuda"
        and target.capability is not None
        and target.capability >= FLASH_FROM
        and find_spec("flash_attn") is not None
    )


def _attend_fast(model: "PreTrainedModel", target: Device, dtype: str) -> None:
    """Takes FlashAttention 2 where it can be used and computes what the model's own attention does.

    Which attention it is stands in no identity: all compute one function, and differ by rounding as two sizes of a
    batch do. So it is tried on a padded batch, and left where it fails or differs by more than that.
    """
    if not can_flash(target, dtype):
        return
    from engine.models.forward import close

    own = model.config._attn_implementation
    try:
        expected = _probe(model)
        model.set_attn_implementation("flash_attention_2")
        found = _probe(model)
        if close(found, expected, model.dtype):
            return
        reason = "its results differ"
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        reason = str(error)
    model.set_attn_implementation(own)
    log.warning(
        "%s: attention stays %s, flash_attention_2 cannot be used: %s", model.name_or_path, own, reason
    )


def _probe(model: "PreTrainedModel") -> "Tensor":
    """What the model gives for two rows, at the places that are not padding, in float32: (18, width)."""
    import torch

    tokens = torch.arange(2 * _PROBE_TOKENS, device=model.device) % model.config.get_text_config().vocab_size
    ids = tokens.reshape(2, _PROBE_TOKENS)
    mask = torch.ones_like(ids)
    mask[0, : _PROBE_TOKENS // 2] = 0
    with torch.inference_mode():
        given: Tensor = model(input_ids=ids, attention_mask=mask)[0].float()
    return given[mask.bool()] if given.ndim == 3 else given


def as_torch_says(name: str) -> Device:
    """The device of this name, as the process that loads the model sees it.

    Args:
        name: from `pick_device`.
    """
    import torch

    if not name.startswith("cuda"):
        return this_machine().device(name)
    index = int(name.partition(":")[2] or 0)
    about = torch.cuda.get_device_properties(index)
    capability = None if torch.version.hip else (about.major, about.minor)
    return gpu(index, about.name, capability, torch.cuda.mem_get_info(index)[0])


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


def _allowed_code(found: ModelCheck, trust_remote_code: bool) -> dict[str, bool]:
    """Whether transformers may run a model's own code: what the hub holds must not change under the user."""
    if trust_remote_code and not found.revision and is_hub_id(found.ref):
        raise ModelError(
            f"model {found.ref!r}: `trust_remote_code` needs a pinned `revision`",
            "set `revision` to a commit of the model that you have read: its code could change otherwise",
        )
    return {"trust_remote_code": trust_remote_code}


def _place(found: ModelCheck) -> dict[str, Any]:
    """Keyword arguments that keep transformers off the network when the model is here."""
    if found.file:
        return {"local_files_only": True, "gguf_file": found.file}
    if found.folder is not None:
        return {"local_files_only": True}
    return {"revision": found.revision or "main"}
