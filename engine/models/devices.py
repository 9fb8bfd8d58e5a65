"""What this machine can load models on, found out without importing torch, which takes seconds.

NVIDIA's GPUs are read through the driver. Where that cannot be done (ROCm, a Jetson, a driver that does not answer), a
process of its own asks torch, whose word counts in the end.
"""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

import psutil

from engine.base.errors import ModelError, NotAvailable
from engine.base.nvml import VISIBLE, Gpu, Nvml, visible

AUTO: Final = "auto"
BFLOAT16_FROM = (8, 0)
"""CUDA compute capability from which a GPU computes in bfloat16 (Ampere); older ones only imitate it, slowly."""
_BFLOAT16_MACOS = 14
_ASK_TORCH_S = 120.0
_ASK_TORCH = """
import json, torch
found = []
for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    free = torch.cuda.mem_get_info(index)[0]
    about = torch.cuda.get_device_properties(index)
    exact = torch.version.hip is None
    found.append([about.name, [about.major, about.minor] if exact else None, free])
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Device:
    """One place that weights can be loaded to."""

    name: str
    """As torch has it: `cpu`, `cuda:0`, `mps`."""
    bfloat16: bool
    """Whether it computes in bfloat16 as fast as in float16."""
    free: int
    """Bytes that can be allocated now."""
    title: str = ""
    """What the maker calls it."""
    capability: tuple[int, int] | None = None
    """CUDA's compute capability; None for what is not NVIDIA's."""

    @property
    def type(self) -> Literal["cpu", "cuda", "mps"]:
        """torch's word for the kind of device."""
        return self.name.partition(":")[0]  # type: ignore[return-value]  # no other name is made here

    def __str__(self) -> str:
        return f"{self.name} ({self.title})" if self.title else self.name


@dataclass(frozen=True, slots=True)
class Machine:
    """Every device of a machine."""

    cpu: Device
    cuda: tuple[Device, ...] = ()
    """As torch counts them."""
    mps: Device | None = None
    named: tuple[str, ...] = ()
    """The run file's `devices`: what `auto` stands for, where it has any."""

    def among(self, devices: Sequence[str] | None) -> "Machine":
        """The machine as a run with these `devices` sees it; None: as it is."""
        return replace(self, named=tuple(devices or ()))

    def places(self, setting: str | None) -> tuple[str, ...]:
        """Where a model with this setting `device` has a copy each, one place at least.

        `auto` (or None) is the run's `devices`, else every GPU of CUDA; where there is none it stays `auto`.
        """
        if setting not in (None, AUTO):
            return (str(setting),)
        return self.named or tuple(one.name for one in self.cuda) or (AUTO,)

    def device(self, name: str) -> Device:
        """The device that a setting names; `auto` is the first of the run's `devices`, else the first GPU of CUDA, else
        the CPU, as when a model is loaded.

        Raises:
            ModelError: not a name of a device, or one that this machine has not.
        """
        if name == AUTO and self.named:
            name = self.named[0]
        if name == AUTO:
            return self.cuda[0] if self.cuda else self.cpu
        if name == "cpu":
            return self.cpu
        if name == "mps" and self.mps is not None:
            return self.mps
        if not (match := re.fullmatch(r"mps|cuda(?::(\d+))?", name)):
            raise ModelError(f"unknown device {name!r}", "use auto, cpu, cuda, cuda:N or mps")
        if name == "mps" or (index := int(match[1] or 0)) >= len(self.cuda):
            there = [self.cpu, *self.cuda, *([self.mps] if self.mps else [])]
            raise ModelError(
                f"device {name!r} is not there", f"this machine has {', '.join(one.name for one in there)}"
            )
        return self.cuda[index]


def this_machine(library: Nvml | None = None) -> Machine:
    """The devices of this machine, with their memory as it is now.

    Args:
        library: what reads NVIDIA's GPUs; None: their driver.
    """
    memory = psutil.virtual_memory().available
    mps = None
    if sys.platform == "darwin" and platform.machine() == "arm64":
        # Memory is shared with the CPU.
        newest = int(platform.mac_ver()[0].partition(".")[0] or 0)
        mps = Device("mps", newest >= _BFLOAT16_MACOS, memory, "Apple GPU")
    return Machine(Device("cpu", True, memory), tuple(_cuda(library)), mps)


def _cuda(library: Nvml | None) -> Sequence[Device]:
    version = _torch_version()
    if not built_for(version, "cuda") and not built_for(version, "hip"):
        return ()  # this torch reaches no GPU, whatever the machine has
    if os.environ.get(VISIBLE) in ("", "-1"):
        return ()
    if built_for(version, "hip"):
        return ask_torch() if Path("/dev/kfd").exists() else ()
    if "MIG-" in os.environ.get(VISIBLE, ""):  # a slice of a GPU, which the driver's library counts otherwise
        return ask_torch()
    try:
        gpus = [one for one in (library or Nvml()).read() if visible(one.index, one.uuid)]
    except NotAvailable:
        return ask_torch()
    return ask_torch() if any(one.capability is None for one in gpus) else of_gpus(gpus)


def of_gpus(gpus: Sequence[Gpu]) -> tuple[Device, ...]:
    """The visible GPUs as the driver reads them, as devices.

    torch may count them in another order: by CUDA_VISIBLE_DEVICES, the fastest first. So each has the capability of the
    oldest, and where that order is not known the memory of the fullest: what is chosen works on any.
    """
    if not gpus:
        return ()
    capability = min(one.capability or (0, 0) for one in gpus)
    names = sorted({one.name for one in gpus})
    known = VISIBLE not in os.environ and (
        len(names) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    )
    fullest = min(one.free for one in gpus)
    return tuple(
        gpu(index, " or ".join(names), capability, one.free if known else fullest)
        for index, one in enumerate(gpus)
    )


def ask_torch() -> Sequence[Device]:
    """The GPUs by the word of torch, in a process of its own; none where it does not answer."""
    try:
        process = subprocess.run(
            [sys.executable, "-P", "-c", _ASK_TORCH], capture_output=True, timeout=_ASK_TORCH_S, check=True
        )
        answer = json.loads(process.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()
    return [
        gpu(index, name, None if capability is None else (capability[0], capability[1]), free)
        for index, (name, capability, free) in enumerate(answer)
    ]


def gpu(index: int, title: str, capability: tuple[int, int] | None, free: int) -> Device:
    """The GPU that torch counts as `index`; one without a capability is not NVIDIA's, and computes in bfloat16."""
    bfloat16 = capability is None or capability >= BFLOAT16_FROM
    return Device(f"cuda:{index}", bfloat16, free, title, capability)


def _torch_version() -> str:
    """The text of the module `torch.version`, which says what it was built for; empty where there is no torch."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        return (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return ""


def built_for(version: str, what: str) -> bool:
    """Whether torch, by the text of `torch.version`, was built for `cuda` or `hip`."""
    return re.search(rf"^{what}\b[^=\n]*=\s*'", version, re.MULTILINE) is not None
