"""Which GPUs a server takes: those named, or the first that are free."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import EndpointError

WAIT_S = 30.0
"""Memory of a process that has ended comes back within seconds."""
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as NVML sees it."""

    index: int
    free: int
    """Bytes."""
    total: int


def read() -> list[Gpu]:
    """The GPUs that this process may use; empty without NVIDIA's library."""
    try:
        import pynvml
    except ImportError:
        return []
    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
        found = []
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            if _visible(index, str(nvml.nvmlDeviceGetUUID(handle))):
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                found.append(Gpu(index, int(memory.free), int(memory.total)))
    except nvml.NVMLError:
        return []
    return found


def choose(gpus: Sequence[Gpu], wanted: Sequence[int], width: int, share: float) -> list[int]:
    """Numbers of `width` GPUs that have `share` of their memory free; fewer when there are not so many.

    Args:
        gpus: those there are.
        wanted: the only ones that will do; empty: any.
        width: how many are needed.
        share: of each one's memory.
    """
    free = [
        gpu.index for gpu in gpus if gpu.free >= share * gpu.total and (not wanted or gpu.index in wanted)
    ]
    return free[:width]


def place(
    name: str,
    wanted: Sequence[int],
    width: int,
    share: float,
    *,
    look: Callable[[], list[Gpu]] = read,
    stopped: Callable[[], bool] = lambda: False,
    wait_s: float = WAIT_S,
) -> dict[str, str]:
    """The environment that puts a server on free GPUs; empty on a machine without one.

    Raises:
        EndpointError: too few are free.
    """
    end = time.monotonic() + wait_s
    while True:
        gpus = look()
        if not gpus and not wanted:
            return {}
        chosen = choose(gpus, wanted, width, share)
        if len(chosen) == width:
            return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, chosen))}
        if time.monotonic() >= end or stopped():
            break
        time.sleep(_LOOK_S)
    there = ", ".join(f"{gpu.index}: {gpu.free / 2**30:.1f} of {gpu.total / 2**30:.1f} GiB" for gpu in gpus)
    among = f" among {', '.join(map(str, wanted))}" if wanted else ""
    raise EndpointError(
        f"teacher `{name}` needs {width} GPU{'s' if width > 1 else ''}{among} with {share:.0%} of the memory free; "
        f"free are {there or 'none, there is no GPU'}",
        "end what uses them, or lower `server.gpu_memory_utilization` or `server.tensor_parallel`",
    )


def _visible(index: int, uuid: str) -> bool:
    """Whether CUDA_VISIBLE_DEVICES leaves this GPU to us."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return True
    names = [name.strip() for name in given.split(",") if name.strip()]
    return str(index) in names or any(name.startswith("GPU-") and uuid.startswith(name) for name in names)
