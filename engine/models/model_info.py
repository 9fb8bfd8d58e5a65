"""What a usable model folder holds, read without torch.

`check` reads JSON and safetensors headers only, so a wrong path or a missing chat template is reported in
milliseconds. Weights are safetensors only. Loading is in `engine.models.loading`.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from threading import Thread
from typing import Any

from safetensors import SafetensorError, safe_open

from engine.base import foreign_json
from engine.base.errors import ModelError
from engine.base.foreign_json import Value, WrongShape
from engine.models import gguf_files
from engine.zoo import resolve

DTYPES = ("float32", "bfloat16", "float16")
"""Accepted names of weight types."""

DEVICES = r"auto|cpu|mps|cuda(:\d+)?"
"""Accepted names of devices, as a regular expression."""

HUB_TIMEOUT_S = 4.0
"""Longest wait for the model hub before a model counts as unreachable."""

_STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""safetensors' names."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_TEXT_FILES = (
    "config.json",
    "adapter_config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "chat_template.jinja",
    *_TOKENIZER_FILES[1:],
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
_MOST_LAYERS = 10_000
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_SAMPLE_BLOCKS = 256
_SAMPLE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What can be said of a model without loading its weights."""

    ref: str
    """The reference as given: `zoo:NAME`, a folder, a GGUF file, or a hub id."""
    folder: str | None
    """Local folder; None for a hub id that is reachable but not downloaded: nothing below is known then."""
    revision: str = ""
    """Of a hub id, as given."""
    file: str = ""
    """Name of the GGUF file in it, when the model is one."""
    architecture: str = ""
    """First entry of `architectures` in config.json."""
    family: str = ""
    """`model_type` of config.json."""
    parameters: int | None = None
    """Number of weights stored in its files (tied weights once)."""
    context: int | None = None
    """Tokens that prompt and answer may take together; None when the config does not say."""
    vocabulary: int | None = None
    """Rows of the embedding, from config.json."""
    chat_template: bool = False


def context_length(config_or_model: Any) -> int | None:
    """Tokens a model can attend to at once, or None when its config does not say.

    Args:
        config_or_model: a transformers model or config, or config.json as a mapping.
    """
    config = getattr(config_or_model, "config", config_or_model)
    values = config if isinstance(config, Mapping) else config.to_dict()
    inner = values.get("text_config")
    for scope in (values, inner if isinstance(inner, Mapping) else {}):
        for key in _CONTEXT_KEYS:
            if isinstance(scope.get(key), int) and scope[key] > 0:
                return int(scope[key])
    return None


def check(ref: str, *, revision: str = "", weights: bool = True, chat_template: bool = True) -> ModelCheck:
    """Description of a model, read without torch and without its weights in well under a second.

    Args:
        ref: `zoo:NAME`, a folder, a GGUF file, or a hub id. A hub id that is in the local cache is checked
            like a folder; any other is asked for at the hub, once, for at most `HUB_TIMEOUT_S` seconds.
        revision: branch, tag or commit of a hub id.
        weights: whether the safetensors files must be there, whole.
        chat_template: whether the tokenizer must have a chat template.

    Raises:
        ModelError: naming the folder, the file and the remedy.
    """
    if gguf_files.is_gguf(ref):
        return _check_gguf(Path(ref).expanduser(), ref, chat_template)
    folder = _folder(ref, revision)
    if folder is None:
        _ask_hub(ref, revision)
        return ModelCheck(ref=ref, folder=None, revision=revision)
    config = _read_json(folder / "config.json", ref)
    with _wrong_shapes(folder / "config.json", ref):
        described = _Described.by(Value(config))
    parameters = _count_parameters(folder, ref) if weights else None
    if not has_tokenizer(folder):
        raise ModelError(
            f"model {ref!r}: {folder} has no tokenizer (none of {', '.join(_TOKENIZER_FILES)})",
            "save the tokenizer into the same folder with tokenizer.save_pretrained",
        )
    has_template = has_chat_template(folder, ref)
    if chat_template and not has_template:
        raise ModelError(
            f"model {ref!r}: the tokenizer in {folder} has no chat template "
            "(no chat_template.jinja, no `chat_template` in tokenizer_config.json)",
            "use an instruct model, or put the template its training used into chat_template.jinja there",
        )
    return ModelCheck(
        ref=ref,
        folder=str(folder),
        revision=revision,
        architecture=described.architecture,
        family=described.family,
        parameters=parameters,
        context=context_length(config),
        vocabulary=described.vocabulary,
        chat_template=has_template,
    )


@dataclass(frozen=True, slots=True)
class _Described:
    """What is read of a config.json."""

    family: str
    architecture: str
    vocabulary: int | None

    @classmethod
    def by(cls, config: Value) -> "_Described":
        """Raises WrongShape."""
        architectures = config.get("architectures")
        named = architectures.list() if architectures else []
        scopes = [config, *filter(None, [config.get("text_config")])]
        rows = [found.integer(1) for scope in scopes if (found := scope.get("vocab_size"))]
        for scope in scopes:
            if layers := scope.get("num_hidden_layers"):
                layers.integer(0, _MOST_LAYERS)  # a broken number would be built for hours
        return cls(config["model_type"].text(), named[0].text() if named else "", rows[0] if rows else None)


def is_here(ref: str, revision: str = "") -> bool:
    """Whether a model's files are on this machine; no hub is asked.

    Raises:
        ModelError: no such folder, and no hub id is written like this.
    """
    return gguf_files.is_gguf(ref) or _folder(ref, revision) is not None


def config(ref: str, revision: str = "") -> Mapping[str, Any]:
    """config.json of a model; of a hub id that is not here it is fetched, a few kilobytes.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    folder = _folder(ref, revision)
    if folder is not None:
        return _read_json(folder / "config.json", ref)
    _ask_hub(ref, revision)
    from huggingface_hub import hf_hub_download  # half a second, for hub ids alone

    try:
        return _read_json(Path(hf_hub_download(ref, "config.json", revision=revision or None)), ref)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model {ref!r}: its config.json cannot be fetched: {error}",
            "log in with `hf auth login` where the model is gated, or download it first",
        ) from error


def stored_dtype(ref: str, revision: str = "") -> str:
    """The number format of most weights in a model's first safetensors file, as one of `DTYPES`.

    float32 where they have another, or where no weights are here.
    """
    folder = _folder(ref, revision)
    counts = dict.fromkeys(_STORED.values(), 0)
    for path in [] if folder is None else _weight_files(folder)[:1]:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  (no mapping)
                weights = file.get_slice(name)
                counts[_STORED.get(weights.get_dtype(), "float32")] += prod(weights.get_shape())
    return max(counts, key=lambda name: counts[name])


def fingerprint(ref: str, revision: str = "") -> str:
    """SHA-256 of what a model is, the same on every machine and before and after a download.

    A hub id counts by its name and revision: pin a commit to be sure of it.
    Small files (configs, tokenizer, template) count whole. A weight file counts by its size and, above
    16 MiB, by 256 blocks of 64 KiB spread evenly over it: a fine-tuned or merged model differs in nearly
    every block, and a 150 GB folder still takes about a second.
    """
    digest = hashlib.sha256()
    if gguf_files.is_gguf(ref):
        gguf_files.read(Path(ref).expanduser())  # says what is wrong with it
        _add_weights(digest, Path(ref).expanduser(), "gguf")
        return digest.hexdigest()
    folder = None if is_hub_id(ref) else _folder(ref, revision)
    if folder is None:
        digest.update(f"hub {ref}@{revision}".encode())
        return digest.hexdigest()
    for name in sorted(set(_TEXT_FILES)):
        path = folder / name
        if path.is_file():
            digest.update(f"{name} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    for path in sorted(path for path in folder.glob("*.safetensors") if path.is_file()):
        _add_weights(digest, path, path.name)
    return digest.hexdigest()


def _add_weights(digest: "hashlib._Hash", path: Path, name: str) -> None:
    size = path.stat().st_size
    digest.update(f"{name} {size}\n".encode())
    with path.open("rb") as file:
        if size <= _SAMPLE_BLOCKS * _SAMPLE_BYTES:
            digest.update(file.read())
            return
        for block in range(_SAMPLE_BLOCKS):
            file.seek((size - _SAMPLE_BYTES) * block // (_SAMPLE_BLOCKS - 1))
            digest.update(file.read(_SAMPLE_BYTES))


def check_dtype(name: str | None) -> None:
    """Nothing when `name` is a known weight type, `auto` or None; raises ModelError otherwise."""
    if name not in (None, "auto", *DTYPES):
        raise ModelError(f"unknown dtype {name!r}", f"use auto or one of {', '.join(DTYPES)}")


def is_hub_id(ref: str) -> bool:
    """Whether a reference names a model of the hub: no file or folder, and not of the zoo."""
    return not ref.startswith("zoo:") and not Path(ref).expanduser().exists() and bool(_HUB_ID.fullmatch(ref))


def _folder(ref: str, revision: str) -> Path | None:
    """Local folder of a reference, or None for a hub id that is not in the local cache."""
    if ref.startswith("zoo:"):
        return Path(resolve.resolve(ref))
    path = Path(ref).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelError(
            f"model {ref!r} is a file",
            "give the folder that holds config.json and the weights, or a .gguf file",
        )
    if not _HUB_ID.fullmatch(ref):
        raise ModelError(
            f"model folder {ref!r} does not exist", "correct the path, or give zoo:NAME or a hub id"
        )
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(ref, "config.json", revision=revision or None)
    except HFValidationError:
        raise ModelError(
            f"model folder {ref!r} does not exist, and no hub id is written like this",
            "correct the path, or give zoo:NAME or a hub id",
        ) from None
    if isinstance(cached, str) and any(Path(cached).parent.glob("*.safetensors")):
        return Path(cached).parent
    return None


def _ask_hub(ref: str, revision: str) -> None:
    """Raise ModelError unless the hub has this model; one request, never longer than `HUB_TIMEOUT_S`."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url  # half a second, for hub ids alone

    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(
                hf_hub_url(ref, "config.json", revision=revision or None), timeout=HUB_TIMEOUT_S
            )
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    # In a thread because name resolution does not honour the timeout.
    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_S)
    error = outcome[0] if outcome else TimeoutError(f"no answer in {HUB_TIMEOUT_S:.0f} s")
    remedy = f"if {ref!r} is a folder, correct the path; else download the model where there is a network"
    if isinstance(error, errors.OfflineModeIsEnabled):
        raise ModelError(
            f"model {ref!r} is neither a folder nor in the local cache, and the hub is off", remedy
        )
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status == 404:
        raise ModelError(f"the hub has no model {ref!r} with a config.json", remedy)
    if status is not None and status >= 500:
        raise ModelError(f"the hub answered {status} for model {ref!r}", "try again later")
    if error is not None and status is None:
        raise ModelError(
            f"model {ref!r} is no folder and not in the local cache, and the hub is out of reach ({error})",
            f"{remedy}, or set HF_HUB_OFFLINE=1 to never ask",
        )
    # 401 and 403 (private, gated, or not existing) are left to the download, which knows the user's token.


def _read_json(path: Path, ref: str) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(
            f"model {ref!r}: {path} does not exist",
            "give a folder written by save_pretrained of transformers",
        )
    with _wrong_shapes(path, ref):
        return foreign_json.read(path).object()


@contextmanager
def _wrong_shapes(path: Path, ref: str) -> Iterator[None]:
    """Makes what is wrong with a JSON file of a model an error that names both."""
    try:
        yield
    except (OSError, WrongShape) as error:
        raise ModelError(
            f"model {ref!r}: {path} cannot be read: {error}",
            "copy the file again; the folder must come from save_pretrained of transformers",
        ) from error


def _check_gguf(path: Path, ref: str, chat_template: bool) -> ModelCheck:
    header = gguf_files.read(path)
    if chat_template and not header.chat_template:
        raise ModelError(
            f"model {ref!r} has no chat template in its metadata",
            "use the GGUF file of an instruct model, or set the template with gguf_new_metadata.py --chat-template",
        )
    return ModelCheck(
        ref=ref,
        folder=str(path.parent),
        file=path.name,
        architecture=f"GGUF {header.architecture}",
        family=header.architecture,
        parameters=header.parameters,
        context=header.context,
        vocabulary=header.vocabulary,
        chat_template=header.chat_template,
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer's files are in the folder."""
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def has_chat_template(folder: Path, ref: str) -> bool:
    """Whether the folder's tokenizer has a chat template; ModelError when its files cannot be read."""
    if (folder / "chat_template.jinja").is_file():
        return True
    path = folder / "tokenizer_config.json"
    return path.is_file() and bool(_read_json(path, ref).get("chat_template"))


def _weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("model*.safetensors") if path.is_file())


def _count_parameters(folder: Path, ref: str) -> int:
    """Number of stored weights; ModelError when a weight file is missing, cut off, or not safetensors."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        with _wrong_shapes(index, ref):
            shards = Value(_read_json(index, ref))["weight_map"]
            names = {shards[weight].text() for weight in shards.object()}
            if outside := [name for name in names if Path(name).name != name]:
                raise WrongShape(f"a shard is no file of this folder: {outside[0][:80]!r}")
        files = [folder / name for name in sorted(names)]
    else:
        files = _weight_files(folder)
    if not files:
        remedy = "copy the weights there"
        if any(folder.glob("*.bin")):
            remedy = "convert the .bin weights: only safetensors are read, because pickles can run code"
        if (folder / "adapter_model.safetensors").is_file():
            remedy = "this is a LoRA adapter: name it as `adapter`, and its base model as `model`"
        raise ModelError(f"model {ref!r}: {folder} has no model.safetensors", remedy)
    return sum(weights_in(path, ref) for path in files)


def weights_in(path: Path, ref: str) -> int:
    """Number of weights in a safetensors file, from its header, which must match the file's size."""
    try:
        if not path.is_file():  # a pipe would be waited for without end
            raise FileNotFoundError("no such file")
        with safe_open(path, framework="numpy") as file:
            return sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"model {ref!r}: {path} cannot be used: {error}",
            "the file is missing or incomplete: copy it again",
        ) from error
