"""How a student lies on the processes that train it: a copy in each, or (`engine.distill.sharding`) a part in each."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from engine.distill.ranks import Ranks, exchange

BUCKET_BYTES = 64 << 20
"""Gradients that are summed in one exchange: many small ones would cost its latency each."""


class Layout(Protocol):
    """What the training loop does otherwise where no process has the whole student.

    Every method must be called by all processes in the same order, as those of `Ranks`.
    """

    @property
    def ranks(self) -> Ranks:
        """This process among the others."""
        ...

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """What the optimizer steps in this process, by name: whole tensors, or this process's parts of them."""
        ...

    @property
    def lockstep(self) -> bool:
        """Whether a pass is one of all processes together, each with rows of its own, or with none."""
        ...

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """What `work` gives, which calls the student's modules; a loss in training."""
        ...

    def asked(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """What is to be asked within a pass for `should_stop`."""
        ...

    def settle(self) -> None:
        """Forgets a pass that was not finished, and its gradients."""
        ...

    def sum_gradients(self, masters: Mapping[str, Tensor]) -> None:
        """Makes each gradient its sum over the processes; a parameter that has none in any stays without one.

        Args:
            masters: `parameters` or what is stepped for them, by name.
        """
        ...

    def norm(self, own: Tensor) -> Tensor:
        """The Euclidean norm of all gradients, from that of the gradients in this process."""
        ...

    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites each tensor with that of the first process, where they are to be the same."""
        ...

    def whole(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Whole tensors for those of this process, by name or `KIND/NAME`; each is gathered when it is looked at."""
        ...

    def own(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What this process has of whole tensors, by name or `KIND/NAME`."""
        ...

    def restore(self) -> None:
        """Makes the first process's student whole, on the CPU if it was not, in its own number format."""
        ...


THE_ONLY = Ranks()


@dataclass(frozen=True, slots=True)
class Copies:
    """Each process has the whole student, or there is one process."""

    parameters: Mapping[str, Tensor]
    ranks: Ranks = THE_ONLY
    lockstep: bool = False

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """See `Layout`."""
        return work()

    def asked(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """See `Layout`."""
        return should_stop

    def settle(self) -> None:
        """See `Layout`."""

    @torch.no_grad()
    def sum_gradients(self, masters: Mapping[str, Tensor]) -> None:
        """See `Layout`."""
        if self.ranks.count == 1:
            return
        every = list(masters.values())
        holders = self.ranks.sum([float(parameter.grad is not None) for parameter in every])
        gradients = []
        for parameter, held in zip(every, holders, strict=True):
            if held and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            with exchange():
                dist.all_reduce(flat)
            at = 0
            for gradient in bucket:
                gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
                at += gradient.numel()

    def norm(self, own: Tensor) -> Tensor:
        """See `Layout`."""
        return own

    @torch.no_grad()
    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """See `Layout`."""
        if self.ranks.count > 1:
            for tensor in tensors:
                with exchange():
                    dist.broadcast(tensor.detach(), src=0)

    def whole(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `Layout`."""
        return tensors

    def own(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """See `Layout`."""
        return tensors

    def restore(self) -> None:
        """See `Layout`."""


ALONE = Copies({})
"""One process."""


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, together while they are of one number format and fit `BUCKET_BYTES`."""
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or held + tensor.nbytes > BUCKET_BYTES):
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.nbytes
    if bucket:
        yield bucket
