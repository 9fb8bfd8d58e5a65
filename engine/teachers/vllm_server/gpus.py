"""Which GPUs a server takes: those named, or the first that are free."""

import os
import time
from collections.abc import Callable, Mapping, Sequence

from engine.base.errors import EndpointError, NotAvailable
from engine.base.nvml import VISIBLE, Gpu, Nvml, visible
from engine.config.vllm import ServerConfig

_LOOK_S = 0.5
_NVML = Nvml()


def read(nvml: Nvml = _NVML) -> list[Gpu]:
    """The GPUs that this process may use; empty where there is none.

    Raises:
        EndpointError: there is a GPU that cannot be read.
    """
    if os.environ.get(VISIBLE) in ("", "-1"):
        return []
    try:
        return [gpu for gpu in nvml.read() if visible(gpu.index, gpu.uuid)]
    except NotAvailable as problem:
        raise EndpointError(problem.message, problem.remedy) from None


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
    whose: str,
    server: ServerConfig,
    *,
    look: Callable[[], list[Gpu]] = read,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, str]:
    """The environment that puts a model's server on free GPUs; empty on a machine without one.

    Args:
        whose: begins the message: "teacher `big`".
        server: how many GPUs it needs, which, and how much of their memory.
        look: reads the GPUs.
        stopped: whether nobody waits for them any more.

    Raises:
        EndpointError: too few are free, or they cannot be read.
    """
    if "MIG-" in (given := os.environ.get(VISIBLE, "")):
        return {VISIBLE: given}  # a slice of a GPU is somebody's choice, and is not measured
    wanted, width, share = server.gpus, server.width, server.gpu_memory_utilization
    end = time.monotonic() + server.gpu_timeout
    while True:
        gpus = look()
        if not gpus and not wanted:
            return {}
        chosen = choose(gpus, wanted, width, share)
        if len(chosen) == width:
            return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", VISIBLE: ",".join(map(str, chosen))}
        if time.monotonic() >= end or stopped():
            break
        time.sleep(_LOOK_S)
    there = ", ".join(f"{gpu.index}: {gpu.free / 2**30:.1f} of {gpu.total / 2**30:.1f} GiB" for gpu in gpus)
    among = f" among {', '.join(map(str, wanted))}" if wanted else ""
    raise EndpointError(
        f"{whose} needs {width} GPU{'s' if width > 1 else ''}{among} with {share:.0%} of the memory free; "
        f"free are {there or 'none, there is no GPU'}",
        "end what uses them, wait longer for them (`server.gpu_timeout`), or lower `server.gpu_memory_utilization` or "
        "`server.tensor_parallel`",
    )


def numbers(place: Mapping[str, str]) -> frozenset[int]:
    """The GPUs of an environment that `place` gave; −1 for one without a number, none on the CPU."""
    names = place.get(VISIBLE, "").split(",")
    return frozenset(int(name) if name.isdigit() else -1 for name in names if name)
