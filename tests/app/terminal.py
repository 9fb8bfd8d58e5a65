"""The app as a process of its own in a pseudo-terminal of 80 × 24."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.support import PATIENCE_S


@dataclass
class Terminal:
    """A running app, and our end of its terminal."""

    process: subprocess.Popen[bytes]
    ours: int
    gone: bool = False

    def shows(self, words: bytes | None, done: Callable[[], bool] = lambda: True) -> bytes:
        """All that is written until these words are there and `done` holds; without words, until the end."""
        shown, end = b"", time.monotonic() + PATIENCE_S
        while (words is None or words not in shown or not done()) and time.monotonic() < end:
            if select.select([self.ours], [], [], 0.1)[0]:
                try:
                    shown += os.read(self.ours, 65536)
                except OSError:  # how Linux tells the end of a terminal
                    break
        return shown

    def vanish(self) -> None:
        """Takes the terminal away."""
        if not self.gone:
            self.gone = True
            os.close(self.ours)


@contextmanager
def started(location: str, *, hears_of_its_end: bool = True, **variables: str) -> Iterator[Terminal]:
    """`persyn` on a store, with these environment variables; killed at the end.

    One that is not to hear of its terminal's end has a session of its own and ignores SIGHUP.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "persyn_tui.cli", "--store", location],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color"} | variables,
        start_new_session=not hears_of_its_end,
        preexec_fn=None if hears_of_its_end else _ignore_hangups,
    )
    os.close(theirs)
    made = Terminal(process, ours)
    try:
        yield made
    finally:
        process.kill()
        process.wait()
        made.vanish()


def _ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
