"""Telling that memory has run out, on an accelerator or on the machine itself."""

import torch

_CPU = ("can't allocate memory", "not enough memory", "cannot allocate memory")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that an allocation failed; on the CPU torch raises plain RuntimeErrors for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error).lower() for mark in _CPU)
