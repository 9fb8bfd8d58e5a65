"""The devices of a machine, from what the driver says; and torch's own word, from a process of its own."""

from dataclasses import replace

import pytest

from engine.base.errors import ModelError
from engine.base.nvml import Gpu
from engine.models import devices
from engine.models.devices import Device, Machine, built_for, of_gpus, this_machine

GIB = 2**30
H100 = Gpu(0, "GPU-a", "NVIDIA H100", 70 * GIB, 10 * GIB, 80 * GIB, 0, None, (9, 0))
T4 = Gpu(1, "GPU-b", "Tesla T4", 15 * GIB, 0, 15 * GIB, 0, None, (7, 5))
CPU = Device("cpu", True, 8 * GIB)


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)


def test_a_gpu_is_a_device_with_its_capability_and_free_memory() -> None:
    (found,) = of_gpus([H100])
    assert found == Device("cuda:0", True, 70 * GIB, "NVIDIA H100", (9, 0))
    assert (found.type, str(found)) == ("cuda", "cuda:0 (NVIDIA H100)")
    assert not of_gpus([T4])[0].bfloat16  # Turing only imitates it
    assert of_gpus([]) == ()


def test_gpus_alike_keep_their_own_memory() -> None:
    found = of_gpus([H100, replace(H100, index=1, free=5 * GIB)])
    assert [(device.name, device.free // GIB) for device in found] == [("cuda:0", 70), ("cuda:1", 5)]


def test_where_torch_may_count_otherwise_what_holds_for_each_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mixed = of_gpus([H100, T4])
    assert {(device.bfloat16, device.capability, device.free // GIB) for device in mixed} == {
        (False, (7, 5), 15)
    }
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [device.free // GIB for device in of_gpus([H100, T4])] == [70, 15]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert [device.free // GIB for device in of_gpus([H100, T4])] == [15, 15]


def test_a_setting_names_a_device() -> None:
    gpu, mps = of_gpus([H100])[0], Device("mps", True, GIB)
    assert Machine(CPU).device("auto") is CPU
    with_gpu = Machine(CPU, (gpu,), mps)
    assert with_gpu.device("auto") is with_gpu.device("cuda") is with_gpu.device("cuda:0") is gpu
    assert with_gpu.device("cpu") is CPU
    assert with_gpu.device("mps") is mps
    for machine, name, said in (
        (with_gpu, "cuda:1", "is not there"),
        (Machine(CPU), "cuda", "is not there"),
        (Machine(CPU), "mps", "is not there"),
        (with_gpu, "gpu", "unknown device"),
        (with_gpu, "cuda:x", "unknown device"),
    ):
        with pytest.raises(ModelError, match=said):
            machine.device(name)


def test_a_model_has_a_copy_on_each_device_unless_it_has_one_of_its_own() -> None:
    gpus = of_gpus([H100, replace(H100, index=1), replace(H100, index=2)])
    machine = Machine(CPU, gpus)
    assert machine.places(None) == machine.places("auto") == ("cuda:0", "cuda:1", "cuda:2")
    some = machine.among(("cuda:2", "cuda:1"))
    assert some.places("auto") == ("cuda:2", "cuda:1")
    assert some.device("auto") is gpus[2]
    assert some.places("cuda:0") == ("cuda:0",)
    assert Machine(CPU).places("auto") == ("auto",)
    assert Machine(CPU).among(("cpu", "cpu")).places(None) == ("cpu", "cpu")
    assert machine.among(None) == machine


def test_what_torch_was_built_for_is_read_from_its_file() -> None:
    cuda = "__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
    rocm = "__version__ = '2.9.0+rocm6.4'\ncuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n"
    assert (built_for(cuda, "cuda"), built_for(cuda, "hip")) == (True, False)
    assert (built_for(rocm, "cuda"), built_for(rocm, "hip")) == (False, True)
    assert not built_for("", "cuda")


def test_torch_agrees_on_the_gpus_of_this_machine() -> None:
    import torch

    asked = devices.ask_torch()
    assert len(asked) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert [device.name for device in this_machine().cuda] == [device.name for device in asked]
    assert this_machine().cpu.free > 0
