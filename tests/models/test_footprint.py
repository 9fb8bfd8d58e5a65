"""What a model takes, from its shape: counted against real modules on the meta device, where they take nothing."""

import pytest
import torch
import transformers as hf

from engine.distill.lora import Tuning, make_trainable, trainable
from engine.models import footprint, loading
from engine.models.footprint import MOST_TOKENS, Shape
from engine.models.memory import batch_tokens
from tests.teachers import gguf_files

QWEN_7B = hf.Qwen2Config(
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    vocab_size=152064,
    tie_word_embeddings=False,
)


@pytest.fixture
def qwen():
    with torch.device("meta"):
        return hf.Qwen2ForCausalLM(QWEN_7B)


def shape_of(model) -> Shape:
    found = footprint.of_config(model.config.to_dict(), sum(p.numel() for p in model.parameters()))
    assert found is not None
    return found


def test_weights_and_adapter_are_those_of_the_real_modules(qwen) -> None:
    shape = shape_of(qwen)
    assert shape.parameters == 7_615_616_512
    assert footprint.weights(shape.parameters, "bfloat16") == 15_231_233_024  # the 15.2 GB of a 7.6B model
    assert (shape.queries, shape.keys) == (28 * 128, 4 * 128)
    student = make_trainable(qwen, Tuning(rank=16), 0)
    assert footprint.adapter(shape, 16) == sum(p.numel() for p in trainable(student).values())


def test_a_cached_position_is_a_key_and_a_value_of_each_layer() -> None:
    model, _ = loading.load_causal_lm("zoo:student", device="cpu")
    cache = model(input_ids=torch.arange(5)[None], use_cache=True).past_key_values
    held = sum(
        one.numel() * one.element_size() for layer in cache.layers for one in (layer.keys, layer.values)
    )
    assert held == 5 * footprint.cache(shape_of(model), "float32")


def test_a_trained_token_takes_what_was_measured() -> None:
    smollm2 = Shape(134_515_008, 30, 576, 1536, 576, 192, 49152)
    assert footprint.backward(smollm2, "float32", recomputed=False) == pytest.approx(2e6, rel=0.1)
    assert footprint.backward(smollm2, "float32", recomputed=True) < 0.1 * 2e6


def test_weights_in_4_bits_leave_embeddings_and_head_as_they_are(qwen) -> None:
    shape = shape_of(qwen)
    linear = sum(
        module.weight.numel()
        for name, module in qwen.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    )
    rest = 2 * (shape.parameters - linear)
    assert footprint.weights_in_4_bits(shape, "bfloat16") == pytest.approx(rest + linear * 0.516, rel=1e-3)


def test_full_training_takes_16_bytes_a_weight_in_float32_and_20_in_16_bits() -> None:
    assert footprint.weights(10, "float32") + footprint.trained(10, "float32") == 160
    assert footprint.weights(10, "bfloat16") + footprint.trained(10, "bfloat16") == 200


@pytest.mark.parametrize("name", ["student", "scholar", "speller", "router"])
def test_the_shape_of_files_is_that_of_the_loaded_model(name: str) -> None:
    model, _ = loading.load_causal_lm(f"zoo:{name}", device="cpu")
    assert footprint.of_files(f"zoo:{name}") == shape_of(model)


def test_a_gguf_file_has_the_shape_of_its_folder(tmp_path) -> None:
    folder = gguf_files.folder(tmp_path / "f")
    file = gguf_files.convert(folder, tmp_path / "m.gguf")
    assert footprint.of_files(str(file)) == footprint.of_files(str(folder))


def test_what_is_not_here_or_has_other_keys_has_no_shape() -> None:
    assert footprint.of_files("org/never-downloaded") is None
    assert footprint.of_config({"model_type": "mamba", "hidden_size": 8}, 10) is None


def test_a_batch_is_as_large_as_free_memory_and_the_shape_allow(qwen) -> None:
    shape = shape_of(qwen)
    free = 4 * footprint.GB
    tokens = footprint.affordable_tokens(shape, "bfloat16", free)
    each = footprint.forward(shape, "bfloat16") + footprint.cache(shape, "bfloat16")
    assert tokens == free // 2 // each
    assert footprint.affordable_tokens(shape, "float32", free) == pytest.approx(tokens / 2, abs=1)
    assert footprint.affordable_tokens(shape, "bfloat16", 2 * free) == pytest.approx(2 * tokens, abs=2)
    assert footprint.affordable_tokens(shape, "bfloat16", 20 * free) == MOST_TOKENS
    assert footprint.affordable_tokens(shape, "bfloat16", 0) == footprint.LEAST_TOKENS
    trained = footprint.affordable_tokens(shape, "bfloat16", 20 * footprint.GB, trains=True)
    assert trained == 10 * footprint.GB // footprint.backward(shape, "bfloat16", recomputed=False)
    assert footprint.affordable_tokens(None, "bfloat16", free) == MOST_TOKENS // 2


def test_a_cpu_takes_what_its_caches_hold() -> None:
    model, _ = loading.load_causal_lm("zoo:student", device="cpu")
    assert batch_tokens(model) == 1024
    assert batch_tokens(model, 77, trains=True) == 77
