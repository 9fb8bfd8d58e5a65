"""Random keys, clicks and resizes, faster than any hand, on the app in a real terminal; does it still hear?

    python tests/app/fuzz.py demo.db --seed 1 --seconds 120

The store is copied first, unless it is to be used `--in-place`. Every 15 seconds it asks for three screens by their
keys; an app that does not come to one of them, or has ended, fails, and what its tasks wait for is written beside the
keys that it was sent.
"""

import argparse
import fcntl
import os
import pty
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

KEYS = [
    *"qjkgGnaedtruxscomhfpzyiyb[]w+-/1234567890 ?\"'",
    *("\r", "\t", "\x1b", "\x7f", "\x1b[Z"),
    *("\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[5~", "\x1b[6~", "\x1b[H", "\x1b[F", "\x1b[15~"),
    *(
        "\x1bOP",
        "\x1bOQ",
        "\x10",
        "\x13",
        "\x01",
        "\x02",
        "\x04",
        "\x05",
        "\x06",
        "\x0b",
        "\x15",
        "\x17",
        "\x19",
    ),
    *("ä", "日", "😀", "\x00", "\x1b[200~paste\nline\x1b[31m\x1b[201~"),
]
"""All but those that stop the process; what leaves the app only rings."""
SIZES = [(1, 1), (20, 5), (40, 12), (60, 15), (80, 24), (100, 30), (300, 80), (100, 30)]
BUTTONS = [0, 0, 0, 2, 64, 65, 35, 32]
"""As SGR mouse reports have them: left, right, wheel, move, drag."""
LOOK_S = 15.0
SCREENS = (("5", b"5 Data"), ("1", b"1 Jobs"), ("7", b"7 Logs"))

APP = """
import asyncio, signal, sys, traceback

store, told = sys.argv[1:]

def waits(number, frame):
    with open(told, "w") as file:
        for thread, at in sys._current_frames().items():
            print(f"thread {thread} runs", file=file)
            traceback.print_stack(at, file=file)
        for task in asyncio.all_tasks(asyncio.get_event_loop()):
            print("\\n" + task.get_name(), file=file)
            at = task.get_coro()
            while at is not None:
                of = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None)
                if of is None:
                    print("   ", at, file=file)
                else:
                    code, whose = of.f_code, of.f_locals.get("self")
                    print(f"    {code.co_filename}:{of.f_lineno} {code.co_qualname} of {whose!r}"[:300], file=file)
                at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None)

signal.signal(signal.SIGUSR1, waits)
from persyn_tui.app.app import PersynApp

async def stays(app):
    app.bell()

PersynApp.action_quit = stays
from persyn_tui.cli import main
sys.argv = ["persyn", "--store", store]
main()
"""


class Terminal:
    """The app in a pseudo-terminal."""

    def __init__(self, store: Path, home: Path) -> None:
        self.waits = home / "tasks.txt"
        child, self._fd = pty.fork()
        if child == 0:
            os.chdir(home)
            settings = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home)}
            environment = {**os.environ, **settings, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
            python = sys.executable
            os.execve(python, [python, "-c", APP, str(store), str(self.waits)], environment)
        self.pid = child
        self.painted = bytearray()
        self.ended = False
        self.resize(100, 30)

    def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._tell(signal.SIGWINCH)

    def send(self, keys: str) -> None:
        try:
            os.write(self._fd, keys.encode())
        except OSError:
            self.ended = True

    def read(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.ended:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, end - time.monotonic()))
            try:
                painted = os.read(self._fd, 65536) if ready else b""
            except OSError:
                painted = b""
            self.ended = bool(ready) and not painted
            self.painted += painted
            del self.painted[:-500_000]
            if time.monotonic() >= end:
                return

    def reaches(self, key: str, word: bytes, seconds: float = 30.0) -> bool:
        """Whether a screen comes up by its key, whatever is open now."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.ended:
            for key_out in ("\x1b", "y") * 3:  # a dialog with something in it asks
                self.send(key_out)
                self.read(0.15)
            self.painted.clear()
            self.send(key)
            self.resize(100, 29 if self.height == 30 else 30)  # all is painted again
            for _ in range(20):
                self.read(0.1)
                if word in self.painted:
                    return True
        return False

    def rests(self, seconds: float = 120.0) -> bool:
        """Whether it has done all that it was asked for: nothing but the machine's line is painted."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.ended:
            self.painted.clear()
            self.read(0.5)
            if len(self.painted) < 1000:
                return True
        return False

    def megabytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    def stop(self) -> bool:
        """Whether it ends when it is asked to."""
        for way in (signal.SIGTERM, signal.SIGKILL):
            if way is signal.SIGKILL:
                self.dump()
            self._tell(way)
            for _ in range(50):
                self.read(0.1)
                if self.ended:
                    time.sleep(0.1)
                try:
                    if os.waitpid(self.pid, os.WNOHANG)[0]:
                        return way is signal.SIGTERM
                except ChildProcessError:
                    return True
        return False

    def dump(self) -> None:
        self.painted.clear()
        self.resize(100, 30)
        self.resize(99, 29)
        self.read(1.0)
        (self.waits.parent / "painted.bin").write_bytes(self.painted)
        self._tell(signal.SIGUSR1)
        self.read(1.0)

    def _tell(self, what: signal.Signals) -> None:
        try:
            os.kill(self.pid, what)
        except ProcessLookupError:
            self.ended = True


def fuzz(store: Path, home: Path, seed: int, seconds: float, *, mouse: bool) -> bool:
    """Whether the app heard to the end."""
    chance = random.Random(seed)
    terminal = Terminal(store, home)
    terminal.read(3.0)
    began = looked = time.monotonic()
    sent = 0
    with (home / "keys.txt").open("w") as told:
        while time.monotonic() - began < seconds and not terminal.ended:
            for _ in range(chance.choice([1, 1, 1, 3, 10, 40])):
                kind = chance.random()
                if not mouse or kind < 0.86:
                    key = chance.choice(KEYS)
                elif kind < 0.97:
                    button = chance.choice(BUTTONS)
                    x, y = chance.randint(1, terminal.width + 5), chance.randint(1, terminal.height + 3)
                    key = f"\x1b[<{button};{x};{y}M" + (
                        f"\x1b[<{button};{x};{y}m" if button in (0, 2) else ""
                    )
                else:
                    terminal.resize(*chance.choice(SIZES))
                    continue
                print(f"{time.monotonic() - began:.3f} {key!r}", file=told, flush=True)
                terminal.send(key)
                sent += 1
            terminal.read(chance.choice([0.01, 0.02, 0.05, 0.2]))
            if time.monotonic() - looked > LOOK_S:
                terminal.resize(100, 30)
                since = time.monotonic()
                terminal.rests()
                behind = time.monotonic() - since
                for key, word in SCREENS:
                    since = time.monotonic()
                    if not terminal.reaches(key, word):
                        print(f"seed {seed}: {word.decode()} not reached after {sent} keys", flush=True)
                        if not terminal.ended:
                            terminal.dump()
                            shutil.copy(terminal.waits, home / "hung.txt")
                            print(f"    SIGTERM ends it: {terminal.stop()}; {home}", flush=True)
                            return False
                        break
                    if (took := time.monotonic() - since) > 4:
                        print(f"seed {seed}: {word.decode()} after {took:.1f} s, {sent} keys", flush=True)
                else:
                    at = time.monotonic() - began
                    memory = terminal.megabytes()
                    print(
                        f"seed {seed}: {at:4.0f} s {sent:6} keys {behind:4.1f} s behind {memory} MB",
                        flush=True,
                    )
                looked = time.monotonic()
    if terminal.ended:
        (home / "painted.bin").write_bytes(terminal.painted)  # the last of it
        status = os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1])
        print(f"seed {seed}: ended with {status} after {sent} keys; {home}", flush=True)
        return False
    stops = terminal.stop()
    print(
        f"seed {seed}: {sent} keys heard" + ("" if stops else f"; SIGTERM does not end it; {home}"),
        flush=True,
    )
    return stops


def main() -> int:
    """0 where it heard to the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--no-mouse", action="store_true", help="keys only, in one size")
    parser.add_argument("--in-place", action="store_true", help="no copy: a store that an engine is filling")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix=f"persyn-fuzz-{given.seed}-"))
    store = given.store.absolute() if given.in_place else home / given.store.name
    files = given.store.with_suffix(".files")
    if not given.in_place:
        shutil.copy(given.store, store)
        if files.exists():
            shutil.copytree(files, home / files.name)
    heard = fuzz(store, home, given.seed, given.seconds, mouse=not given.no_mouse)
    if heard:
        shutil.rmtree(home)
    return 0 if heard else 1


if __name__ == "__main__":
    sys.exit(main())
