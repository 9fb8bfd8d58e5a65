"""A student that several processes train, one a device: started under torchrun, followed, and ended with this one.

The engine's process stays the one that writes to the store. It holds no model and no GPU: it reads rows, hands the
processes their order, and relays their hooks (`engine.distill.rank_process` is the other end).
"""

import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from engine.base import bound_process
from engine.base.errors import Cancelled, PersynError, TrainingError
from engine.distill.data import Rows, tokenise_rows
from engine.distill.settings import Hooks, Settings, Task, TrainResult
from engine.models.checkpoint import paths
from engine.models.memory import give_back

ADDRESS = "PERSYN_TRAINING"
"""Environment variable with the address of the engine's socket."""
STOP, SAVE = b"stop", b"save"

_LOOK_S = 0.1
"""Between two questions whether the operator wants something."""
_SHUTDOWN_S, _KILL_S = 5, 15.0
"""Seconds after which torchrun kills a process that it has asked to end, and after which torchrun itself is killed."""
_TAIL_LINES = 12
_FAILED = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
"""What torchrun says of the process that failed first."""


@dataclass(frozen=True, slots=True)
class Student:
    """Where each process loads the student from, and to; see `engine.models.loading.load_causal_lm`."""

    ref: str
    dtype: str
    devices: tuple[str, ...]
    """Two or more, as torch names them: one for each process."""
    revision: str = ""
    four_bit: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What the processes are to do."""

    student: Student
    task: Task


def train(
    student: Student, tokenizer: Any, rows: Rows, folder: Path, settings: Settings, hooks: Hooks
) -> TrainResult:
    """What `loop.train` returns and raises, without the live student, by a process on each of its devices.

    Losses and weights are those of one process up to rounding, where `dropout` is 0; with it each process draws its
    own. A run may go on with another number of processes. `should_stop` and `should_save` are asked ten times a second.

    Args:
        student: each process has it whole.
        tokenizer: its tokenizer, with a chat template.
        rows: what it learns from.
        folder: as in `loop.train`, and gets `processes/`, what the processes print.
        settings: see `Settings`; `pass_tokens` is each process's.
        hooks: see `Hooks`; called here, in the calling thread.

    Raises:
        TrainingError: as `loop.train`; also when a process has ended before its work.
        Cancelled: stopped before the first step.
    """
    noting, notices = hooks.noting()
    data = tokenise_rows(tokenizer, rows, folder, settings.max_length, settings.overlong, noting.on_notice)
    with _Processes(Order(student, Task(data, folder, settings))) as processes:
        result = _follow(processes, noting)
    return replace(result, notices=tuple(notices))


def _follow(processes: "_Processes", hooks: Hooks) -> TrainResult:
    """What the training gave, once it is on disk."""
    heard, stopping = _Heard(hooks), False
    for message in processes.messages():
        if message is not None:
            heard.take(*message)
        if not stopping and hooks.should_stop():
            if not heard.begun:
                raise Cancelled("cancelled before the first step", "run the same command again to go on")
            processes.say(STOP)
            stopping = True
        elif heard.begun and hooks.should_save():
            processes.say(SAVE)
        if heard.result is not None:
            return heard.result  # they need not end in order, which takes torchrun seconds
    if heard.errors:
        raise heard.errors[min(heard.errors)]
    raise processes.failure()


@dataclass
class _Heard:
    """What the processes have said."""

    hooks: Hooks
    begun: bool = False
    errors: dict[int, PersynError] = field(default_factory=dict)
    """By process; all have the same where their common numbers are at fault."""
    result: TrainResult | None = None

    def take(self, rank: int, name: str, arguments: tuple[Any, ...]) -> None:
        """Notes a message, or calls the hook of that name."""
        if name == "error":
            (self.errors[rank],) = arguments
        elif name == "end":
            (self.result,) = arguments
        else:
            self.begun = self.begun or name == "on_begin"
            getattr(self.hooks, name)(*arguments)


class _Processes:
    """torchrun and the processes it has started; all have ended after `with`.

    Must be made in a thread that stays: Linux takes the end of the thread that started torchrun for the engine's.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._logs = order.task.folder / "processes"
        shutil.rmtree(self._logs, ignore_errors=True)
        self._logs.mkdir(parents=True)
        # Only this user enters the folder, so who comes through the socket is one of ours.
        self._scratch = tempfile.TemporaryDirectory(prefix="persyn-")
        address = str(Path(self._scratch.name) / "engine")
        self._connections: list[Connection] = []
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(address)
        self._door.listen(len(order.student.devices))
        try:
            self._process = self._start(address)
        except OSError as error:
            self._door.close()
            self._scratch.cleanup()
            raise TrainingError(f"the processes cannot be started: {error}", "see that error") from error

    def _start(self, address: str) -> "subprocess.Popen[bytes]":
        count = len(self._order.student.devices)
        give_back()
        command = [
            *(sys.executable, "-I", "-S", bound_process.__file__, str(os.getpid())),
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"),
            *("--local-addr=127.0.0.1", f"--shutdown-timeout={_SHUTDOWN_S}"),
            *(f"--log-dir={self._logs}", "--redirects=3", "-m", "engine.distill.rank_process"),
        ]
        with self._said_by_torchrun.open("wb") as output:
            return subprocess.Popen(
                command,
                env={**os.environ, **_environment(address, count)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # ctrl+c is for the engine
            )

    def __enter__(self) -> "_Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()  # by which they end
        self._door.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_KILL_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._scratch.cleanup()

    def messages(self) -> Iterator[tuple[int, str, tuple[Any, ...]] | None]:
        """(process, name, arguments) as they come, and None ten times a second; ends when all have ended."""
        while True:
            ended = self._process.poll() is not None  # first: what was sent before is read below
            ready = wait([self._door, *self._connections], 0 if ended else _LOOK_S)
            for one in ready:
                if one is self._door:
                    self._admit()
                    continue
                assert isinstance(one, Connection)
                try:
                    message = one.recv()
                except (EOFError, OSError):
                    self._connections.remove(one)
                    one.close()
                    continue
                yield message
            if ended and not ready:
                return
            yield None

    def _admit(self) -> None:
        accepted, _ = self._door.accept()
        connection = Connection(accepted.detach())
        connection.send_bytes(pickle.dumps(self._order))
        self._connections.append(connection)

    def say(self, what: bytes) -> None:
        """Tells every process; one that has just ended hears nothing."""
        for connection in self._connections:
            with suppress(OSError):
                connection.send_bytes(what)

    def failure(self) -> TrainingError:
        """The error for processes that have ended without a word of what they have done."""
        found = paths(self._order.task.folder / "checkpoints")
        kept = f"the newest checkpoint is {found[0].name}" if found else "no checkpoint had been written yet"
        who, said = f"torchrun ended with exit code {self._process.returncode}", self._said_by_torchrun
        if match := _FAILED.search(said.read_text(encoding="utf-8", errors="replace")):
            code, rank = int(match[1]), int(match[2])
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            devices = self._order.student.devices
            who = f"process {rank + 1} of {len(devices)}, on {devices[rank]}, {how}"
            said = next(self._logs.glob(f"*/attempt_0/{rank}/stderr.log"), said)
        return TrainingError(
            f"{who}; {kept}{_tail(said)}",
            f"run the same command again to go on from it; all that was printed is in {self._logs}. Where memory has "
            "run out, lower distill.pass_tokens or train on fewer devices",
        )

    @property
    def _said_by_torchrun(self) -> Path:
        return self._logs / "torchrun.log"


def _environment(address: str, count: int) -> Mapping[str, str]:
    """What the processes' environment has beside the engine's: the threads are shared out among them."""
    root = str(Path(__file__).parents[2])
    return {
        ADDRESS: address,
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count)),
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONSAFEPATH": "1",  # a folder named `engine` where the operator stands must not be taken for ours
    }


def _tail(log: Path) -> str:
    """The last lines of a log file, on lines of their own; empty when nothing was printed."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line[:300].rstrip() for line in lines if line.strip()][-_TAIL_LINES:]
    return "".join(f"\n  | {line}" for line in told)
