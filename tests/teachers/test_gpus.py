"""Which GPUs a server takes, by readings that are written down here: of machines that are not this one."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine.base import nvml
from engine.base.errors import EndpointError, NotAvailable
from engine.base.nvml import Gpu, Nvml
from engine.config.vllm import ServerConfig
from engine.teachers.vllm_server import gpus as _gpus


class Library:
    """What nvidia-ml-py offers, over GPUs given as (bytes free, bytes in all); None: one that is lost."""

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: tuple[int, int] | None, broken: str = "") -> None:
        self._gpus, self._broken = gpus, broken

    def nvmlInit(self) -> None:  # noqa: N802
        if self._broken:
            raise self.NVMLError(self._broken)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        if (found := self._gpus[handle]) is None:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(free=found[0], used=found[1] - found[0], total=found[1])

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return "NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}{handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=7)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return 9, 0

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        raise self.NVMLError("not supported")


def gpus(*sizes: tuple[int, int] | None) -> list[Gpu]:
    return Nvml(Library(*sizes)).read()


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpus_that_are_free_are_taken_first_come_first_served() -> None:
    found = gpus((10, 80), (75, 80), (79, 80), (80, 80))
    assert _gpus.choose(found, (), 1, 0.9) == [1]
    assert _gpus.choose(found, (), 2, 0.9) == [1, 2]
    assert _gpus.choose(found, (3,), 1, 0.9) == [3]
    assert _gpus.choose(found, (), 4, 0.9) == [1, 2, 3]
    placed = _gpus.place("teacher `t`", ServerConfig(tensor_parallel=2), look=lambda: found)
    assert placed == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,2"}
    assert _gpus.numbers(placed) == {1, 2}
    assert _gpus.place("teacher `t`", ServerConfig(), look=list) == {}
    assert _gpus.numbers({}) == frozenset()
    with pytest.raises(EndpointError, match="needs 1 GPU among 0 with 90% of the memory free; free are 0: "):
        _gpus.place("teacher `t`", ServerConfig(gpus=(0,), gpu_timeout=0), look=lambda: found)
    with pytest.raises(EndpointError, match="there is no GPU"):
        _gpus.place("teacher `t`", ServerConfig(gpus=(0,), gpu_timeout=0), look=list)


def test_memory_that_comes_back_is_waited_for() -> None:
    looks = iter([gpus((10, 80)), gpus((79, 80))])
    assert _gpus.place("teacher `t`", ServerConfig(), look=lambda: next(looks))["CUDA_VISIBLE_DEVICES"] == "0"


def test_one_gpu_that_is_lost_hides_no_other_and_keeps_their_numbers() -> None:
    found = gpus((1, 80), None, (80, 80))
    assert [(gpu.index, gpu.free, gpu.used, gpu.watts) for gpu in found] == [
        (0, 1, 79, None),
        (2, 80, 0, None),
    ]


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [("0,2", [0, 2]), ("GPU-11", [1]), ("", []), ("-1", []), ("7", [])],
)
def test_only_the_gpus_that_this_process_may_use_are_taken(
    monkeypatch: pytest.MonkeyPatch, visible: str, numbers: list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.index for gpu in _gpus.read(Nvml(Library((1, 2), (1, 2), (1, 2))))] == numbers


def test_a_slice_of_a_gpu_is_left_as_it_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    placed = _gpus.place("teacher `t`", ServerConfig(), look=list)
    assert placed == {"CUDA_VISIBLE_DEVICES": "MIG-1234"}
    assert _gpus.numbers(placed) == {-1}


def test_a_gpu_that_cannot_be_read_is_an_error_and_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Library(broken="Driver/library version mismatch")
    assert _gpus.read(Nvml(broken)) == []  # nothing of NVIDIA's here but its library
    monkeypatch.setattr(nvml, "there", lambda: True)
    with pytest.raises(NotAvailable, match="version mismatch") as caught:
        Nvml(broken).read()
    assert "nvidia-smi" in caught.value.remedy
    with pytest.raises(EndpointError, match="version mismatch"):
        _gpus.place("teacher `t`", ServerConfig(gpu_timeout=0), look=lambda: _gpus.read(Nvml(broken)))
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(NotAvailable, match="package that reads it is missing") as caught:
        Nvml().read()
    assert caught.value.remedy == "pip install nvidia-ml-py"
    # Who leaves the GPU out says that it is not to be read.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert _gpus.read(Nvml(broken)) == []


def test_a_gpu_is_known_by_its_device(tmp_path) -> None:
    (tmp_path / "nvidiactl").touch()
    assert not nvml.there(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert nvml.there(tmp_path)
