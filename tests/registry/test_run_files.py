"""A run file's `dtype: auto` is settled for the machine: hashes on a CPU are those of before, on a GPU they differ."""

from pathlib import Path

import pytest

from engine.config import run_file
from engine.config.run_file import Run
from engine.job.identity import LEARNABILITY, RunIdentity
from engine.models.devices import Device, Machine
from engine.pipeline import launch
from engine.pipeline.run_view import run_of
from engine.registry import models, register, run_files
from engine.zoo import resolve
from storage import jobs
from storage.hashing import sha
from storage.store import Store

CPU = Machine(Device("cpu", True, 2**33))
GPU = Machine(CPU.cpu, (Device("cuda:0", True, 2**36, "NVIDIA H100", (9, 0)),))
OLD_GPU = Machine(CPU.cpu, (Device("cuda:0", False, 2**34, "Tesla T4", (7, 5)),))
TEXT = """
student: {name: pupil, model: "zoo:student"}
teachers:
  - {name: adder, model: "zoo:adder"}
  - {name: fixed, model: "zoo:brief", dtype: float32}
  - {name: far, model: m, backend: openai, base_url: "http://127.0.0.1:9/v1"}
prompts: [{source: reasoning_gym, task: chain_sum, size: 500}]
quality: {scorers: [{scorer: exact_answer}, {scorer: reward_model, model: "zoo:reward"}]}
router: {tune: frozen}
"""


@pytest.fixture
def run() -> Run:
    return run_file.parse(TEXT)


def identity(run: Run) -> RunIdentity:
    return RunIdentity(
        run, [models.teacher(one, run.generation) for one in run.teachers], models.student(run)
    )


def test_on_a_cpu_everything_is_as_it_was_without_auto(run: Run) -> None:
    settled = run_files.settled(run, CPU)
    before = run.model_dump(mode="json")
    before["router"]["dtype"] = "float32"  # its default in version 0.1.0
    assert settled.model_dump(mode="json") == before
    auto = run_file.parse(
        TEXT.replace('"zoo:student"', '"zoo:student", dtype: auto')
        .replace('"zoo:adder"', '"zoo:adder", dtype: auto')
        .replace("tune: frozen", "tune: frozen, dtype: auto")
        + "distill: {dtype: auto}\n"
    )
    assert run_files.settled(auto, CPU) == settled


def test_on_a_gpu_each_local_model_has_its_own_16_bits(run: Run) -> None:
    settled = run_files.settled(run, GPU)
    assert settled.student.dtype == "float16"  # as the zoo's files have it
    assert [teacher.dtype for teacher in settled.teachers] == ["float16", "float32", None]
    assert settled.router.dtype == "float16"  # frozen
    assert settled.distill.dtype == "bfloat16"  # trained
    assert [dict(one.settings).get("dtype") for one in settled.quality.scorers] == [None, "float16"]
    assert settled.model_dump() == run_files.settled(settled, GPU).model_dump()
    tuned = run.model_copy(update={"router": run.router.model_copy(update={"tune": "lora"})})
    assert run_files.settled(tuned, GPU).router.dtype == "bfloat16"


def test_devices_of_the_run_decide_its_number_formats_and_no_job() -> None:
    on_cpu = run_file.parse(TEXT + "devices: [cpu, cpu]\n")
    settled, alone = run_files.settled(on_cpu, GPU), run_files.settled(run_file.parse(TEXT), CPU)
    assert settled == alone.model_copy(update={"devices": ("cpu", "cpu")})


def test_a_job_goes_on_with_other_devices(tmp_path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        job, _ = launch.submit(store, run_file.parse(TEXT.replace("  - {name: far", "  # {name: far")))
        more = run_file.parse(TEXT.replace("  - {name: far", "  # {name: far") + "devices: [cpu, cpu]\n")
        same, created = launch.submit(store, more)
    assert (same.id, created) == (job.id, False)
    with Store.open(tmp_path / "store.db") as store:
        assert run_of(jobs.get(store, job.id)).devices == ("cpu", "cpu")


def test_what_the_run_file_says_stays(run: Run) -> None:
    student = run.student.model_copy(update={"dtype": "bfloat16"})
    settled = run_files.settled(run.model_copy(update={"student": student}), GPU)
    assert (settled.student.dtype, settled.distill.dtype) == ("bfloat16", None)
    on_cpu = run.student.model_copy(update={"device": "cpu"})
    settled = run_files.settled(run.model_copy(update={"student": on_cpu}), GPU)
    assert (settled.student.dtype, settled.distill.dtype) == (None, None)


def test_a_gpu_without_bfloat16_trains_in_float32(run: Run) -> None:
    settled = run_files.settled(run, OLD_GPU)
    assert (settled.student.dtype, settled.distill.dtype) == ("float16", "float32")


def test_a_device_that_is_not_there_is_left_to_the_checks_before_a_run(run: Run) -> None:
    away = run.student.model_copy(update={"device": "cuda:7"})
    assert run_files.settled(run.model_copy(update={"student": away}), GPU).student.dtype is None


def test_results_of_a_gpu_are_not_those_of_a_cpu(run: Run) -> None:
    cpu, gpu = identity(run_files.settled(run, CPU)), identity(run_files.settled(run, GPU))
    explicit = identity(
        run_files.settled(run_file.parse(TEXT.replace('"zoo:student"', '"zoo:student", dtype: float32')), CPU)
    )
    assert cpu.scorer(LEARNABILITY).identity == explicit.scorer(LEARNABILITY).identity
    assert cpu.generation_shas == identity(run).generation_shas
    assert cpu.router_sha == identity(run).router_sha
    same = [one == other for one, other in zip(cpu.generation_shas, gpu.generation_shas, strict=True)]
    assert same == [False, True, True]
    assert cpu.scorer(LEARNABILITY).identity["dtype"] == "float32"
    assert gpu.scorer(LEARNABILITY).identity["dtype"] == "float16"
    assert cpu.scorer("reward_model").identity != gpu.scorer("reward_model").identity
    assert cpu.scorer("exact_answer").identity == gpu.scorer("exact_answer").identity
    for name in ("evidence_sha", "router_sha"):
        assert getattr(cpu, name) != getattr(gpu, name)
    assert cpu.adapter_sha("persyn") != gpu.adapter_sha("persyn")
    assert cpu.evaluation_sha(None) != gpu.evaluation_sha(None)
    assert cpu.prompt_set_sha == gpu.prompt_set_sha


def test_a_job_keeps_what_was_settled_wherever_it_is_looked_at(run: Run, tmp_path, monkeypatch) -> None:
    with Store.open(tmp_path / "store.db") as store:
        made = run_files.settled(run, GPU).model_copy(
            update={"teachers": run_files.settled(run, GPU).teachers[:2]}
        )
        job, _ = launch.submit(store, made)
        assert identity(run_of(job)).evidence_sha == identity(made).evidence_sha
        on_cpu = run_files.settled(run, CPU).model_copy(
            update={"teachers": run_files.settled(run, CPU).teachers[:2]}
        )
        other, created = launch.submit(store, on_cpu)
        assert created
        monkeypatch.setattr(run_files, "this_machine", lambda: GPU)
        assert identity(run_of(other)).evidence_sha == identity(on_cpu).evidence_sha


def test_a_model_is_registered_with_the_format_of_this_machine(tmp_path: Path, monkeypatch) -> None:
    def registered(name: str, machine: Machine) -> None:
        for module in (register, run_files):
            monkeypatch.setattr(module, "this_machine", lambda: machine)
        wanted, _ = register.fill(
            register.settings({"name": name, "model": "zoo:adder"}, "teacher", tmp_path)
        )
        with Store.open(tmp_path / "store.db") as store:
            stored = register.put(store, register.record(wanted, "teacher"))
        assert models.number_format(stored) == ("float16" if machine is GPU else "float32")
        assert ("dtype" in stored.options) == (machine is GPU)

    registered("here", CPU)
    registered("there", GPU)
    (tmp_path / "run.yaml").write_text(
        "student: zoo:student\nteachers: [here, there]\n"
        "prompts: [{source: reasoning_gym, task: chain_sum, size: 500}]\n"
    )
    # On the GPU now: what was registered without one stays float32, so that its responses count.
    found = run_files.load(tmp_path / "run.yaml", str(tmp_path / "store.db"))
    assert [teacher.dtype for teacher in found.teachers] == ["float32", "float16"]
    monkeypatch.setattr(run_files, "this_machine", lambda: CPU)
    found = run_files.load(tmp_path / "run.yaml", str(tmp_path / "store.db"))
    assert [teacher.dtype for teacher in found.teachers] == [None, "float16"]


def test_the_demo_runs_as_before_on_a_cpu() -> None:
    run = run_file.load(Path(resolve.__file__).parent / "demo.yaml")
    settled = run_files.settled(run, CPU)
    assert sha(identity(settled).evidence_sha) == sha(identity(run).evidence_sha)
