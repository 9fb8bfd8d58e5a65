"""How a vector of strengths is kept in a column: little-endian float32, M values."""

from collections.abc import Sequence

import numpy as np


def pack(strengths: Sequence[float] | None) -> bytes | None:
    """The bytes of the strengths, 4 per teacher; None stays None."""
    return None if strengths is None else np.asarray(strengths, dtype="<f4").tobytes()


def unpack(data: bytes | None) -> tuple[float, ...] | None:
    """The strengths (M,) that `pack` wrote; None stays None."""
    return None if data is None else tuple(np.frombuffer(data, dtype="<f4").tolist())
