import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from engine.base.errors import NotAvailable
from engine.distill import loss as loss_module
from engine.distill.batches import cut_step
from engine.distill.data import tokenise
from engine.distill.forward import backward, mean_loss
from engine.models.forward import split_model
from engine.models.threads import threads

VOCABULARY = 64
"""Of the student of these tests."""


def naive(model, data, rows):
    """Plain loop: one row at a time, full logits, float64; sum over targets and their number."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in rows:
        ids = torch.from_numpy(data[row].ids.astype(np.int64))[None]
        log_p = torch.log_softmax(model(input_ids=ids).logits[0], dim=-1)
        for position in range(data[row].boundary, ids.shape[1]):
            total = total - log_p[position - 1, ids[0, position]]
            count += 1
    return total, count


def grads(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk", [4 * 64 * 3, 32 << 20])
def test_loss_and_gradient_equal_a_naive_float64_computation(make, tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", chunk)
    model = make.student().double().requires_grad_(True)
    data = tokenise(make.tokenizer(), make.rows(7), tmp_path, 100)
    rows = np.arange(7)

    total, count = naive(model, data, rows)
    (total / count).backward()
    wanted = grads(model)
    model.zero_grad()

    value = backward(split_model(model), data, [rows], lambda tokens: None)
    assert count == data.counts.target_tokens
    assert value == pytest.approx(float(total.detach()) / count, abs=1e-6)
    found = grads(model)
    assert found.keys() == wanted.keys()
    for name, grad in found.items():
        assert torch.allclose(grad, wanted[name], atol=1e-10), name


class Widest(TorchDispatchMode):
    """The most rows of logits that stood in one tensor."""

    rows = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        if isinstance(made, torch.Tensor) and made.ndim == 2 and made.shape[1] == VOCABULARY:
            self.rows = max(self.rows, made.shape[0])
        return made


def test_logits_are_made_for_a_few_targets_at_a_time(make, monkeypatch):
    monkeypatch.setattr(loss_module, "CHUNK_BYTES", 40 * 4 * VOCABULARY)
    split = split_model(make.student().requires_grad_(True))
    hidden = torch.randn(100, 32, requires_grad=True)
    with Widest() as widest:
        loss_module.loss_sum(split, hidden, torch.arange(100) % VOCABULARY).backward()
    assert widest.rows == 40  # the head itself, turned, has 32


def test_the_gradient_does_not_depend_on_how_a_step_is_cut(make, tmp_path):
    model = make.student().double().requires_grad_(True)
    data = tokenise(make.tokenizer(), make.rows(12), tmp_path, 100)
    rows, results = np.arange(12), []
    for passes in (
        [rows],
        np.array_split(rows, 12),
        [rows[:1], rows[1:]],
        cut_step(rows, data.lengths, max_tokens=40, pass_cost=5),
    ):
        model.zero_grad()
        value = backward(split_model(model), data, list(passes), lambda tokens: None)
        results.append((value, grads(model)))
    for value, found in results[1:]:
        assert value == pytest.approx(results[0][0], abs=1e-6)
        for name, grad in found.items():
            assert torch.allclose(grad, results[0][1][name], atol=1e-12), name


def test_mean_loss_is_per_token_not_per_row(make, tmp_path):
    model = make.student()
    data = tokenise(make.tokenizer(), make.rows(20), tmp_path, 100)
    total, count = naive(model.double(), data, range(20))
    assert mean_loss(split_model(model), data, 60) == pytest.approx(float(total.detach()) / count, abs=1e-6)


def other_architectures():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}
    gemma = Gemma2Config(
        **sizes, intermediate_size=32, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.05
    )
    granite = GraniteConfig(**sizes, intermediate_size=32, num_key_value_heads=1, logits_scaling=4.0)
    gpt2 = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=64)
    return [
        pytest.param(Gemma2ForCausalLM, gemma, id="softcap"),
        pytest.param(GraniteForCausalLM, granite, id="scale"),
        pytest.param(GPT2LMHeadModel, gpt2, id="gpt2"),
        pytest.param(GPTNeoXForCausalLM, GPTNeoXConfig(**sizes, intermediate_size=32), id="neox"),
    ]


@pytest.mark.parametrize(("kind", "config"), other_architectures())
def test_other_architectures_against_naive(make, tmp_path, kind, config):
    torch.manual_seed(0)
    model = kind(config).double().eval().requires_grad_(True)
    data = tokenise(make.tokenizer(), make.rows(5), tmp_path, 100)
    total, count = naive(model, data, range(5))
    (total / count).backward()
    wanted = grads(model)
    model.zero_grad()
    value = backward(split_model(model), data, [np.arange(5)], lambda tokens: None)
    assert value == pytest.approx(float(total.detach()) / count, abs=1e-6)
    for name, grad in grads(model).items():
        assert torch.allclose(grad, wanted[name], atol=1e-8), name


def test_an_architecture_that_changes_its_logits_is_refused(make):
    class Shifted(type(make.student())):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            output.logits = output.logits + torch.arange(output.logits.shape[-1])
            return output

    with pytest.raises(NotAvailable, match="Shifted"):
        split_model(Shifted(make.student().config))


def test_small_students_train_on_one_thread_and_the_process_gets_its_threads_back():
    before = torch.get_num_threads()
    with threads(parameters=200_000):
        assert torch.get_num_threads() == 1
    with threads(parameters=100_000_000):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
