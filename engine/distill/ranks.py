"""What the processes that train one student together tell each other; each holds a whole copy of it.

The loss of an optimizer step is a sum over its target tokens divided by their number in the whole step. So where each
process takes some of the step's passes and divides by that same number, their losses and gradients add up to those of
one process, and all take the same optimizer step from the same sum (synchronous data parallelism: Li et al., PyTorch
Distributed, arXiv 2006.15704). Every method here must be called by all processes in the same order.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from engine.base.errors import Cancelled

BUCKET_BYTES = 64 << 20
"""Gradients that are summed in one exchange: many small ones would cost its latency each."""

T = TypeVar("T")


class PeerLost(Exception):
    """Another process has ended in the middle of an exchange; what this one has is of no use without it."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of its training; alone, unless told otherwise, and then nothing is exchanged."""

    rank: int = 0
    """Its number, from 0."""
    count: int = 1
    """Processes."""
    device: str = "cpu"
    """Where what is exchanged lies."""

    @property
    def first(self) -> bool:
        """Whether this one writes checkpoints and the trained student."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value's sum over the processes."""
        if self.count == 1:
            return list(values)
        exchanged = torch.tensor(values, dtype=torch.float64, device=self.device)
        with _exchange():
            dist.all_reduce(exchanged)
        return [float(value) for value in exchanged.tolist()]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in one of the processes."""
        return self.sum([float(flag)])[0] > 0

    def wait(self) -> None:
        """Returns once every process has come here."""
        self.any(False)

    def together(self, work: Callable[[], T]) -> T:
        """What `work` gives; exchanges nothing meanwhile.

        Raises:
            Cancelled: in every process, where `work` raised it in one. Who is stopped within a pass must not leave the
                others waiting for its gradients.
        """
        try:
            given = work()
        except Cancelled:
            self.any(True)
            raise
        if self.any(False):
            raise Cancelled.between_commits()
        return given

    @torch.no_grad()
    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Make each gradient its sum over the processes; a parameter that has none in any stays without one."""
        if self.count == 1:
            return
        every = list(parameters)
        holders = self.sum([float(parameter.grad is not None) for parameter in every])
        gradients = []
        for parameter, held in zip(every, holders, strict=True):
            if held and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            with _exchange():
                dist.all_reduce(flat)
            at = 0
            for gradient in bucket:
                gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
                at += gradient.numel()

    @torch.no_grad()
    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite each tensor with that of the first process."""
        if self.count > 1:
            for tensor in tensors:
                with _exchange():
                    dist.broadcast(tensor.detach(), src=0)

    def seed_step(self, seed: int, step: int) -> None:
        """Set this process's generators of random numbers for a step, as they are for it after a resume too.

        Alone nothing is set: there the generators' state goes on from step to step, and stands in the checkpoint.
        """
        if self.count > 1:
            (drawn,) = np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(drawn))


ALONE = Ranks()


@contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(str(error)) from error


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
