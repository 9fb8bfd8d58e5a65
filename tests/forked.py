"""Processes of the command line that start with what they import: forks of one process that waits for them.

To import torch and what builds on it takes an engine five seconds of computing, in some runs more than all else; the
libraries of a short command take two thirds of its time. A fork is a process like any other: with its own pid, session,
environment, signals and exit code.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NoReturn

MODULE = "persyn_tui.cli"
_execve = os.execve
PACKAGES = ("persyn_tui.commands", "engine", "engine.pipeline.stages", "storage")
"""Every module in them is imported before the first fork of an engine, with all that these import."""
LATE = ("math_verify", "openai", "reasoning_gym")
"""What the engine imports where it is needed."""
LIBRARIES = (
    "alembic.command",
    "numpy",
    "pydantic",
    "rich.console",
    "sqlalchemy.dialects.sqlite",
    "typer",
    "yaml",
)
"""What nearly every command imports: nothing of this repository, so that a command still imports its own."""


class Forked:
    """A running fork, as `subprocess.Popen` with both outputs piped as text would show it."""

    def __init__(self, status: int, out: int, err: int) -> None:
        self.returncode: int | None = None
        self._status = os.fdopen(status, "rb", buffering=0)
        self._outputs = os.fdopen(out, "rb", buffering=0), os.fdopen(err, "rb", buffering=0)
        self._said: tuple[str, str] | None = None
        self.pid = self._number()

    def poll(self) -> int | None:
        """The exit code, or minus the signal's number; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end."""
        if self.returncode is None:
            with selectors.DefaultSelector() as waiting:
                waiting.register(self._status, selectors.EVENT_READ)
                if not waiting.select(timeout):
                    raise subprocess.TimeoutExpired(MODULE, timeout or 0)
            self.returncode = self._number()
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that it wrote, once both outputs and the process have ended."""
        if self._said is None:
            end = None if timeout is None else time.monotonic() + timeout
            parts: dict[object, list[bytes]] = {output: [] for output in self._outputs}
            with selectors.DefaultSelector() as waiting:
                for output in self._outputs:
                    waiting.register(output, selectors.EVENT_READ)
                while waiting.get_map():
                    ready = waiting.select(None if end is None else end - time.monotonic())
                    if not ready and end is not None and time.monotonic() >= end:
                        raise subprocess.TimeoutExpired(MODULE, timeout or 0)
                    for key, _ in ready:
                        if read := os.read(key.fd, 65536):
                            parts[key.fileobj].append(read)
                        else:
                            waiting.unregister(key.fileobj)
            out, err = (b"".join(parts[output]).decode() for output in self._outputs)
            for output in self._outputs:
                output.close()
            self._said = out, err
            self.wait(None if end is None else max(0, end - time.monotonic()))
        return self._said

    def send_signal(self, number: int) -> None:
        """Sends a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            read = self._status.read(1)
            assert read, "the process that forks has ended"
            line += read
        return int(line)


Process = subprocess.Popen[str] | Forked


@cache
def _source(engine: bool) -> socket.socket:
    """The connection to the process that waits; it ends when this one does."""
    ours, theirs = socket.socketpair()
    folder = str(Path(__file__).parent)
    program = (
        f"import sys; sys.path.append({folder!r}); import forked; forked.serve({theirs.fileno()}, {engine})"
    )
    subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    theirs.close()
    return ours


def start(arguments: list[str], environment: Mapping[str, str], folder: Path, *, engine: bool) -> Forked:
    """Starts `persyn ARGUMENTS` in a session of its own, from a process that holds the engine or just libraries."""
    pipes = [os.pipe() for _ in range(3)]
    wanted = {"arguments": arguments, "environment": dict(environment), "folder": str(folder)}
    theirs = [theirs for _, theirs in pipes]
    source = _source(engine)
    message = json.dumps(wanted).encode() + b"\n"
    socket.send_fds(source, [message[:1]], theirs)
    source.sendall(message[1:])
    for end in theirs:
        os.close(end)
    return Forked(*(ours for ours, _ in pipes))


def serve(connection: int, engine: bool) -> None:
    """Forks at every request, until the other side ends."""
    for name in _engine() if engine else LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    source = socket.socket(fileno=connection)
    while True:
        message, descriptors, _, _ = socket.recv_fds(source, 1, 3)
        while message and not message.endswith(b"\n"):
            message += source.recv(65536)
        if not message:
            return
        assert len(sys._current_frames()) == 1, "threads do not survive a fork"
        if os.fork() == 0:
            source.close()
            if _keep(*descriptors):
                os._exit(0)
            _run(**json.loads(message))
            return
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _engine() -> Iterator[str]:
    for package in PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                yield module.name
    yield from LATE


def _keep(status: int, out: int, err: int) -> bool:
    """Forks once more: False in the new process; True in its parent, when it has told pid and exit code."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
    for descriptor in (out, err) if pid else (status, out, err):
        os.close(descriptor)
    if pid:
        with contextlib.suppress(BrokenPipeError):  # nobody asks any more
            os.write(status, b"%d\n" % pid)
            os.write(status, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return pid != 0


def _run(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """As `python -m` would; the exit code leaves as an exception."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdout, sys.stderr = (
        open(number, "w", encoding=old.encoding, errors=old.errors, closefd=False)  # noqa: SIM115
        for number, old in ((1, sys.stdout), (2, sys.stderr))
    )
    sys.argv = ["persyn", *arguments]
    os.execve = _become
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


def _become(path: str, line: list[str], environment: dict[str, str]) -> NoReturn:
    """As `os.execve`, but an engine is this process as it is: it has imported what a new one would import."""
    if line[1:4] != ["-P", "-m", "engine"]:
        _execve(path, line, environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["engine", *line[4:]]
    runpy.run_module("engine", run_name="__main__", alter_sys=True)
    sys.exit()
