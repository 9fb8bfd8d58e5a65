"""The machine strip: GPUs through NVML; CPU and memory where there is none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil
from textual.widgets import Static

from engine.base.errors import NotAvailable
from engine.base.nvml import Nvml

BARS = "▁▂▃▄▅▆▇█"
KEPT = 8
"""Readings in the small history of utilisation."""
MOST = 3
"""GPUs with a line of their own each; more share lines."""
CPU_STEP = 5.0
"""Percent by which the CPU's load is shown."""
MEMORY_STEP = 0.01
"""Share of the machine's memory by which its use is shown."""
WATT_STEP = 5.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One reading of one GPU."""

    index: int
    name: str
    utilization: int
    """Percent."""
    used: float
    """GiB."""
    total: float
    """GiB."""
    watts: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the machine."""

    gpus: tuple[Gpu, ...]
    cpu: float
    """Percent of all cores."""
    used: float
    """GiB of memory."""
    total: float
    """GiB of memory."""


class Machine:
    """Reads the machine. NVML is looked for once, at the first reading."""

    def __init__(self) -> None:
        self._nvml = Nvml()
        self._last: Reading | None = None

    def read(self) -> Reading:
        """What the machine does now, steadied; blocks for about a millisecond."""
        memory = psutil.virtual_memory()
        now = Reading(
            gpus=self._gpus(),
            cpu=psutil.cpu_percent(interval=None),
            used=(memory.total - memory.available) / 2**30,
            total=memory.total / 2**30,
        )
        self._last = steadied(self._last, now)
        return self._last

    def _gpus(self) -> tuple[Gpu, ...]:
        try:
            found = self._nvml.read()
        except NotAvailable:
            return ()
        return tuple(
            Gpu(
                gpu.index,
                gpu.name.removeprefix("NVIDIA "),
                gpu.utilization or 0,
                gpu.used / 2**30,
                gpu.total / 2**30,
                gpu.watts,
            )
            for gpu in found
        )


def steadied(last: Reading | None, now: Reading) -> Reading:
    """The reading in steps, so that a machine at rest gives the same one again and nothing is painted.

    Args:
        last: the steadied reading before this one.
        now: what was measured.
    """

    def step(before: float | None, value: float, size: float) -> float:
        # Held until it has left its step by half of one: a value at the border of two steps does not flicker.
        if before is not None and -size / 2 <= value - before < 1.5 * size:
            return before
        return size * (value // size)

    watts = {gpu.index: gpu.watts for gpu in last.gpus} if last else {}
    return Reading(
        gpus=tuple(
            gpu if gpu.watts is None else replace(gpu, watts=step(watts.get(gpu.index), gpu.watts, WATT_STEP))
            for gpu in now.gpus
        ),
        cpu=step(last.cpu if last else None, now.cpu, CPU_STEP),
        used=step(last.used if last else None, now.used, max(0.1, MEMORY_STEP * now.total)),
        total=now.total,
    )


def spark(values: Sequence[float]) -> str:
    """Percentages as bars of an eighth of a cell each."""
    return "".join(BARS[min(7, int(value / 12.5))] for value in values)


def lines(history: Sequence[Reading], width: int) -> list[str]:
    """What the strip says in lines of `width` cells: GPUs first; the CPU's history and the memory have to go first.

    Args:
        history: at most `KEPT` readings, oldest first.
        width: cells there are.
    """
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
        loads = [r.gpus[place].utilization for r in history if place < len(r.gpus)]
        power = f"  {gpu.watts:3.0f} W" if gpu.watts is not None else ""
        found.append(
            f"GPU{gpu.index} {gpu.name[:12]:12}  util {spark(loads)} {gpu.utilization:3d} %  "
            f"mem {gpu.used:.1f}/{gpu.total:.0f} GiB{power}"
        )
    return found


def _many(gpus: Sequence[Gpu], width: int) -> list[str]:
    """As many GPUs in a line as there is room for."""
    cells = [f"GPU{gpu.index} {gpu.utilization:3d} % {gpu.used:5.1f}/{gpu.total:.0f} GiB" for gpu in gpus]
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
        """Another width has room for more, or for less."""
        self.show(self._history)

    def show(self, history: Sequence[Reading]) -> None:
        """Shows the newest reading, with the small history of the one before.

        Args:
            history: readings, oldest first.
        """
        if not history:
            return
        self._history = list(history[-KEPT:])
        line = "\n".join(lines(self._history, self.size.width or max(1, self.app.size.width - 2)))
        if line != self._line:
            moves = len(line.splitlines()) != len(self._line.splitlines())
            self._line = line
            self.update(line, layout=moves)
