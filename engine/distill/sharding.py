"""A student that is trained whole and lies in parts on the processes that train it.

Every process keeps its part of each tensor: of the float32 weights, of their gradients, of AdamW's moments. A layer's
weights are gathered from all of them, rounded to the number format of the run, just before the layer is computed; its
gradients are summed in float32 after it, and each process keeps its part of the sum (ZeRO-3: Rajbhandari et al., arXiv
1910.02054; FSDP: Zhao et al., arXiv 2304.11277; here PyTorch's `fully_shard`). So a pass is one of all processes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp._fully_shard._fsdp_collectives import DefaultAllGather, DefaultReduceScatter
from torch.distributed.tensor import DTensor

from engine.base.errors import NotAvailable
from engine.distill.ranks import Ranks, exchange
from engine.models.stoppable import layers_of


class Shards:
    """The parts that this process has of a student; see `engine.distill.layouts.Layout`.

    Args:
        student: on the CPU, all of it trained; its modules get their parts of the weights in place, on `device`, layer
            by layer: at no time is more than one of its layers whole there. Then only `run` may call its modules.
        ranks: this process among the others.
        device: this process's, the current one where it is a GPU.
        on_gathered: called after each tensor that is gathered to be written: of a large student that takes minutes
            before the first file grows, which would be taken for a hang.

    Raises:
        NotAvailable: it has weights of several number formats, or single numbers as weights.
    """

    lockstep = True

    def __init__(
        self,
        student: Any,
        ranks: Ranks,
        device: torch.device,
        on_gathered: Callable[[], None] = lambda: None,
    ) -> None:
        self.ranks, self._on_gathered = ranks, on_gathered
        self._dtype = _only_dtype(student)
        self._root = _Pass(student)
        mesh = init_device_mesh(device.type, (ranks.count,))
        policy = MixedPrecisionPolicy(self._dtype, torch.float32, cast_forward_inputs=False)
        for module in (*_units(student), self._root):
            for parameter in module.parameters():
                if not isinstance(parameter, DTensor):
                    parameter.data = parameter.data.to(device, torch.float32)
            _sum_gradients_of(fully_shard(module, mesh=mesh, mp_policy=policy))
        self._sharded: dict[str, DTensor] = {
            name: parameter
            for name, parameter in student.named_parameters()
            if isinstance(parameter, DTensor)
        }
        self.parameters = {
            name: _local(parameter.detach()).requires_grad_() for name, parameter in self._sharded.items()
        }
        """See `Layout`; float32, and the very memory that layers are gathered from."""
        self._begun = False

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """See `Layout`."""
        self._begun = True
        given: Tensor = self._root(work)
        return given

    def asked(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """See `Layout`; all hear of a stop at the same layer, as none can go on without the others."""
        return lambda: self.ranks.any(should_stop())

    def settle(self) -> None:
        """See `Layout`."""
        assert isinstance(self._root, FSDPModule)
        if self._begun:  # before the first pass there is no state
            self._root.reset_iter_state()
        for parameter in self._sharded.values():
            parameter.grad = None

    def sum_gradients(self, masters: Mapping[str, Tensor]) -> None:
        """See `Layout`; they were summed layer by layer, and only have to be handed over."""
        for name, parameter in self._sharded.items():
            gradient = parameter.grad
            masters[name].grad = None if gradient is None else _local(gradient)
            parameter.grad = None

    def norm(self, own: Tensor) -> Tensor:
        """See `Layout`."""
        (square,) = self.ranks.sum([float(own.double().square())])
        return torch.tensor(square, dtype=torch.float64).sqrt().to(own)

    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """See `Layout`; no two processes have the same part."""

    def whole(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `Layout`."""
        return _Gathered(self._sharded, tensors, self._on_gathered)

    def own(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `Layout`; views, so of tensors in a file that is memory-mapped only these parts are read."""
        return {
            name: tensor
            if tensor.ndim == 0
            else _part(tensor, _sharded_like(name, self._sharded).device_mesh)
            for name, tensor in tensors.items()
        }

    def restore(self) -> None:
        """See `Layout`."""
        self.settle()
        places: dict[int, list[tuple[nn.Module, str]]] = {}
        for module in self._root.modules():
            for key, parameter in module.named_parameters(recurse=False):
                places.setdefault(id(parameter), []).append((module, key))
        for name, tensor in self.whole(self.parameters).items():
            if self.ranks.first:
                restored = nn.Parameter(tensor.to("cpu", self._dtype))
                for module, key in places[id(self._sharded[name])]:
                    setattr(module, key, restored)


class _Pass(nn.Module):
    """A pass from token ids to the loss: what lies outside the layers is gathered once for all of it."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, work: Callable[[], Tensor]) -> Tensor:
        return work()


class _Gathered(Mapping[str, Tensor]):
    """Tensors of which this process has parts; looking at one gathers it, in all processes."""

    def __init__(
        self, sharded: Mapping[str, DTensor], own: Mapping[str, Tensor], on_gathered: Callable[[], None]
    ) -> None:
        self._sharded, self._own, self._on_gathered = sharded, own, on_gathered

    def __getitem__(self, name: str) -> Tensor:
        part = self._own[name]
        if part.ndim == 0:  # AdamW's count of steps
            return part
        like = _sharded_like(name, self._sharded)
        mesh, placements = like.device_mesh, like.placements
        spread = DTensor.from_local(
            part.detach(), mesh, placements, run_check=False, shape=like.shape, stride=like.stride()
        )
        with exchange():
            whole = spread.full_tensor()
        self._on_gathered()
        return whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


class _AllGather(DefaultAllGather):
    """As it is, but for the error where another process has ended."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with exchange():
            return super().__call__(*args, **kwargs)


class _ReduceScatter(DefaultReduceScatter):
    """As it is, but for the error where another process has ended."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with exchange():
            return super().__call__(*args, **kwargs)


def _only_dtype(student: nn.Module) -> torch.dtype:
    parameters = list(student.parameters())
    dtypes = {parameter.dtype for parameter in parameters}
    if len(dtypes) > 1 or any(parameter.ndim == 0 for parameter in parameters):
        raise NotAvailable(
            f"{type(student).__name__} cannot be cut over several devices: it has weights of several number formats, "
            "or single numbers as weights",
            "train it on one of `devices`, or by `distill: {method: lora}`",
        )
    (dtype,) = dtypes
    return dtype


def _units(student: Any) -> Iterator[nn.Module]:
    """What is gathered by itself: each layer, and the embedding where its weight is not the head's too."""
    yield from dict.fromkeys(layers_of(student))
    embedding, head = student.get_input_embeddings(), student.get_output_embeddings()
    if embedding.weight is not head.weight:
        yield embedding


def _sum_gradients_of(unit: FSDPModule) -> None:
    """Has gradients summed, not averaged, also those of weights that one process's rows have not touched."""
    unit.set_force_sum_reduction_for_comms(True)
    unit.set_gradient_divide_factor(1.0)
    unit.set_reduce_scatter_unused_params(True, recurse=False)
    unit.set_custom_all_gather(_AllGather())
    unit.set_custom_reduce_scatter(_ReduceScatter())


def _local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor of `fully_shard`."""
    assert isinstance(tensor, DTensor)
    return tensor.to_local()


def _sharded_like(name: str, sharded: Mapping[str, DTensor]) -> DTensor:
    """The parameter that `NAME` or `KIND/NAME` belongs to."""
    return sharded[name.rpartition("/")[2]]


def _part(whole: Tensor, mesh: DeviceMesh) -> Tensor:
    """This process's rows of a whole tensor, as `Shard(0)` has them: the last processes may have fewer, or none."""
    rows = -(-whole.shape[0] // mesh.size())
    start = rows * mesh.get_local_rank()
    return whole[start : start + rows]
