"""Servers left by engines that were killed: each leaves a note, by which the next engine finds and ends it.

A server leads a session of its own, and all its processes stay in it, whoever their parent becomes. That is what they
are found by: vLLM's workers write over their environment when they name themselves.
"""

import json
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from engine.base import foreign_json

FOLDER = "servers"
"""Where notes lie, beside the database."""

TOKEN = "PERSYN_SERVER"
"""Environment variable that marks a server's processes."""

_KILLED_S = 10.0
_SLACK_S = 1.0
"""Two readings of one process's start differ by less."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of one server."""

    teacher: str
    token: str
    """Random; the processes carry it in their environment until they write over it."""
    host: str
    boot: str
    """Which start of that machine."""
    engine: int
    """Process id."""
    engine_started: float
    """See `started`."""
    pid: int = 0
    """Of the server, which is its session's id too; 0 before it has one."""
    started: float = 0.0

    def write(self, folder: Path) -> None:
        """Keeps the note."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.path(folder)
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(self)), encoding="utf-8")
        scratch.replace(path)

    def path(self, folder: Path) -> Path:
        """The note's file."""
        return folder / f"{self.token}.json"


def note(teacher: str, token: str) -> Note:
    """The note of a server that this process is about to start."""
    return Note(teacher, token, socket.gethostname(), boot(), os.getpid(), started(os.getpid()))


def boot() -> str:
    """What tells this start of the machine from others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"


def started(pid: int) -> float:
    """Seconds from the machine's start to the process's; a clock that is set meanwhile does not change it.

    Raises:
        psutil.Error: there is no such process.
    """
    booted = psutil.boot_time()  # first: older versions of psutil keep it for the other
    return float(psutil.Process(pid).create_time() - booted)


def sweep(folder: Path) -> list[str]:
    """Ends the servers whose engine is gone; the names of their teachers, of those that were still running.

    Args:
        folder: where the notes lie; it need not exist.
    """
    ended = []
    for path in sorted(folder.glob("*.json")):
        try:
            found = Note(**foreign_json.read(path).object())
        except (OSError, ValueError, TypeError):
            continue  # being written, or not ours
        if found.host != socket.gethostname() or _runs(found.engine, found.engine_started):
            continue
        if found.boot == boot() and (left := members(found)):
            kill(left)
            ended.append(found.teacher)
        path.unlink(missing_ok=True)
    return ended


def members(found: Note) -> list[psutil.Process]:
    """The living processes of a server."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and _belongs(process, found):
                left.append(process)
    return left


def kill(processes: Sequence[psutil.Process]) -> None:
    """Ends processes at once, and waits until they are gone."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=_KILLED_S)


def _belongs(process: psutil.Process, found: Note) -> bool:
    if process.pid == os.getpid() or process.uids().real != os.getuid():
        return False
    if found.pid and os.getsid(process.pid) == found.pid and started(process.pid) >= found.started - _SLACK_S:
        # The number is not given away while the session lives; a later leader of that number is another session.
        return not psutil.pid_exists(found.pid) or _is(found.pid, found.started)
    return process.environ().get(TOKEN) == found.token


def _is(pid: int, then: float) -> bool:
    """Whether the process of this number is the one that started then."""
    try:
        return abs(started(pid) - then) < _SLACK_S
    except psutil.Error:
        return False


def _runs(pid: int, then: float) -> bool:
    """Whether that process is still at work; one that waits for its parent to take note of its end is not."""
    try:
        return _is(pid, then) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
