"""A model's files as they come out of broken disks, downloads and hands: an error that names the file."""

import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.base.errors import ModelError
from engine.models import footprint, model_info

STUDENT = Path(__file__).parents[2] / "engine" / "zoo" / "weights" / "student"
CONFIG: dict[str, Any] = json.loads((STUDENT / "config.json").read_text())
WEIGHTS = (STUDENT / "model.safetensors").read_bytes()
LENGTH = struct.unpack("<Q", WEIGHTS[:8])[0]
HEADER: dict[str, Any] = json.loads(WEIGHTS[8 : 8 + LENGTH])
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
INDEX, SHARD = "model.safetensors.index.json", "model-00001-of-00002.safetensors"

Break = Callable[[Path], object]


def file(name: str, content: str | bytes) -> Break:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def config(**settings: Any) -> Break:
    return file("config.json", json.dumps({**CONFIG, **settings}))


def header(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Break:
    """Every tensor's entry in the weights' header changed."""
    changed = {name: one if name == "__metadata__" else change(one) for name, one in HEADER.items()}
    text = json.dumps(changed).encode()
    return file("model.safetensors", struct.pack("<Q", len(text)) + text + WEIGHTS[8 + LENGTH :])


def index(content: Any) -> Break:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / SHARD)
        (folder / INDEX).write_text(content if isinstance(content, str) else json.dumps(content))

    return write


def instead(name: str, make: Callable[[Path], object]) -> Break:
    def replace(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return replace


BROKEN: Mapping[str, tuple[Break, str]] = {
    "config of 100,000 levels": (file("config.json", DEEP), "config.json"),
    "config is a list": (file("config.json", "[1]"), "config.json"),
    "config is null": (file("config.json", "null"), "config.json"),
    "config is empty": (file("config.json", ""), "config.json"),
    "config in Latin-1": (file("config.json", b'{"model_type": "\xfc"}'), "config.json"),
    "config is a pipe": (instead("config.json", os.mkfifo), "config.json"),
    "config is a folder": (instead("config.json", Path.mkdir), "config.json"),
    "config links to itself": (instead("config.json", lambda path: path.symlink_to(path)), "config.json"),
    "config is a device": (instead("config.json", lambda path: path.symlink_to("/dev/zero")), "config.json"),
    "no model_type": (config(model_type=None), "model_type: expected text"),
    "model_type is a number": (config(model_type=3), "model_type: expected text"),
    "architectures is text": (config(architectures="Llama"), "architectures: expected a list"),
    "architectures is an object": (config(architectures={"a": 1}), "architectures: expected a list"),
    "architectures holds null": (config(architectures=[None]), "architectures[0]: expected text"),
    "text_config is text": (config(text_config="x"), "text_config: expected an object"),
    "text_config is a list": (config(text_config=[1]), "text_config: expected an object"),
    "vocab_size is text": (config(vocab_size="many"), "vocab_size: expected a whole number"),
    "vocab_size is negative": (config(vocab_size=-1), "vocab_size: expected a whole number"),
    "vocab_size is 1e99": (config(vocab_size=1e99), "vocab_size: expected a whole number"),
    "a billion layers": (config(num_hidden_layers=10**9), "num_hidden_layers: expected a whole number"),
    "weights are empty": (file("model.safetensors", b""), "model.safetensors"),
    "weights are zeros": (file("model.safetensors", bytes(100)), "model.safetensors"),
    "weights are cut": (file("model.safetensors", WEIGHTS[:-100]), "model.safetensors"),
    "header is cut": (file("model.safetensors", WEIGHTS[:20]), "model.safetensors"),
    "header of 2^60 bytes": (
        file("model.safetensors", struct.pack("<Q", 2**60) + WEIGHTS[8:]),
        "model.safetensors",
    ),
    "header is no JSON": (file("model.safetensors", struct.pack("<Q", 4) + b"{{{{"), "model.safetensors"),
    "offsets beyond the file": (
        header(lambda one: {**one, "data_offsets": [0, 10**12]}),
        "model.safetensors",
    ),
    "negative shapes": (header(lambda one: {**one, "shape": [-1, 2]}), "model.safetensors"),
    "unknown number format": (header(lambda one: {**one, "dtype": "F7"}), "model.safetensors"),
    "weights are a pipe": (instead("model.safetensors", os.mkfifo), "no model.safetensors"),
    "weights are a folder": (instead("model.safetensors", Path.mkdir), "no model.safetensors"),
    "index is a list": (index([1]), INDEX),
    "index of 60,000 levels": (index('{"weight_map":' * 60_000 + "1" + "}" * 60_000), INDEX),
    "index without a map": (index({}), "weight_map is missing"),
    "index maps a list": (index({"weight_map": [1]}), "weight_map: expected an object"),
    "index maps to a number": (index({"weight_map": {"a": 5}}), "weight_map.a: expected text"),
    "index leads out of the folder": (index({"weight_map": {"a": "../../x"}}), "no file of this folder"),
    "index names a shard that is not there": (index({"weight_map": {"a": "b.safetensors"}}), "b.safetensors"),
    "no tokenizer": (instead("tokenizer.json", lambda path: None), "no tokenizer"),
    "tokenizer is a pipe": (instead("tokenizer.json", os.mkfifo), "no tokenizer"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_a_folder_is_said_with_its_file(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(STUDENT, folder)
    destroy, said = BROKEN[name]
    destroy(folder)
    for look in (model_info.check, footprint.of_files):
        with pytest.raises(ModelError) as error:
            look(str(folder))
        assert said in error.value.message
        assert len(error.value.message) < 1000
        assert error.value.remedy
    model_info.fingerprint(str(folder))  # waits for no pipe, and reads no device


def test_the_folder_itself_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(STUDENT, folder)
    assert model_info.check(str(folder)) == model_info.check(str(folder))
    config(text_config=None, architectures=None, max_position_embeddings="many")(folder)
    found = model_info.check(str(folder))
    assert (found.architecture, found.context) == ("", None)
