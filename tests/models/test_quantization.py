import importlib.util
from math import ceil

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import GPT2Config, GPT2LMHeadModel

from engine.base.errors import NotAvailable
from engine.models.loading import load_causal_lm, load_tokenizer
from engine.models.quantization import dequantised, weight_bytes

IDS = torch.tensor([[3, 7, 11, 19, 23, 29, 31, 37]])


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS, use_cache=False).logits.float()


@pytest.fixture
def gpt2(tmp_path):
    """Its layers are `Conv1D`, which keep their weights transposed."""
    tokenizer = load_tokenizer("zoo:student")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_linear_layers_take_half_a_byte_a_weight_and_embeddings_stay():
    plain, _ = load_causal_lm("zoo:student")
    model, _ = load_causal_lm("zoo:student", four_bit=True)
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 7 * model.config.num_hidden_layers
    assert {layer.compute_dtype for layer in layers} == {torch.float32}
    for state in (layer.weight.quant_state for layer in layers):
        assert (state.quant_type, state.blocksize, state.nested) == ("nf4", 64, True)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert type(head) is torch.nn.Linear
    assert head.weight.dtype == torch.float32
    assert torch.equal(embedding.weight, plain.get_input_embeddings().weight)
    packed = sum(layer.weight.nbytes for layer in layers)
    assert 2 * packed == sum(layer.in_features * layer.out_features for layer in layers)
    assert model.num_parameters() == plain.num_parameters()
    # A scale of one byte for each 64 weights, and one of four for each 256 of those.
    blocks = [layer.in_features * layer.out_features // 64 for layer in layers]
    scales = sum(blocks) + 4 * sum(ceil(count / 256) for count in blocks)
    others = sum(weight.nbytes for weight in model.parameters() if weight.dtype == torch.float32)
    assert weight_bytes(model) == packed + scales + others
    assert weight_bytes(plain) == 4 * plain.num_parameters()


def test_a_pass_changes_no_weight_whatever_the_processor():
    """bitsandbytes would repack weights in eval mode where the CPU has AVX512-BF16."""
    model, _ = load_causal_lm("zoo:student", four_bit=True)
    assert not any(m.support_avx512bf16_for_cpu for m in model.modules() if isinstance(m, Linear4bit))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dequantised_computes_the_same(dtype):
    model, _ = load_causal_lm("zoo:student", dtype=dtype, four_bit=True)
    before, plain = logits(model), logits(load_causal_lm("zoo:student", dtype=dtype)[0])
    again = dequantised(model)
    assert {weight.dtype for weight in again.parameters()} == {getattr(torch, dtype)}
    assert not any(isinstance(module, Linear4bit) for module in again.modules())
    assert not hasattr(again.config, "quantization_config")
    assert torch.equal(logits(again), before)
    assert (before - plain).abs().max() > 0.1  # the values that were there before are others


def test_transposed_layers_are_stored_as_they_were(gpt2, tmp_path):
    model, tokenizer = load_causal_lm(gpt2, four_bit=True)
    before = logits(model)
    dequantised(model).save_pretrained(tmp_path / "again")
    tokenizer.save_pretrained(tmp_path / "again")
    torch.testing.assert_close(logits(load_causal_lm(str(tmp_path / "again"))[0]), before)


def test_the_same_bits_every_time():
    first, second = (load_causal_lm("zoo:student", four_bit=True)[0].state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_bitsandbytes_the_remedy_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "engine.models.nf4.find_spec",
        lambda name: None if name == "bitsandbytes" else find(name),
    )
    with pytest.raises(NotAvailable, match="bitsandbytes, which is not installed") as caught:
        load_causal_lm("zoo:student", four_bit=True)
    assert "persyn[qlora]" in caught.value.remedy
