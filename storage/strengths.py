"""How a vector of strengths is kept in a column: little-endian float32, M values."""

import struct
from collections.abc import Sequence


def pack(strengths: Sequence[float] | None) -> bytes | None:
    """The bytes of the strengths, 4 per teacher; None stays None."""
    return None if strengths is None else struct.pack(f"<{len(strengths)}f", *strengths)


def unpack(data: bytes | None) -> tuple[float, ...] | None:
    """The strengths (M,) that `pack` wrote; None stays None."""
    return None if data is None else struct.unpack(f"<{len(data) // 4}f", data)
