"""Readings of the machine, steadied: GPUs through NVML, CPU and memory."""

from dataclasses import dataclass, replace

import psutil

from engine.base.errors import NotAvailable
from engine.base.nvml import Gpu, Nvml

CPU_STEP = 5.0
"""Percent by which the CPU's load is shown."""
MEMORY_STEP = 0.01
"""Share of the machine's memory by which its use is shown."""
WATT_STEP = 5.0


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
            return tuple(self._nvml.read())
        except NotAvailable:
            return ()


def steadied(last: Reading | None, now: Reading) -> Reading:
    """The reading in steps, so that a machine at rest gives the same one again and nothing is painted."""

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
