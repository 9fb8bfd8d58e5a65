"""`dtype: auto`: a checkpoint's own 16 bits on a GPU that computes in them, float32 elsewhere."""

import json
from pathlib import Path

import gguf
import pytest
import torch
import transformers as hf

from engine.base.errors import ModelError
from engine.models import devices, loading, precision
from engine.models.devices import Device, Machine
from engine.models.precision import own_dtype, resolved_dtype, settled_dtype
from tests.teachers import gguf_files
from tools.zoo import tokens

CPU = Device("cpu", True, 2**30)
H100 = Device("cuda:0", True, 2**30, "NVIDIA H100", (9, 0))
T4 = Device("cuda:0", False, 2**30, "Tesla T4", (7, 5))
MPS = Device("mps", True, 2**30)


def folder(path: Path, **config: object) -> str:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return str(path)


@pytest.mark.parametrize("device", [H100, MPS])
def test_a_gpu_takes_the_16_bits_of_the_checkpoint(tmp_path, device: Device) -> None:
    for own in ("bfloat16", "float16", "float32"):
        assert resolved_dtype("auto", device, folder(tmp_path, dtype=own)) == own
        assert resolved_dtype(None, device, folder(tmp_path, torch_dtype=own)) == own
    assert resolved_dtype("auto", device, folder(tmp_path, text_config={"dtype": "bfloat16"})) == "bfloat16"
    assert resolved_dtype("auto", device, folder(tmp_path, dtype="float64")) == "float32"


def test_the_cpu_takes_float32_and_reads_nothing() -> None:
    assert resolved_dtype("auto", CPU, "./not/there") == "float32"
    assert resolved_dtype(None, CPU, "some/hub-model") == "float32"


def test_what_is_asked_for_is_taken() -> None:
    for device in (CPU, H100, T4):
        assert resolved_dtype("bfloat16", device, "./not/there") == "bfloat16"
        assert resolved_dtype("float32", device, "./not/there") == "float32"


def test_a_gpu_without_bfloat16_takes_float32_for_it(tmp_path) -> None:
    assert resolved_dtype("auto", T4, folder(tmp_path, dtype="bfloat16")) == "float32"
    assert resolved_dtype("auto", T4, folder(tmp_path, dtype="float16")) == "float16"


def test_nothing_is_trained_in_float16_of_itself(tmp_path) -> None:
    own = folder(tmp_path, dtype="float16")
    assert resolved_dtype("auto", H100, own, trains=True) == "bfloat16"
    assert resolved_dtype("auto", T4, own, trains=True) == "float32"
    assert resolved_dtype("float16", H100, own, trains=True) == "float16"


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float32"])
def test_a_config_that_does_not_say_leaves_it_to_the_weights(tmp_path, stored: str) -> None:
    tokenizer = tokens.build("A", [])
    config = hf.LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=len(tokenizer),
    )
    hf.LlamaForCausalLM(config).to(getattr(torch, stored)).save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    assert own_dtype(str(tmp_path)) == said.pop("dtype") == stored
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert own_dtype(str(tmp_path)) == stored


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        (None, "float32"),
        (gguf.GGMLQuantizationType.F16, "float16"),
        (gguf.GGMLQuantizationType.BF16, "bfloat16"),
        (gguf.GGMLQuantizationType.Q8_0, "bfloat16"),
    ],
)
def test_a_gguf_file_is_unpacked_into_its_own_format_or_bfloat16(tmp_path, quantization, dtype: str) -> None:
    file = gguf_files.convert(gguf_files.folder(tmp_path / "f"), tmp_path / "m.gguf", quantization)
    assert own_dtype(str(file)) == resolved_dtype("auto", H100, str(file)) == dtype
    assert resolved_dtype("auto", CPU, str(file)) == "float32"


def test_what_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        resolved_dtype("auto", H100, str(tmp_path / "not"))
    with pytest.raises(ModelError, match=r"config.json does not exist"):
        resolved_dtype("auto", H100, str(tmp_path))


def test_what_is_stored_without_a_format_is_float32_on_any_machine(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(precision, "this_machine", lambda: Machine(CPU, (H100,)))
    own = folder(tmp_path, dtype="bfloat16")
    assert settled_dtype(None, "auto", own) == "float32"
    assert settled_dtype("bfloat16", "cpu", own) == "bfloat16"
    assert settled_dtype("auto", "auto", own) == "bfloat16"
    assert settled_dtype("auto", "cpu", own) == "float32"
    with pytest.raises(ModelError, match="unknown dtype 'int4'"):
        settled_dtype("int4", "auto", own)


def test_weights_go_straight_to_a_gpu_and_nowhere_else() -> None:
    found = loading.check("zoo:student")
    assert loading.placement(H100, found) == {"device_map": {"": "cuda:0"}}
    assert loading.placement(MPS, found) == {"device_map": {"": "mps"}}
    assert loading.placement(CPU, found) == {}


def test_a_device_map_gives_the_same_model(monkeypatch) -> None:
    plain, _ = loading.load_causal_lm("zoo:student", device="cpu")
    monkeypatch.setattr(loading, "placement", lambda target, found: {"device_map": {"": "cpu"}})
    mapped, _ = loading.load_causal_lm("zoo:student", device="cpu")
    assert mapped.dtype == plain.dtype == torch.float32
    assert mapped.device == plain.device
    for (name, one), (other, two) in zip(plain.named_parameters(), mapped.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(one, two)


def test_flash_attention_needs_its_package_an_ampere_and_16_bits(monkeypatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: object())
    assert loading.can_flash(H100, "bfloat16")
    assert loading.can_flash(H100, "float16")
    for device, dtype in ((H100, "float32"), (T4, "float16"), (CPU, "bfloat16"), (MPS, "bfloat16")):
        assert not loading.can_flash(device, dtype)
    assert not loading.can_flash(devices.Device("cuda:0", True, 0), "bfloat16")  # not NVIDIA's
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    assert not loading.can_flash(H100, "bfloat16")


def test_attention_stays_as_it_is_where_the_fast_one_fails(monkeypatch, caplog) -> None:
    model, _ = loading.load_causal_lm("zoo:student", dtype="bfloat16", device="cpu")
    before = model.config._attn_implementation
    monkeypatch.setattr(loading, "can_flash", lambda target, dtype: True)  # as where flash_attn is broken
    reloaded, _ = loading.load_causal_lm("zoo:student", dtype="bfloat16", device="cpu")
    assert reloaded.config._attn_implementation == before
    assert "flash_attention_2 cannot be used" in caplog.text
    ids = torch.arange(8)[None]
    assert torch.equal(reloaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_loading_says_what_was_loaded_how(caplog) -> None:
    caplog.set_level("INFO", logger="engine.models.loading")
    loading.load_causal_lm("zoo:student", device="cpu")
    assert "loaded zoo:student: float32 on cpu, attention sdpa" in caplog.text
