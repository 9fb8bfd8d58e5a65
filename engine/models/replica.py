"""One copy of a model in a process of its own, as the process that gives it work sees it."""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Final, Generic, Protocol, TypeVar

from engine.base.errors import NeedsAttention

_DIES_S = 5.0
"""In which a process that has closed its socket ends."""
_WORDS_BYTES = 4000
"""Of the end of what it wrote to its standard error."""
_PROGRAM: Final = "engine.models.replica_process"
_REMEDY: Final = (
    "everything committed is kept, and the same command goes on; if it happens again, name other `devices` in the run "
    "file, or fewer, or set `batch_tokens` of the model"
)
_OF_ENGINE = logging.getLogger("engine")

_PieceIn = TypeVar("_PieceIn", contravariant=True)
_ResultOut = TypeVar("_ResultOut", covariant=True)
_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")


class Copy(Protocol[_PieceIn, _ResultOut]):
    """What works in the process: a model, loaded to its device."""

    @property
    def pass_tokens(self) -> int:
        """Tokens that one forward pass holds, padding included."""
        ...

    def work(self, piece: _PieceIn, should_stop: Callable[[], bool]) -> Iterator[_ResultOut]:
        """What comes of a piece, each result as soon as it is known. Both can be pickled.

        Raises:
            Cancelled: `should_stop`, asked within every pass, said so.
        """
        ...


Make = Callable[[str], Copy[_Piece, _Result]]
"""Loads a copy to the device of this name. It can be pickled: an object of a class, or a function, of a module."""


class Replica(Generic[_Piece, _Result]):
    """A process that loads a copy and works on pieces, in the order in which it gets them.

    Args:
        device: where to, as torch has it.
        make: called in the process.
        threads: that it computes with on a CPU.
        logs: whether what is logged there is logged here too.
    """

    def __init__(self, device: str, make: Make[_Piece, _Result], threads: int, *, logs: bool) -> None:
        self.device = device
        self.pieces: set[int] = set()
        """Numbers of the pieces that it has been given and has not finished."""
        self.pass_tokens: int | None = None
        """Tokens of its forward passes; None until its copy is loaded."""
        self._dropped = -1
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 — lives as long as the process
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours.detach())
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", _PROGRAM, str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=self._errors,
                    stderr=self._errors,
                    pass_fds=[theirs.fileno()],
                    env=_environment(threads),
                    start_new_session=True,  # ctrl+c is for this process
                )
        except BaseException:  # a stop may come when it has been started and is not yet known here
            self.connection.close()
            raise
        self._finalizer = weakref.finalize(self, _kill, self._process)
        self._send((device, make, _OF_ENGINE.getEffectiveLevel() if logs else None))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def give(self, number: int, piece: _Piece) -> None:
        """Hands out a piece; numbers rise."""
        self.pieces.add(number)
        self._send(("work", number, piece))

    def drop(self, number: int) -> None:
        """Has it leave the pieces up to this number, within a forward pass; `hear` gives nothing more of them."""
        self._dropped = number
        if self.pieces:
            self._send(("drop", number))

    def hear(self) -> tuple[int, _Result] | None:
        """(number of its piece, a result) once it says something; None where that was something else.

        Raises:
            PersynError: it was raised there.
            NeedsAttention: another error was, or the process has ended.
        """
        try:
            kind, *said = self.connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        match kind:
            case "result" if said[0] > self._dropped:
                return said[0], said[1]
            case "ready":
                self.pass_tokens = said[0]
            case "done":
                self.pieces.discard(said[0])
            case "log":
                logging.getLogger(said[0]).log(said[1], "%s", said[2])
            case "error" if said[0] > self._dropped:
                raise said[1]
            case "broken" if said[0] > self._dropped:
                _OF_ENGINE.error("%s", said[2])
                raise NeedsAttention(f"the process on {self.device}: {said[1]}", _REMEDY)
        return None

    def kill(self) -> None:
        """Ends it without waiting for that; it has nothing that would be lost."""
        self._process.kill()

    def close(self) -> None:
        """Ends it, and returns when it has ended. Twice is allowed."""
        self.connection.close()
        self._finalizer()
        self._errors.close()

    def _send(self, message: object) -> None:
        with suppress(OSError):  # it has ended, which `hear` says
            self.connection.send(message)

    def _ended(self) -> NeedsAttention:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_DIES_S)
        code = self._process.returncode
        if code == -signal.SIGKILL:
            how = "was killed by SIGKILL, as Linux does where memory runs out"
        else:
            how = "closed its connection" if code is None else f"ended with {_exit(code)}{self._last_words()}"
        return NeedsAttention(f"the process on {self.device} {how}", _REMEDY)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-_WORDS_BYTES:].decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def _exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _environment(threads: int) -> dict[str, str]:
    """Of the process: it finds the modules that are found here, and computes with its share of the threads."""
    named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    found = [*named, *(place or str(Path.cwd()) for place in sys.path)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(found)),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
