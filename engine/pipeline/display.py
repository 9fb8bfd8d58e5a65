"""How a foreground job shows itself on stderr: rich bars on a terminal, plain lines elsewhere.

Both show progress, rate and ETA. Whatever comes from a model or a file passes `strip_control` first.
"""

import sys
import time
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.base.sanitize import strip_control
from engine.job.progress import Row, Snapshot

PLAIN_INTERVAL_S = 5.0


def duration(seconds: float | None) -> str:
    """`1h 02m`, `3m 20s`, `12s`, or `–` when not known."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def time_left(seconds: float | None, *, rough: bool = False) -> str:
    """An ETA in seven cells at most: `9m 20s`, `13m`, `2h 05m`, `14h`; `–` when not known.

    `~` is before it where some teacher's speed is a guess.
    """
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole >= 36_000:
        text = f"{whole // 3600:,}h"
    elif 600 <= whole < 3600:
        text = f"{whole // 60}m"
    else:
        text = duration(whole)
    return f"~{text}" if rough else text


class Display(Protocol):
    """Where a job's progress is shown."""

    def show(self, snapshot: Snapshot) -> None:
        """Shows where the stage stands."""

    def say(self, kind: str, message: str) -> None:
        """Shows one line that stays."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


class Silent:
    """Shows nothing: a detached job is watched through the store."""

    def show(self, snapshot: Snapshot) -> None:
        """Does nothing."""

    def say(self, kind: str, message: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Plain:
    """Lines on stderr, at most every five seconds per stage, for logs and pipes; new trouble is told at once."""

    def __init__(self) -> None:
        self._last = 0.0
        self._stage = ""
        self._stuck: frozenset[str] = frozenset()

    def show(self, snapshot: Snapshot) -> None:
        """Prints a line when five seconds have passed, the stage has changed or a row is newly stuck."""
        now = time.monotonic()
        if not (snapshot.doing or (snapshot.stage and snapshot.total)):
            return
        stuck = frozenset(name for name, row in snapshot.rows.items() if row.note)
        new = snapshot.stage != self._stage or stuck - self._stuck
        if not new and now - self._last < PLAIN_INTERVAL_S:
            return
        self._stage, self._last, self._stuck = snapshot.stage, now, stuck
        print("\n".join([summary(snapshot), *troubles(snapshot)]), file=sys.stderr, flush=True)

    def say(self, kind: str, message: str) -> None:
        """Prints the line."""
        print(f"{MARKS.get(kind, '·')} {strip_control(message)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to restore."""


class Rich:
    """A live block of bars at the foot of the terminal, with the job's lines above it."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._live = Live(console=self.console, refresh_per_second=4, transient=True)
        self._live.start()

    def show(self, snapshot: Snapshot) -> None:
        """Redraws the block."""
        shown = snapshot.stage or snapshot.doing
        self._live.update(render(snapshot, self.console.width) if shown else Text())

    def say(self, kind: str, message: str) -> None:
        """Prints the line above the block."""
        self.console.print(
            Text(f"{MARKS.get(kind, '·')} {strip_control(message)}", style=STYLES.get(kind, ""))
        )

    def close(self) -> None:
        """Removes the block."""
        self._live.update(Text())
        self._live.stop()


MARKS = {"stage": "▸", "warning": "▲", "error": "✗", "done": "✓", "info": "·"}
STYLES = {"stage": "bold", "warning": "yellow", "error": "red", "done": "green"}


def choose(*, quiet: bool = False) -> Display:
    """Rich on a terminal, plain lines elsewhere, nothing when quiet."""
    if quiet:
        return Silent()
    return Rich() if sys.stderr.isatty() else Plain()


def summary(snapshot: Snapshot) -> str:
    """The stage in one line: done/total, rate, tokens/s, ETA, latest values."""
    parts = [
        f"{snapshot.stage}: {snapshot.done:,}/{snapshot.total:,} {snapshot.unit}"
        if snapshot.total
        else snapshot.stage
    ]
    parts = [part for part in parts if part]  # none while the engine starts
    if snapshot.doing:
        parts.append(doing(snapshot))
    if snapshot.rate:
        parts.append(f"{snapshot.rate:,.1f} {snapshot.unit}/s")
    if snapshot.tokens_per_second:
        parts.append(f"{snapshot.tokens_per_second:,.0f} tok/s")
    if snapshot.eta_s is not None and snapshot.done < snapshot.total:
        parts.append(f"ETA {time_left(snapshot.eta_s, rough=snapshot.rough)}")
    if sent := sum(row.in_flight for row in snapshot.rows.values()):
        parts.append(f"in flight {sent:,}")
    parts += [f"{name} {value:.4g}" for name, value in _current(snapshot)[:4]]
    return "  ".join(parts)


def doing(snapshot: Snapshot) -> str:
    """What is done while nothing can be counted, and for how long; empty while something is."""
    return f"{strip_control(snapshot.doing)} {duration(round(snapshot.doing_s))}" if snapshot.doing else ""


def troubles(snapshot: Snapshot) -> list[str]:
    """Why rows do not move, a line each."""
    return [
        f"▲ {strip_control(name)}: {strip_control(row.note)}"
        for name, row in snapshot.rows.items()
        if row.note
    ]


def _current(snapshot: Snapshot) -> list[tuple[str, float]]:
    """The values of the part that reported last: another strategy's loss has ended."""
    if not snapshot.values:
        return []
    part = list(snapshot.values)[-1].rpartition("/")[0]
    return [(name, value) for name, value in snapshot.values.items() if name.rpartition("/")[0] == part]


def render(snapshot: Snapshot, width: int) -> Group:
    """The block: one line for the stage, then a bar per row."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, max_width=max(12, width // 4), overflow="ellipsis")
    table.add_column(width=max(10, width // 4))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for name, row in list(snapshot.rows.items())[:12]:
        table.add_row(
            Text(strip_control(name or snapshot.stage)),
            ProgressBar(total=max(row.total, 1), completed=row.done),
            Text(f"{row.done:,}/{row.total:,}"),
            Text(_counts(row), style="dim"),
        )
    hidden = len(snapshot.rows) - 12
    more = [Text(f"hidden: {hidden} more", style="dim")] if hidden > 0 else []
    return Group(Text(summary(snapshot), style="bold", no_wrap=True, overflow="ellipsis"), table, *more)


def _counts(row: Row) -> str:
    odd = [f"{status} {count}" for status, count in row.counts.items() if status != "ok"]
    if row.in_flight:
        odd.append(f"in flight {row.in_flight}")
    if row.retries:
        odd.append(f"retries {row.retries}")
    return "  ".join([*odd, *([row.note] if row.note else [])])
