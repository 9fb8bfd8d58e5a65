"""How many threads a small model computes with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 3_000_000
"""Parameters below which a second thread costs more in barriers than it computes. On a machine that others use
too it is far worse: 0.15M parameters took 65 ms a step on one thread, 1,360 ms on two that waited for a core."""


@contextmanager
def threads(parameters: int) -> Iterator[None]:
    """Set torch's threads for the block: one for a small model, else what the process has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if parameters < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
