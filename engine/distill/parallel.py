"""A student that several processes train, one a device: started under torchrun, followed, and ended with this one.

The engine's process stays the one that writes to the store. It holds no model and no GPU: it reads rows, hands the
processes their order, and relays their hooks (`engine.distill.rank_process` is the other end).
"""

import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch

from engine.base import bound_process, exit_code
from engine.base.errors import Cancelled, PersynError, TrainingError
from engine.distill.data import Rows, tokenise_rows
from engine.distill.settings import Hooks, Settings, Task, TrainResult
from engine.models.checkpoint import TEMPORARY, paths
from engine.models.memory import give_back

ADDRESS = "PERSYN_TRAINING"
"""Environment variable with the address of the engine's socket."""
STOP, SAVE = b"stop", b"save"

_LOOK_S = 0.1
"""Between two questions whether the operator wants something."""
_SILENT_S = 60.0
"""Seconds without a sign of life after which processes that were told to stop are killed.

A stop is heard within a layer of a pass; loss of another process, by torchrun, within seconds. What takes longer is the
writing of a checkpoint, which has time of its own. A second ctrl+c waits for nothing."""
_SEALED_BYTES_S = 100e6
"""Bytes a second at which a slow disk flushes the files of a checkpoint and reads them again for their sums, in which
none of them grows: those of a student that is trained whole are tens of GB."""
_SHUTDOWN_S = 5
"""Seconds after which torchrun kills a process that it has asked to end."""
_GONE_S = 5.0
"""Seconds that killed processes are waited for: their GPU's memory is free once they are gone."""
_TAIL_LINES = 12
_FAILED = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+)")
"""What torchrun says of the process that failed first."""
_WARNING = re.compile(r"^.*:\d+: \w*Warning: .*\n(?:[ \t].*\n)?", re.MULTILINE)
"""A warning as Python prints it, with the line of source that it quotes."""


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
        student: each process has it whole, or where all its weights are trained a part of it.
        tokenizer: its tokenizer, with a chat template.
        rows: what it learns from.
        folder: as in `loop.train`, and gets `processes/`, what the processes print.
        settings: see `Settings`; `pass_tokens` is each process's.
        hooks: see `Hooks`; called here, in the calling thread.

    Raises:
        TrainingError: as `loop.train`; also when a process has ended before its work.
        Cancelled: stopped before the first step; or told to stop, and killed as they gave no sign of life.
    """
    noting, notices = hooks.noting()
    data = tokenise_rows(tokenizer, rows, folder, settings.max_length, settings.overlong, noting.on_notice)
    with _Processes(Order(student, Task(data, folder, settings))) as processes:
        result = _follow(processes, noting)
    return replace(result, notices=tuple(notices))


def _follow(processes: "_Processes", hooks: Hooks) -> TrainResult:
    """What the training gave, once it is on disk."""
    heard, silence = _Heard(hooks), None
    for message in processes.messages():
        if message is not None:
            heard.take(*message)
        if silence is not None:
            silence.check(message is not None)
        elif hooks.should_stop():
            if not heard.begun:
                raise Cancelled("cancelled before the first step", "run the same command again to go on")
            processes.say(STOP)
            silence = _Silence(processes)
        elif heard.begun and hooks.should_save():
            processes.say(SAVE)
        if heard.result is not None:
            return heard.result  # they need not end in order, which takes torchrun seconds
    if heard.errors:
        raise heard.errors[min(heard.errors)]
    raise processes.failure()


class _Silence:
    """How long processes that were told to stop have given no sign of life.

    One that hangs, in an exchange with another or stopped by a signal, would be waited for without end.
    """

    def __init__(self, processes: "_Processes") -> None:
        self._processes = processes
        self._since, self._written = time.monotonic(), processes.written()

    def check(self, heard: bool) -> None:
        """Raises Cancelled after `_SILENT_S` in which nothing was `heard` and no file was written."""
        silent = time.monotonic() - self._since
        if not heard and silent < _SILENT_S:
            return
        written = self._processes.written()
        if heard or written != self._written:
            self._since, self._written = time.monotonic(), written
        elif silent >= _SILENT_S + written.unsealed / _SEALED_BYTES_S:
            raise Cancelled(
                f"cancelled; the processes did nothing for {silent:.0f} s after they were told to stop, and were "
                f"killed; {self._processes.kept()}",
                "run the same command again to go on",
            )


@dataclass(frozen=True, slots=True)
class _Written:
    """What a training has written to its folder."""

    newest: int
    """When a file was last changed, in ns."""
    unsealed: int
    """Bytes of what is not whole yet."""


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
        self._ranks: set[psutil.Process] = set()
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
        # Nothing is lost by a kill: the first process says that it has ended once all is on disk.
        try:
            for connection in self._connections:
                connection.close()
            self._door.close()  # a process that starts only now ends, as nobody is there
            self._scratch.cleanup()
        finally:
            self._kill()

    def _kill(self) -> None:
        """Kill all; torchrun last, which clears away what has ended, and would leave a stopped one to nobody."""
        self._note_ranks()
        try:
            for rank in self._ranks:  # each has a session of its own: no signal to a group would reach all
                with suppress(psutil.NoSuchProcess):
                    rank.kill()
            psutil.wait_procs(self._ranks, timeout=_GONE_S)
        finally:
            self._process.kill()
            self._process.wait()

    def _note_ranks(self) -> None:
        """Note what torchrun has started: once it has died, nothing tells whose child that was."""
        with suppress(psutil.NoSuchProcess):
            self._ranks.update(psutil.Process(self._process.pid).children(recursive=True))

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
        self._note_ranks()
        if len(self._connections) == len(self._order.student.devices):
            self._scratch.cleanup()  # all are in; a killed engine would leave it behind

    def say(self, what: bytes) -> None:
        """Tells every process; one that has just ended hears nothing."""
        for connection in self._connections:
            with suppress(OSError):
                connection.send_bytes(what)

    def kept(self) -> str:
        """Which checkpoint the training goes on from, in words."""
        found = paths(self._order.task.folder / "checkpoints")
        return f"the newest checkpoint is {found[0].name}" if found else "no checkpoint had been written yet"

    def written(self) -> _Written:
        """What is on disk now; what the processes print does not count."""
        newest = unsealed = 0
        for path in self._order.task.folder.rglob("*"):
            if self._logs in path.parents or not path.is_file():
                continue
            with suppress(FileNotFoundError):  # an old checkpoint that is being removed
                found = path.stat()
                newest = max(newest, found.st_mtime_ns)
                unsealed += found.st_size * any(part.endswith(TEMPORARY) for part in path.parts)
        return _Written(newest, unsealed)

    def failure(self) -> TrainingError:
        """The error for processes that have ended without a word of what they have done."""
        who, said = f"torchrun ended with exit code {self._process.returncode}", self._said_by_torchrun
        if match := _FAILED.search(said.read_text(encoding="utf-8", errors="replace")):
            code, rank = int(match[1]), int(match[2])
            devices = self._order.student.devices
            who = f"process {rank + 1} of {len(devices)}, on {devices[rank]}, {exit_code.ended(code)}"
            said = next(self._logs.glob(f"*/attempt_0/{rank}/stderr.log"), said)
        return TrainingError(
            f"{who}; {self.kept()}{_tail(said)}",
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
    """The last lines of a log file, on lines of their own; empty when nothing but warnings was printed."""
    text = _WARNING.sub("", log.read_text(encoding="utf-8", errors="replace"))
    told = [line[:300].rstrip() for line in text.splitlines() if line.strip()][-_TAIL_LINES:]
    return "".join(f"\n  | {line}" for line in told)
