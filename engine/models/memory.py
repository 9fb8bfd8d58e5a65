"""What is done when an allocation fails, on an accelerator or on the machine itself."""

import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

_T = TypeVar("_T")
_R = TypeVar("_R")
_CPU = ("can't allocate memory", "not enough memory", "cannot allocate memory")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that an allocation failed; on the CPU torch raises plain RuntimeErrors for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error).lower() for mark in _CPU)


def halving(rows: list[_T], run: Callable[[list[_T]], Iterator[_R]]) -> Iterator[_R]:
    """What `run(rows)` yields; where memory runs out, what it yields for each half of the rows left, and so on.

    Args:
        rows: one batch.
        run: is given a list of its own. A row that it takes out of the list is not tried again; of the others,
            results may come twice.

    Raises:
        RuntimeError, MemoryError: the error of a row that does not fit alone, and any error but lack of memory.
    """
    left = list(rows)
    try:
        yield from run(left)
        return
    except (RuntimeError, MemoryError) as error:
        if len(left) < 2 or not ran_out(error):
            raise
    # Only here has the error let go of the tensors in its frames.
    gc.collect()
    torch.cuda.empty_cache()
    half = len(left) // 2
    yield from halving(left[:half], run)
    yield from halving(left[half:], run)
