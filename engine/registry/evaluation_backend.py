"""What runs the student that is evaluated: `auto` settled for a machine, and what of it shapes an answer.

As a number format is (`engine.registry.run_files`), it is settled when a run file is read and stored with the job, so
that the student before training and every trained one are measured by the same program, wherever they are looked at.
None in a store is transformers.
"""

from typing import Any, Final

from engine.base.errors import ConfigError, ModelError, NotAvailable
from engine.config.run_file import Run
from engine.config.stages import DistillConfig, EvaluationConfig
from engine.config.vllm import LORA_RANKS
from engine.models.devices import Machine
from engine.models.precision import AUTO
from engine.teachers.vllm_server import command

VLLM: Final = "vllm"
VERSION = 1
"""Raised when the same settings would give other answers through vLLM."""


def settled(run: Run, machine: Machine) -> str | None:
    """The backend in place of `auto`: `vllm`, or None for transformers; what is set stays."""
    asked = run.evaluation.backend
    if asked not in (None, AUTO):
        return asked
    return None if why_transformers(run, machine) else VLLM


def why_transformers(run: Run, machine: Machine) -> str:
    """Why `auto` is transformers on a machine, for a line of the log; empty where it is vLLM."""
    try:
        device = machine.device(run.student.device or AUTO)
    except ModelError as problem:  # said before the run
        return problem.message
    if device.type != "cuda":
        return f"the student is on {device}"
    if reason := _obstacle(run.distill):
        return reason
    try:
        command.find(run.evaluation.server.command)
    except NotAvailable as problem:
        return problem.message
    return ""


def check(run: Run) -> None:
    """Returns where the run's backend can be used here.

    Raises:
        NotAvailable: it is vLLM, which is not on this machine.
        ConfigError: it is vLLM, which cannot serve the run's trained students.
    """
    if run.evaluation.backend != VLLM:
        return
    if reason := _obstacle(run.distill):
        remedy = "set `distill: {merge: true}`, or `evaluation: {backend: transformers}`"
        raise ConfigError(f"evaluation.backend: vllm cannot serve the trained student: {reason}", remedy)
    try:
        command.find(run.evaluation.server.command)
    except NotAvailable as problem:
        raise NotAvailable(
            f"evaluation.backend: {problem.message}", f"{problem.remedy}; or set `backend: transformers`"
        ) from None


def identity(config: EvaluationConfig) -> dict[str, Any]:
    """What of it shapes an answer, beside the student; empty for transformers, as in every store so far."""
    if config.backend != VLLM:
        return {}
    return {"backend": {"name": VLLM, "version": VERSION, "args": list(config.server.args)}}


def _obstacle(distill: DistillConfig) -> str:
    """Why no vLLM server can hold what is trained; empty where one can."""
    if distill.merge or distill.method == "full":
        return ""
    if distill.method == "qlora":
        return "an adapter that is not merged belongs to weights in 4 bits"
    if distill.rank > LORA_RANKS[-1]:
        return f"an adapter that is not merged has at most rank {LORA_RANKS[-1]} there"
    return ""
