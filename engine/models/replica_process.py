"""The program of a replica: loads a copy of a model and works on what it is given: `… replica_process FD ENGINE_PID`.

It speaks with `engine.models.replica` over the socket FD. There it hears how to load its copy, then `("work", number,
piece)` and `("drop", number)`: leave the pieces up to this number. It says

- `("ready", tokens)`: the copy is loaded, and a pass of it holds so many tokens;
- `("result", number, value)` and, once there are no more or it has been left, `("done", number)`;
- `("error", number, error)` or `("broken", number, words, trace)`: an error of ours, with its remedy, or any other; of
  number 0 while it loads;
- `("log", name, level, text)`.

It ends with the engine, however that ends: its socket is closed then, and Linux sends SIGKILL.
"""

import ctypes
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from engine.base.errors import Cancelled, PersynError

_PR_SET_PDEATHSIG = 1


def main(descriptor: int, engine: int) -> None:
    """Works until the engine has closed the socket, or is gone."""
    _end_with(engine)
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    say = _Voice(connection)
    given = connection.recv_bytes()
    orders = _Orders(connection)
    try:
        device, make, level = pickle.loads(given)  # which imports what it is made of
        if level is not None:
            _log_to(say, level)
        if device.startswith("cuda"):
            import torch

            torch.cuda.set_device(device)  # else what names no device would also take memory of the first one
        copy = make(device)
        say("ready", copy.pass_tokens)
    except Exception as error:
        _tell(say, 0, error)
        return
    while True:
        _work(copy, *orders.next(), orders, say)


def _work(copy: Any, number: int, piece: Any, orders: "_Orders", say: "_Voice") -> None:
    try:
        if not orders.dropped(number):
            for value in copy.work(piece, lambda: orders.dropped(number)):
                say("result", number, value)
    except Cancelled:
        pass
    except Exception as error:
        _tell(say, number, error)
    say("done", number)


class _Orders:
    """What the engine has sent, read by a thread: a stop is heard while a piece is worked on."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._left = connection, 0
        self._pieces: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> tuple[int, Any]:
        """(number, piece), once there is one."""
        return self._pieces.get()

    def dropped(self, number: int) -> bool:
        """Whether the piece of this number is wanted no more."""
        return number <= self._left

    def _read(self) -> None:
        try:
            while True:
                kind, number, *piece = self._connection.recv()
                if kind == "drop":
                    self._left = number
                else:
                    self._pieces.put((number, piece[0]))
        except (EOFError, OSError):
            os._exit(0)


class _Voice:
    """Sends messages, from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def __call__(self, *message: Any) -> None:
        try:
            with self._lock:
                self._connection.send(message)
        except OSError:
            os._exit(0)  # nobody listens any more


class _Teller(logging.Handler):
    def __init__(self, say: Callable[..., None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say("log", record.name, record.levelno, record.getMessage())


def _log_to(say: Callable[..., None], level: int) -> None:
    """Has the engine log what is logged here."""
    logger = logging.getLogger("engine")
    logger.setLevel(level)
    logger.addHandler(_Teller(say))


def _tell(say: Callable[..., None], number: int, error: Exception) -> None:
    if isinstance(error, PersynError):
        say("error", number, error)
    else:
        say("broken", number, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _end_with(engine: int) -> None:
    """Asks Linux for SIGKILL when the engine's thread dies; ends at once where it has died before."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != engine:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
