"""NVIDIA's GPUs as the driver's library reads them: for the place of servers, and for the app's machine strip."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.base.errors import NotAvailable

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One reading of one GPU."""

    index: int
    """As nvidia-smi counts."""
    uuid: str
    name: str
    free: int
    """Bytes."""
    used: int
    total: int
    utilization: int | None
    """Percent; None where the GPU does not say (MIG)."""
    watts: float | None
    capability: tuple[int, int] | None = None
    """CUDA's compute capability; None where the GPU does not say."""


class Nvml:
    """Reads the GPUs; the library is opened with the first reading.

    Args:
        library: what to read with; None: the package nvidia-ml-py, where it is needed.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._handles: list[Any] | None = None

    def read(self) -> list[Gpu]:
        """The GPUs that answer, by index; empty on a machine that has none.

        Raises:
            NotAvailable: there is a GPU, and no way to read it.
        """
        if self._handles is None:
            self._handles = self._open()
        found = []
        for index, handle in enumerate(self._handles):
            try:
                found.append(self._one(index, handle))
            except self._library.NVMLError:
                continue  # it has fallen off the bus
        return found

    def _one(self, index: int, handle: Any) -> Gpu:
        nvml = self._library
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name, uuid = str(nvml.nvmlDeviceGetName(handle)), str(nvml.nvmlDeviceGetUUID(handle))
        try:
            utilization = int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        except nvml.NVMLError:
            utilization = None
        try:
            watts = nvml.nvmlDeviceGetPowerUsage(handle) / 1000
        except nvml.NVMLError:
            watts = None
        try:
            major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
            capability = (int(major), int(minor))
        except nvml.NVMLError:
            capability = None
        return Gpu(
            index,
            uuid,
            name,
            int(memory.free),
            int(memory.used),
            int(memory.total),
            utilization,
            watts,
            capability,
        )

    def _open(self) -> list[Any]:
        if self._library is None:
            try:
                import pynvml  # not on every machine
            except ImportError:
                if there():
                    raise NotAvailable(
                        "this machine has an NVIDIA GPU, and the package that reads it is missing",
                        "pip install nvidia-ml-py",
                    ) from None
                return []
            self._library = pynvml
        nvml = self._library
        try:
            nvml.nvmlInit()
            return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as problem:
            if there():
                raise NotAvailable(
                    f"this machine has an NVIDIA GPU, and its driver cannot be asked: {problem}",
                    "try `nvidia-smi`: after an upgrade of the driver the machine must be restarted, and a container "
                    "must be given the driver's tools; CUDA_VISIBLE_DEVICES= (empty) leaves the GPU out",
                ) from None
            return []


def visible(index: int, uuid: str) -> bool:
    """Whether CUDA_VISIBLE_DEVICES leaves this GPU to us."""
    given = os.environ.get(VISIBLE)
    if given is None:
        return True
    names = [name.strip() for name in given.split(",") if name.strip()]
    return str(index) in names or any(name.startswith("GPU-") and uuid.startswith(name) for name in names)


def there(devices: Path = Path("/dev")) -> bool:
    """Whether the system has an NVIDIA GPU, whatever can be asked of it."""
    return any(devices.glob("nvidia[0-9]*"))
