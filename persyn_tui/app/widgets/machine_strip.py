"""The machine strip: GPUs; CPU and memory where there is none."""

from collections.abc import Iterable, Sequence
from typing import Any

from textual.screen import Screen
from textual.widgets import Static

from engine.base.nvml import Gpu
from persyn_tui.app.base.machine import Reading

BARS = "▁▂▃▄▅▆▇█"
KEPT = 8
"""Readings in the small history of utilisation."""
MOST = 3
"""GPUs with a line of their own each; more share lines."""
GIB = 2**30


def spark(values: Sequence[float]) -> str:
    """Percentages as bars of an eighth of a cell each."""
    return "".join(BARS[min(7, int(value / 12.5))] for value in values)


def lines(history: Sequence[Reading], width: int) -> list[str]:
    """What the strip says in lines of `width` cells: GPUs first; the CPU's history and the memory have to go first."""
    now = history[-1]
    cpu, load = f"CPU {now.cpu:3.0f} %", spark([r.cpu for r in history])
    memory = f"RAM {now.used:.1f}/{now.total:.0f} GiB"
    rest = [f"CPU {load} {now.cpu:3.0f} % · {memory}", f"{cpu} · {memory}", cpu]
    if not now.gpus:
        return [next((line for line in (f"no GPU · {rest[0]}", *rest) if len(line) <= width), cpu)]
    found = _many(now.gpus, width) if len(now.gpus) > MOST else _each(history)
    if len(found) < MOST + 1 and len(now.gpus) > MOST:
        return [*found, next((line for line in rest if len(line) <= width), cpu)]
    beside = next((line for line in rest if len(found[-1]) + 3 + len(line) <= width), "")
    return [*found[:-1], f"{found[-1]}   {beside}".rstrip()]


def _each(history: Sequence[Reading]) -> list[str]:
    """A line for each GPU."""
    found = []
    for place, gpu in enumerate(history[-1].gpus):
        loads = [r.gpus[place].utilization or 0 for r in history if place < len(r.gpus)]
        power = f"  {gpu.watts:3.0f} W" if gpu.watts is not None else ""
        name = gpu.name.removeprefix("NVIDIA ")
        found.append(
            f"GPU{gpu.index} {name[:12]:12}  util {spark(loads)} {loads[-1]:3d} %  "
            f"mem {gpu.used / GIB:.1f}/{gpu.total / GIB:.0f} GiB{power}"
        )
    return found


def _many(gpus: Sequence[Gpu], width: int) -> list[str]:
    """As many GPUs in a line as there is room for."""
    cells = [
        f"GPU{gpu.index} {gpu.utilization or 0:3d} % {gpu.used / GIB:5.1f}/{gpu.total / GIB:.0f} GiB"
        for gpu in gpus
    ]
    beside = max(1, (width + 3) // (max(map(len, cells)) + 3))
    return ["   ".join(cells[start : start + beside]) for start in range(0, len(cells), beside)]


class MachineStrip(Static):
    """One line that stays when everything else is dropped."""

    DEFAULT_CSS = """
    MachineStrip {
        height: auto; max-height: 4; padding: 0 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def __init__(self) -> None:
        super().__init__(id="machine", markup=False)
        self._line = ""
        self._history: list[Reading] = []

    def on_resize(self) -> None:
        self.show(self._history)

    def show(self, history: Sequence[Reading]) -> None:
        """Shows the newest reading, with the small history of the one before."""
        if not history:
            return
        self._history = list(history[-KEPT:])
        line = "\n".join(lines(self._history, self.size.width or max(1, self.app.size.width - 2)))
        if line != self._line:
            moves = len(line.splitlines()) != len(self._line.splitlines())
            self._line = line
            self.update(line, layout=moves)


def show(screen: Screen[Any], history: Iterable[Reading]) -> None:
    """Shows the newest reading on a screen, where that has a strip already."""
    for strip in screen.query(MachineStrip):
        strip.show(list(history))
