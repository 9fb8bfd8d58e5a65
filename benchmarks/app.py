"""How quickly the terminal app starts, answers keys and stays out of the way, in a real pseudo-terminal.

    python benchmarks/app.py [--rows 1000000] [--peers] [--json]

Measured: start until the first screen stands; the data screen on a million rows; key until the paint that
answers it; CPU and bytes to the terminal while nothing changes; lag of the event loop while a real job
(the demo) fills the store. With --peers also the start of Posting and Harlequin, installed from the package
index into environments of their own, started in the same pseudo-terminal, in turns with ours. A peer that
cannot be installed or started is named with the reason, and costs no figure of ours.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
import venv
from pathlib import Path
from typing import Any

import psutil
from store import BATCH, TEACHERS, batches, fill_prompts, texts

from storage import registry, responses, scores
from storage.records import Generation, Model, Score
from storage.store import Store

COLUMNS, LINES = 120, 40
# Every key moves the cursor: one that changes nothing is not answered by a paint.
DOWN, UP = [b"j", b"j", b"\x1b[6~"] * 13, [b"k", b"k", b"\x1b[5~"] * 13
HISTORY_S = 9.5
"""So long the machine strip shows what the keys have cost: its history moves until that has left it."""
BUDGET = {
    "start_s": 0.5,
    "open_data_s": 0.3,
    "open_data_mb": 150.0,
    "key_to_paint_p95_ms": 50.0,
    "idle_cpu_percent": 2.0,
    "idle_bytes_per_s": 0.0,
    "loop_lag_p99_ms": 20.0,
}


QUESTION = re.compile(rb"\x1b\[(?:\?(\d+)\$p|([>?=]?)(c|6n))")
"""What programs ask the terminal: for a mode (DECRQM), what it is (DA), where the cursor is (DSR)."""
PEERS = {
    # Its highlighting crashes (SIGSEGV) with tree-sitter 0.26, which its requirements allow.
    "posting": (["posting", "tree-sitter==0.25.*"], b"Posting"),
    "harlequin": (["harlequin"], b"Query Editor"),
}
"""Name → (what is installed, the text that tells that it stands)."""


class NotPainted(Exception):
    """A program ended, or did not paint what was waited for."""


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.began = time.perf_counter()
        pid, self.fd = pty.fork()
        if pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})})
            os.environ.pop("SSH_CONNECTION", None)
            os.execvp(command[0], command)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = psutil.Process(pid)
        self.text = b""
        self.answered = 0
        """Up to where the program's questions were answered."""
        self.ended = False

    def read(self, seconds: float) -> bytes:
        """What arrives within `seconds`; returns at the first piece."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return b""
        try:
            piece = os.read(self.fd, 1 << 16)
        except OSError:  # how Linux tells that no program holds the terminal any more
            self.ended = True
            return b""
        self.text += piece
        self._answer()
        return piece

    def _answer(self) -> None:
        """Answers what was asked since: programs may wait for it. Modes are answered as unknown, so that a
        paint begins with what is painted and not with the mark of a synchronized update."""
        for question in QUESTION.finditer(self.text, self.answered):
            self.answered = question.end()
            mode, _, what = question.groups()
            answer = b"\x1b[?%s;0$y" % mode if mode else b"\x1b[?62;c" if what == b"c" else b"\x1b[1;1R"
            os.write(self.fd, answer)

    def until(self, mark: bytes, patience: float = 60.0) -> float:
        """Seconds since the start until `mark` was painted.

        Raises:
            NotPainted: it was not, or the program has ended.
        """
        end = time.perf_counter() + patience
        while mark not in self.text:
            if self.ended:
                code = self.process.wait(5)
                raise NotPainted(f"ended with {code} before {mark.decode()!r}: {self.text[-200:]!r}")
            if time.perf_counter() > end:
                raise NotPainted(f"{mark.decode()!r} was not painted within {patience:g} s")
            self.read(0.05)
        return time.perf_counter() - self.began

    def quiet(self, seconds: float = 0.4, patience: float = 60.0) -> int:
        """Bytes read until nothing came for `seconds`, or patience has run out."""
        count, end = 0, time.perf_counter() + patience
        while time.perf_counter() < end and (piece := self.read(seconds)):
            count += len(piece)
        return count

    def press(self, keys: bytes) -> float:
        """Seconds until the first byte of the paint that answers."""
        began = time.perf_counter()
        os.write(self.fd, keys)
        if not self.read(5.0):
            raise NotPainted(f"{keys!r} was not answered")
        return time.perf_counter() - began

    def close(self) -> None:
        """Ends the program."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.process.kill()
        os.close(self.fd)
        with contextlib.suppress(ChildProcessError):  # its end may have been waited for already
            os.waitpid(self.process.pid, 0)


def app_command(store: Path) -> list[str]:
    """Our app on a store."""
    return [sys.executable, "-P", "-m", "persyn_tui.cli", "--store", str(store)]


def fill(path: Path, rows: int) -> None:
    """A store of so many responses, with quality and learnability for each."""
    with Store.open(path) as store:
        count = -(-rows // TEACHERS)
        _, ids = fill_prompts(store, count)
        generations = [
            Generation(
                registry.put(store, Model(f"teacher-{n}", "teacher", "x", "m"), f"identity-{n}").id or 0,
                f"{n:064x}",
            )
            for n in range(TEACHERS)
        ]
        for part in batches(ids, generations, texts(2000), rows):
            responses.add(store, None, part)
        quality = scores.put_scorer(store, "exact_answer", {})
        learnability = scores.put_scorer(store, "learnability", {})
        for start in range(1, rows, 20 * BATCH):
            part_ids = range(start, min(rows, start + 20 * BATCH))
            scores.add(store, None, quality, [(i, Score(float(i % 3 == 0))) for i in part_ids])
            scores.add(
                store,
                None,
                learnability,
                [(i, Score(-(i % 97) / 50, -1.0 * (i % 97), 50)) for i in part_ids],
            )


def starts(programs: dict[str, tuple[list[str], bytes]], repeats: int = 5) -> dict[str, float | str]:
    """Median seconds from exec to the paint of a mark, of programs started in turns; why it failed for one that did.

    The first start, with cold caches, is not counted.

    Args:
        programs: name → (command, mark).
    """
    taken: dict[str, list[float]] = {name: [] for name in programs}
    failed: dict[str, str] = {}
    for number in range(repeats + 1):
        for name, (command, mark) in programs.items():
            if name in failed:
                continue
            terminal = Terminal(command)
            try:
                seconds = terminal.until(mark)
                if number:
                    taken[name].append(seconds)
            except NotPainted as problem:
                failed[name] = str(problem)
            finally:
                terminal.close()
    return {name: failed.get(name) or statistics.median(taken[name]) for name in programs}


def data_screen(path: Path) -> dict[str, float]:
    """The data screen on a large store: opening, memory, keys, silence."""
    terminal = Terminal(app_command(path))
    terminal.until(b"1 Jobs")
    terminal.quiet()
    before = terminal.process.memory_info().rss
    terminal.text, terminal.answered = b"", 0
    began = time.perf_counter()
    os.write(terminal.fd, b"5")
    terminal.until(b"teacher-")
    opened = time.perf_counter() - began
    deadline = time.perf_counter() + 30
    while time.perf_counter() < deadline and terminal.quiet(1.5):
        pass
    grown = (terminal.process.memory_info().rss - before) / 1e6
    taken = []
    for keys in (DOWN, [b"G"], UP, [b"g"], DOWN):
        for key in keys:
            taken.append(terminal.press(key) * 1000)
            terminal.quiet(0.03)
    terminal.quiet(HISTORY_S)
    cpu = terminal.process.cpu_times()
    began = time.perf_counter()
    count = 0
    while time.perf_counter() - began < 10:
        count += len(terminal.read(0.5))
    now = terminal.process.cpu_times()
    spent = time.perf_counter() - began
    terminal.close()
    return {
        "open_data_s": opened,
        "open_data_mb": grown,
        "key_to_paint_p50_ms": statistics.median(taken),
        "key_to_paint_p95_ms": statistics.quantiles(taken, n=20)[-1],
        "idle_cpu_percent": 100 * (now.user + now.system - cpu.user - cpu.system) / spent,
        "idle_bytes_per_s": count / spent,
    }


def loop_lag(folder: Path, mode: str) -> dict[str, float]:
    """Lag of the event loop beyond a sleep of 10 ms, while an engine runs the demo in another process."""
    from engine.pipeline import job_commands
    from persyn_tui.app import actions
    from persyn_tui.app.app import PersynApp

    path = folder / f"live-{mode}.db"
    lags: list[float] = []

    async def measure() -> None:
        with Store.open(path) as store:
            job = actions.demo(store)
            app = PersynApp(str(path), start=mode)
            async with app.run_test(size=(COLUMNS, LINES)):
                end = time.perf_counter() + 40
                while time.perf_counter() < end:
                    began = time.perf_counter()
                    await asyncio.sleep(0.01)
                    lags.append((time.perf_counter() - began - 0.01) * 1000)
            job_commands.cancel(store, job.id)

    asyncio.run(measure())
    return {
        "loop_lag_p50_ms": statistics.median(lags),
        "loop_lag_p99_ms": statistics.quantiles(lags, n=100)[-1],
    }


def install(folder: Path, database: Path) -> tuple[dict[str, tuple[list[str], bytes]], dict[str, str]]:
    """(peers that were installed: name → (command, mark); why the others were not)."""
    found: dict[str, tuple[list[str], bytes]] = {}
    failed: dict[str, str] = {}
    arguments = {"harlequin": ["-a", "sqlite", str(database)]}
    for name, (packages, mark) in PEERS.items():
        home = folder / name
        venv.create(home, with_pip=True)
        done = subprocess.run(
            [home / "bin" / "pip", "install", "-q", *packages], capture_output=True, text=True, check=False
        )
        if done.returncode:
            failed[name] = f"not installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
        else:
            found[name] = [str(home / "bin" / name), *arguments.get(name, [])], mark
    return found, failed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peers", action="store_true", help="also Posting and Harlequin")
    parser.add_argument("--mode", default="generation", help="screen that is watched while a job runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"rows": options.rows}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        large = folder / "large.db"
        fill(large, options.rows)
        for kind in ("CONFIG", "STATE", "DATA"):  # neither our settings nor those of a peer
            os.environ[f"XDG_{kind}_HOME"] = str(folder / kind)
        programs = {"": (app_command(large), b"1 Jobs")}
        others, failed = install(folder, large) if options.peers else ({}, {})
        for which, value in {**starts({**programs, **others}), **failed}.items():
            found[f"{which}_start_s".removeprefix("_")] = value
        found |= data_screen(large)
        found |= loop_lag(folder, options.mode)
    if options.json:
        print(json.dumps(found))
        return
    for what, value in found.items():
        if isinstance(value, str):
            print(f"{what:<22}{'failed':>12}   {value}")
            continue
        budget = BUDGET.get(what)
        verdict = (
            "" if budget is None else f"   budget {budget:g}   {'kept' if value <= budget else 'BROKEN'}"
        )
        print(f"{what:<22}{value:>12,.3f}{verdict}")


if __name__ == "__main__":
    main()
