"""What the processes that train one student together tell each other.

The loss of an optimizer step is a sum over its target tokens divided by their number in the whole step. So where each
process takes some of the step's passes and divides by that same number, their losses and gradients add up to those of
one process, and all take the same optimizer step from the same sum (synchronous data parallelism: Li et al., PyTorch
Distributed, arXiv 2006.15704). Every method here must be called by all processes in the same order.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist

from engine.base.errors import Cancelled

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

    @property
    def first(self) -> bool:
        """Whether this one writes checkpoints and the trained student."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value's sum over the processes."""
        if self.count == 1:
            return list(values)
        exchanged = torch.tensor(values, dtype=torch.float64)  # by gloo: no GPU is waited for
        with exchange():
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

    def seed_step(self, seed: int, step: int) -> None:
        """Set this process's generators of random numbers for a step, as they are for it after a resume too.

        Alone nothing is set: there the generators' state goes on from step to step, and stands in the checkpoint.
        """
        if self.count > 1:
            (drawn,) = np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(drawn))


@contextmanager
def exchange() -> Iterator[None]:
    """Within it, an exchange that fails raises PeerLost."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(str(error)) from error
