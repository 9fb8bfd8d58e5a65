"""Whether a run's models fit is said from their files, with what would."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import save_file

from engine.config import run_file
from engine.config.run_file import Run
from engine.models.devices import Device, Machine
from engine.registry import run_files
from engine.report import dry_run, estimate, memory
from engine.report.memory import Need
from tools.zoo import tokens

GB = 10**9
WIDTH, LAYERS = 1024, 4
RUN = """
student: {{name: pupil, model: "{folder}"}}
teachers: [{{name: adder, model: "zoo:adder"}}, {{name: brief, model: "zoo:brief"}}]
prompts: [{{source: reasoning_gym, task: chain_sum, size: 500}}]
distill: {{method: {method}}}
"""


def machine(cpu: float, gpu: float | None = None) -> Machine:
    cuda = () if gpu is None else (Device("cuda:0", True, int(gpu * GB), "Some GPU", (9, 0)),)
    return Machine(Device("cpu", True, int(cpu * GB)), cuda)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of 64M weights in bfloat16, by its files."""
    place = tmp_path_factory.mktemp("student")
    tokenizer = tokens.build("A", [])
    tokenizer.save_pretrained(place)
    config = hf.LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        vocab_size=len(tokenizer),
        dtype="bfloat16",
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(place)
    with torch.device("meta"):
        model = hf.LlamaForCausalLM(config)
    weights = {name: torch.zeros(p.shape, dtype=torch.bfloat16) for name, p in model.named_parameters()}
    save_file(weights, place / "model.safetensors")
    return place


def needs(folder: Path, here: Machine, method: str = "lora") -> dict[str, Need]:
    run = run_files.settled(run_file.parse(RUN.format(folder=folder, method=method)), here)
    return {need.about: need for need in memory.of_run(run, here)}


def test_every_local_use_of_a_model_is_counted(folder: Path) -> None:
    found = needs(folder, machine(64))
    assert list(found) == ["teacher adder", "teacher brief", "student pupil", "router", "training"]
    assert all(need.fits and not need.remedy for need in found.values())
    student = found["student pupil"]
    assert student.parts["weights"] == 4 * student.parameters
    assert (student.dtype, student.device) == ("float32", "cpu")
    assert set(found["training"].parts) == {"weights", "gradients and optimizer", "batch"}


def test_on_a_gpu_it_is_counted_in_its_own_format(folder: Path) -> None:
    student = needs(folder, machine(64, 80))["student pupil"]
    assert student.parts["weights"] == 2 * student.parameters
    assert (student.dtype, student.device) == ("bfloat16", "cuda:0 (Some GPU)")
    assert "CUDA" in student.parts


def test_a_batch_that_was_set_too_large_is_what_is_to_change(folder: Path) -> None:
    text = RUN.format(folder=folder, method="lora").replace(
        "name: pupil,", "name: pupil, batch_tokens: 1000000000,"
    )
    run = run_files.settled(run_file.parse(text), machine(64))
    (student,) = (need for need in memory.of_run(run, machine(64)) if need.about == "student pupil")
    assert student.remedy == "no `batch_tokens` would fit, by estimate"


def test_each_device_holds_a_copy_of_what_scores(folder: Path) -> None:
    here = machine(64)
    two = Device("cuda:1", True, 20 * GB, "Some GPU", (9, 0))
    needed = needs(folder, Machine(here.cpu, (replace(two, name="cuda:0", free=80 * GB), two)))
    student, teacher = needed["student pupil"], needed["teacher adder"]
    assert (student.device, student.free, student.copies) == ("cuda:1 (Some GPU)", 20 * GB, 2)
    assert "the least of 2 that hold a copy each" in str(student)
    assert (teacher.device, teacher.copies) == ("cuda:0 (Some GPU)", 1)
    run = run_file.parse(RUN.format(folder=folder, method="lora") + "devices: [cpu, cpu]\n")
    on_cpu = {need.about: need for need in memory.of_run(run, here)}["student pupil"]
    assert (on_cpu.device, on_cpu.free, on_cpu.copies) == ("cpu", 32 * GB, 2)


def test_all_weights_are_trained_in_parts_on_several_devices(folder: Path) -> None:
    one = needs(folder, machine(64, 80), "full")["training"]
    gpus = tuple(Device(f"cuda:{index}", True, 80 * GB, "Some GPU", (9, 0)) for index in range(4))
    each = needs(folder, Machine(machine(64).cpu, gpus), "full")["training"]
    assert "the least of 4 that hold a part each" in str(each)
    count = one.parameters
    assert count is not None
    # Float32 weights, gradients and two moments; on one device there are bfloat16 weights with gradients beside them.
    assert one.parts["weights"] + one.parts["gradients and optimizer"] == 20 * count
    assert each.parts["weights"] + each.parts["gradients and optimizer"] == 4 * count
    assert each.parts["batch"] == one.parts["batch"]
    assert 0 < each.parts["gathered layers"] < 8 * count
    copy = needs(folder, Machine(machine(64).cpu, gpus))["training"]
    assert "hold a copy each" in str(copy)
    assert copy.parts["weights"] == 2 * count


def test_what_does_not_fit_is_named_with_what_would(folder: Path) -> None:
    roomy = needs(folder, machine(64), "full")["training"]
    assert needs(folder, machine(64), "qlora")["training"].parts["weights"] < roomy.parts["weights"] / 3
    tight = (roomy.parts["weights"] + roomy.parts["gradients and optimizer"]) / GB + 1.0
    found = needs(folder, machine(tight), "full")["training"]
    assert not found.fits
    assert found.total == roomy.total
    assert f"needs {found.total / GB:.1f} GB" in str(found)
    assert f"free {tight:.1f} GB on cpu" in str(found)
    assert found.would == (
        "`distill: {pass_tokens: 1024}`",
        "`distill: {gradient_checkpointing: true, pass_tokens: 1024}`",
    )
    assert found.remedy == f"{found.would[0]} or {found.would[1]} would fit, by estimate"
    nothing = needs(folder, machine(0.01), "full")["training"]
    assert nothing.would == ()
    assert "smaller model" in nothing.remedy


def test_less_precision_or_the_cpu_is_offered_where_it_fits(folder: Path) -> None:
    here = machine(64, 0.75)
    run = run_file.parse(RUN.format(folder=folder, method="lora"))
    student = run.student.model_copy(update={"dtype": "float32"})
    run = run_files.settled(run.model_copy(update={"student": student}), here)
    found = {need.about: need for need in memory.of_run(run, here)}["student pupil"]
    assert found.would == ("`dtype: bfloat16`", "`device: cpu`")


def test_a_model_that_is_not_here_counts_by_what_the_run_file_says() -> None:
    text = RUN.format(folder="zoo:student", method="lora").replace(
        '"zoo:adder"', "org/never-downloaded, parameters: 7.6e9, dtype: bfloat16"
    )
    run = run_file.parse(text.replace('"zoo:brief"', "org/never-downloaded-either"))
    big, unknown, *_ = memory.of_run(run, machine(12))
    assert str(big) == "7.6B in bfloat16 needs 15.2 GB (weights 15.2 GB); free 12.0 GB on cpu"
    assert not big.fits
    assert unknown.fits
    assert "not known" in str(unknown)


def test_a_dry_run_shows_and_gives_it(folder: Path) -> None:
    run: Run = run_file.parse(RUN.format(folder=folder, method="lora"))
    found = estimate.estimate(run)
    data = json.loads(json.dumps(estimate.as_json(found)))["memory"]
    assert {"about", "dtype", "device", "total", "free", "fits", "remedy", "parts"} <= data[0].keys()
    from rich.console import Console

    console = Console(record=True, width=300)
    console.print(dry_run.render(found))
    console.print(dry_run.render(replace(found, memory=memory.of_run(run, machine(0.01)))))
    text = console.export_text()
    assert "· training: " in text
    assert "✗ training: " in text
    assert "→ use a smaller model" in text
