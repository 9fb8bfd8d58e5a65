"""QLoRA on the zoo's student: adapters in float32 beside weights in 4 bits."""

import json

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from transformers import AutoModelForCausalLM

from engine.base.errors import ConfigError
from engine.distill.data import Rows
from engine.distill.loop import train
from engine.distill.lora import Tuning, make_trainable, trainable
from engine.distill.merge import Base, merge
from engine.distill.optimizer import OptimizerConfig
from engine.distill.settings import Hooks, Settings
from engine.models.adapters import check
from engine.models.loading import load_causal_lm
from engine.models.quantization import arguments
from engine.zoo import resolve

STUDENT = "zoo:student"
ROWS = [
    ([{"role": "user", "content": f"What is {a} plus {b}?"}], f"{a} plus {b} is {a + b}.")
    for a in range(2, 10)
    for b in range(2, 8)
]


def settings(method="qlora", **changes):
    return Settings(
        tuning=Tuning(method=method, rank=8, alpha=16),
        optimizer=OptimizerConfig(learning_rate=5e-3),
        batch_rows=8,
        seed=1,
        **changes,
    )


def run(folder, method="qlora", dtype="float32", hooks=None, **changes):
    model, tokenizer = load_causal_lm(STUDENT, dtype=dtype, four_bit=method == "qlora")
    return train(model, tokenizer, Rows(ROWS, ROWS[:8]), folder, settings(method, **changes), hooks)


@pytest.fixture
def probes():
    _, tokenizer = load_causal_lm(STUDENT)
    return [tokenizer(f"{m[0]['content']} {r}")["input_ids"] for m, r in ROWS[:4]]


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


@pytest.fixture(params=["float32", "bfloat16"])
def trained(request, tmp_path):
    return request.param, run(tmp_path / "run", dtype=request.param, epochs=1)


def test_the_loss_falls_as_far_as_loras(tmp_path):
    """At least nine tenths as far. The 4-bit student begins higher: what it starts from is another model."""
    fallen = {}
    for method in ("lora", "qlora"):
        losses = []
        result = run(
            tmp_path / method,
            method,
            hooks=Hooks(on_progress=lambda report, losses=losses: losses.append(report["loss"])),
            epochs=4,
        )
        fallen[method] = losses[0] - result.eval_loss
    assert fallen["lora"] > 0.5
    assert fallen["qlora"] >= 0.9 * fallen["lora"]


def test_only_adapters_in_float32_are_trained():
    model, _ = load_causal_lm(STUDENT, dtype="bfloat16", four_bit=True)
    student = make_trainable(model, Tuning(method="qlora"), 0)
    parameters = trainable(student)
    assert all("lora_" in name for name in parameters)
    assert {value.dtype for value in parameters.values()} == {torch.float32}
    assert sum(isinstance(module, Linear4bit) for module in student.modules()) * 2 == len(parameters)


@pytest.mark.parametrize(("method", "four_bit"), [("qlora", False), ("lora", True), ("full", True)])
def test_weights_of_another_format_are_refused(method, four_bit):
    model, _ = load_causal_lm(STUDENT, four_bit=four_bit)
    with pytest.raises(ConfigError, match=f"cannot be trained by `{method}`"):
        make_trainable(model, Tuning(method=method), 0)


def test_the_merged_student_computes_what_the_live_one_did(trained, probes, tmp_path):
    dtype, result = trained
    merged = merge(Base(STUDENT, dtype=dtype), result.path, tmp_path / "merged", probes)
    model, _ = load_causal_lm(str(merged.path), dtype=dtype)
    live, again = logits(result.model, probes[0]), logits(model, probes[0])
    allowed = (1e-4 if dtype == "float32" else 5e-2) * float(live.abs().max())
    assert (again - live).abs().max() <= allowed
    config = json.loads((merged.path / "config.json").read_text())
    assert "quantization_config" not in config


def test_on_the_weights_before_quantisation_it_would_compute_something_else(tmp_path, probes):
    result = run(tmp_path, epochs=1)
    plain, _ = load_causal_lm(STUDENT)
    wrong = PeftModel.from_pretrained(plain, result.path).eval()
    live = logits(result.model, probes[0])
    assert (logits(wrong, probes[0]) - live).abs().max() > 1e-2 * live.abs().max()


def test_an_adapter_says_what_it_belongs_to_and_is_loaded_on_that(tmp_path, probes):
    result = run(tmp_path, epochs=1)
    assert check(str(result.path)).quantization == "nf4"
    assert check(str(run(tmp_path / "lora", "lora", epochs=1).path)).quantization == ""
    whole, _ = load_causal_lm(STUDENT, adapter=str(result.path))
    live = logits(result.model, probes[0])
    torch.testing.assert_close(logits(whole, probes[0]), live, atol=1e-4 * float(live.abs().max()), rtol=0)


def test_the_readme_loads_the_student_with_peft_alone(tmp_path, probes):
    result = run(tmp_path, epochs=1)
    text = (result.path / "README.md").read_text()
    assert "QLoRA, rank 8" in text
    code = text.partition("```python\n")[2].partition("tokenizer = ")[0].replace("FOLDER", "folder")
    names = {"folder": str(result.path)}
    exec(code, names)
    assert torch.equal(logits(names["student"], probes[0]), logits(result.model, probes[0]))


def test_peft_reads_the_adapter_as_any_other(tmp_path, probes):
    result = run(tmp_path, epochs=1)
    base = AutoModelForCausalLM.from_pretrained(
        resolve.resolve(STUDENT), dtype=torch.float32, **arguments(torch.float32, "cpu")
    )
    again = PeftModel.from_pretrained(base, result.path).eval()
    assert torch.equal(logits(again, probes[0]), logits(result.model, probes[0]))


def test_a_stop_within_a_pass_and_a_resume_change_no_bit(tmp_path):
    """Losses on rows held out are measured in eval mode between the steps of one run and not of the other."""
    whole = run(tmp_path / "whole", epochs=2, eval_every=1)
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 31

    first = run(tmp_path / "stopped", epochs=2, hooks=Hooks(should_stop=stop))
    assert first.stopped
    assert 0 < first.step < 12
    second = run(tmp_path / "stopped", epochs=2)
    assert second.resumed_from == first.step
    files = [result.path / "adapter_model.safetensors" for result in (whole, second)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_checkpoint_of_another_number_format_is_not_gone_on_from(tmp_path):
    run(tmp_path, epochs=1, checkpoint_every=2)
    with pytest.raises(ConfigError, match="other rows, settings or another student"):
        run(tmp_path, dtype="bfloat16", epochs=1, checkpoint_every=2)


def test_gradient_checkpointing_reaches_the_same_loss(tmp_path):
    plain = run(tmp_path / "plain", epochs=1)
    again = run(tmp_path / "again", epochs=1, gradient_checkpointing=True)
    assert again.loss == pytest.approx(plain.loss, rel=1e-5)
