"""Copies for `engine.models.replicas` that need no model: quick to start, and told what to do by what they get."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.base.errors import Cancelled, ModelError, ScoreError

Result = tuple[str, int]
"""(item, the process's id)."""


@dataclass(frozen=True)
class Load:
    """Makes a copy; fails on the device `broken`."""

    seconds: float = 0.0
    """That each item takes."""

    def __call__(self, device: str) -> "Copy":
        if device == "broken":
            raise ModelError("no such model", "name another one")
        logging.getLogger("engine.copies").warning("loaded to %s", device)
        return Copy(self.seconds)


class Copy:
    """Gives each item back; some items are orders."""

    pass_tokens = 1

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def work(self, piece: list[str], should_stop: Callable[[], bool]) -> Iterator[Result]:
        for item in piece:
            if item == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if item == "crash":
                os.write(2, b"segment violated\n")
                os.abort()
            if item == "nan":
                raise ScoreError("it is nan", "load it in float32")
            if item == "bug":
                raise RuntimeError("CUDA error: an illegal memory access")
            until = time.monotonic() + (3600 if item.startswith("forever") else self._seconds)
            while time.monotonic() < until:
                if should_stop():
                    raise Cancelled("left")
                time.sleep(0.005)
            yield item, os.getpid()
