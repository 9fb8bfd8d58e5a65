"""How quickly the terminal app starts, answers keys and stays out of the way, in a real pseudo-terminal.

    python benchmarks/app.py [--rows 1000000] [--peers] [--json]

Measured: start until the first screen stands; the data screen on a million rows; key until the paint that
answers it; CPU and bytes to the terminal while nothing changes; lag of the event loop while a real job
(the demo) fills the store. With --peers also the start of Posting and Harlequin, installed from the package
index into environments of their own, started in the same pseudo-terminal, in turns with ours.
"""

import argparse
import asyncio
import fcntl
import json
import os
import pty
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
from storage.records import Generation, Model, Verdict
from storage.store import Store

COLUMNS, LINES = 120, 40
# Every key moves the cursor: one that changes nothing is not answered by a paint.
DOWN, UP = [b"j", b"j", b"\x1b[6~"] * 13, [b"k", b"k", b"\x1b[5~"] * 13
BUDGET = {
    "start_s": 0.5,
    "open_data_s": 0.3,
    "open_data_mb": 150.0,
    "key_to_paint_p95_ms": 50.0,
    "idle_cpu_percent": 2.0,
    "idle_bytes_per_s": 0.0,
    "loop_lag_p99_ms": 20.0,
}


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

    def read(self, seconds: float) -> bytes:
        """What arrives within `seconds`; returns at the first piece."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return b""
        try:
            piece = os.read(self.fd, 1 << 16)
        except OSError:
            return b""
        self.text += piece
        # Programs ask the terminal what it can do, and may wait for the answer.
        if b"\x1b[c" in piece:
            os.write(self.fd, b"\x1b[?62;c")
        if b"\x1b[6n" in piece:
            os.write(self.fd, b"\x1b[1;1R")
        return piece

    def until(self, mark: bytes, patience: float = 60.0) -> float:
        """Seconds since the start until `mark` was painted."""
        end = time.perf_counter() + patience
        while mark not in self.text:
            if time.perf_counter() > end:
                raise SystemExit(f"{mark!r} was not painted within {patience} s: {self.text[-400:]!r}")
            self.read(0.05)
        return time.perf_counter() - self.began

    def quiet(self, seconds: float = 0.4) -> int:
        """Bytes read until nothing came for `seconds`."""
        count = 0
        while piece := self.read(seconds):
            count += len(piece)
        return count

    def press(self, keys: bytes) -> float:
        """Seconds until the first byte of the paint that answers."""
        began = time.perf_counter()
        os.write(self.fd, keys)
        if not self.read(5.0):
            raise SystemExit(f"{keys!r} was not answered")
        return time.perf_counter() - began

    def close(self) -> None:
        """Ends the program."""
        self.process.kill()
        os.close(self.fd)
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
            scores.add(store, None, quality, [(i, Verdict(float(i % 3 == 0))) for i in part_ids])
            scores.add(
                store,
                None,
                learnability,
                [(i, Verdict(-(i % 97) / 50, -1.0 * (i % 97), 50)) for i in part_ids],
            )


def start(command: list[str], mark: bytes, repeats: int = 5) -> float:
    """Median seconds from exec to the paint of `mark`; the first start, with cold caches, is not counted."""
    taken = []
    for number in range(repeats + 1):
        terminal = Terminal(command)
        seconds = terminal.until(mark)
        terminal.close()
        if number:
            taken.append(seconds)
    return statistics.median(taken)


def data_screen(path: Path) -> dict[str, float]:
    """The data screen on a large store: opening, memory, keys, silence."""
    terminal = Terminal(app_command(path))
    terminal.until(b"1 Jobs")
    terminal.quiet()
    before = terminal.process.memory_info().rss
    terminal.text = b""
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
    terminal.quiet(2.5)
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
            actions.cancel(store, job.id)

    asyncio.run(measure())
    return {
        "loop_lag_p50_ms": statistics.median(lags),
        "loop_lag_p99_ms": statistics.quantiles(lags, n=100)[-1],
    }


def peers(folder: Path, database: Path) -> dict[str, float]:
    """Seconds until Posting and Harlequin stand, in the same pseudo-terminal."""
    found = {}
    for name, arguments, mark in (
        ("posting", [], b"Posting"),
        ("harlequin", ["-a", "sqlite", str(database)], b"Query Editor"),
    ):
        home = folder / name
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", name], check=True)
        found[f"{name}_start_s"] = start([str(home / "bin" / name), *arguments], mark)
    return found


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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = folder / "large.db"
        fill(large, options.rows)
        found["start_s"] = start(app_command(large), b"1 Jobs")
        if options.peers:
            found |= peers(folder, large)
        found |= data_screen(large)
        found |= loop_lag(folder, options.mode)
    if options.json:
        print(json.dumps(found))
        return
    for what, value in found.items():
        budget = BUDGET.get(what)
        verdict = (
            "" if budget is None else f"   budget {budget:g}   {'kept' if value <= budget else 'BROKEN'}"
        )
        print(f"{what:<22}{value:>12,.3f}{verdict}")


if __name__ == "__main__":
    main()
