"""How large a batch memory holds, and what is done when an allocation fails, on an accelerator or on the machine."""

import gc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import torch

from engine.models import footprint
from engine.models.precision import BYTES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_T = TypeVar("_T")
_R = TypeVar("_R")
_CPU = ("can't allocate memory", "not enough memory", "cannot allocate memory")


def batch_tokens(
    model: "PreTrainedModel", on_cpu: int = footprint.CPU_TOKENS, *, trains: bool = False
) -> int:
    """Token positions, padding included, of one forward pass.

    On CUDA what the free memory holds of a model of this shape (`footprint.affordable_tokens`). Changes no result.

    Args:
        model: on its device.
        on_cpu: what is taken on a CPU, whose caches count and not its memory.
        trains: whether the backward pass follows, for which every layer keeps something.
    """
    if model.device.type == "cpu":
        return on_cpu
    shape = footprint.of_config(model.config.to_dict(), 0)
    dtype = str(model.dtype).removeprefix("torch.")
    if model.device.type != "cuda" or dtype not in BYTES:
        return footprint.affordable_tokens(None, dtype, 0, trains=trains)
    # What torch keeps for its next allocations is as good as free.
    kept = torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    return footprint.affordable_tokens(
        shape, dtype, torch.cuda.mem_get_info(model.device)[0] + kept, trains=trains
    )


def give_back() -> None:
    """Returns to the GPU what torch keeps of it for its next allocations, where another process is to have it."""
    gc.collect()
    torch.cuda.empty_cache()  # does nothing where CUDA was never used


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
    give_back()
    half = len(left) // 2
    yield from halving(left[:half], run)
    yield from halving(left[half:], run)
