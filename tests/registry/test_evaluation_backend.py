"""What runs the student that is evaluated: chosen once for a machine, and part of a result's hash where it is vLLM."""

import sys
from pathlib import Path

import pytest

from engine.config import run_file
from engine.config.run_file import Run
from engine.job.identity import RunIdentity
from engine.models.devices import Device, Machine
from engine.pipeline import preflight
from engine.registry import evaluation_backend, models, run_files
from engine.teachers.vllm_server import command

CPU = Machine(Device("cpu", True, 2**33))
GPU = Machine(CPU.cpu, (Device("cuda:0", True, 2**36, "NVIDIA H100", (9, 0)),))
TEXT = """
student: {name: pupil, model: "zoo:student"}
teachers: [{name: adder, model: "zoo:adder"}, {name: brief, model: "zoo:brief"}]
prompts: [{source: reasoning_gym, task: chain_sum, size: 500}]
"""


def run(more: str = "") -> Run:
    return run_file.parse(TEXT + more)


def evaluated(given: Run) -> tuple[str, str]:
    """(hash of the student's evaluation before training, of one after)."""
    teachers = [models.teacher(one, given.generation) for one in given.teachers]
    identity = RunIdentity(given, teachers, models.student(given))
    return identity.evaluation_sha(None), identity.evaluation_sha("an adapter")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find", lambda given=(): ("vllm", "serve"))


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(command.PYTHON, sys.executable if command.find_spec("vllm") is None else "/no/such")


@pytest.mark.usefixtures("installed")
def test_auto_is_vllm_where_there_are_a_gpu_and_vllm() -> None:
    def backend(more: str, machine: Machine) -> str | None:
        return run_files.settled(run(more), machine).evaluation.backend

    assert backend("", GPU) == "vllm"
    assert backend("evaluation: {backend: auto}", GPU) == "vllm"
    assert backend("", CPU) is None
    assert backend("evaluation: {backend: vllm}", CPU) == "vllm"
    assert backend("evaluation: {backend: transformers}", GPU) == "transformers"
    assert backend("distill: {merge: false}", GPU) == "vllm"
    assert backend("distill: {method: full, merge: false}", GPU) == "vllm"
    assert backend("distill: {method: qlora}", GPU) == "vllm"
    assert backend("distill: {method: qlora, merge: false}", GPU) is None
    assert backend("distill: {rank: 600, merge: false}", GPU) is None
    settled = run_files.settled(run(), GPU)
    assert run_files.settled(settled, GPU) == settled


@pytest.mark.usefixtures("installed")
def test_a_student_on_the_cpu_of_a_gpu_machine_stays_there() -> None:
    student = run().student.model_copy(update={"device": "cpu"})
    on_cpu = run().model_copy(update={"student": student})
    assert run_files.settled(on_cpu, GPU).evaluation.backend is None
    assert evaluation_backend.why_transformers(on_cpu, GPU) == "the student is on cpu"


@pytest.mark.usefixtures("missing")
def test_without_vllm_auto_is_transformers_and_vllm_is_refused_with_the_remedy() -> None:
    assert run_files.settled(run(), GPU).evaluation.backend is None
    assert "vllm" in evaluation_backend.why_transformers(run(), GPU).lower()
    (problem,) = preflight.problems(run("evaluation: {backend: vllm}"))
    assert problem.message.startswith("evaluation.backend: ")
    assert "persyn[vllm]" in problem.remedy
    assert "backend: transformers" in problem.remedy
    assert preflight.problems(run("evaluation: {backend: auto}")) == []


@pytest.mark.usefixtures("installed")
def test_vllm_for_an_adapter_on_4_bit_weights_is_refused_before_the_run() -> None:
    (problem,) = preflight.problems(run("distill: {rank: 600, merge: false}\nevaluation: {backend: vllm}"))
    assert "vllm cannot serve the trained student" in problem.message
    assert "merge: true" in problem.remedy


@pytest.mark.usefixtures("installed")
def test_only_an_evaluation_by_vllm_has_a_new_hash_and_nothing_else_does() -> None:
    before = evaluated(run())
    assert evaluated(run_files.settled(run(), CPU)) == before
    assert evaluated(run("evaluation: {backend: transformers}")) == before
    served = evaluated(run("evaluation: {backend: vllm}"))
    assert set(served).isdisjoint(before)
    placed = "evaluation: {backend: vllm, server: {command: [vllm], gpus: [1], restarts: 0}}"
    assert evaluated(run(placed)) == served
    assert set(evaluated(run("evaluation: {backend: vllm, server: {args: [--x]}}"))).isdisjoint(served)
