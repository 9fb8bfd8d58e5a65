"""What a GGUF file says of its model, read from its header: no torch, none of its weights, no vocabulary kept.

The format is ggml's (versions 2 and 3): metadata, then a table of tensors, then their data.
"""

import importlib.util
import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from engine.base.errors import ModelError

SUFFIX = ".gguf"

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DTYPES = {0: "float32", 1: "float16", 30: "bfloat16"}
"""ggml's numbers of the types that are no quantisation."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header holds."""

    values: Mapping[str, Any]
    """Metadata; of an array, how many entries it has."""
    parameters: int
    """Number of weights."""
    dtype: str
    """The number format to unpack them into: that of most weights or, where these are quantised, bfloat16."""

    @property
    def architecture(self) -> str:
        """ggml's name of the model's family, e.g. `llama`."""
        return str(self.values["general.architecture"])

    @property
    def context(self) -> int | None:
        """Tokens that prompt and answer may take together."""
        found = self.values.get(f"{self.architecture}.context_length")
        return found if isinstance(found, int) and found > 0 else None

    @property
    def vocabulary(self) -> int | None:
        """Number of tokens."""
        return self.values.get("tokenizer.ggml.tokens")

    @property
    def chat_template(self) -> bool:
        """Whether it brings a chat template."""
        return bool(self.values.get("tokenizer.chat_template"))


def is_gguf(ref: str) -> bool:
    """Whether a model's reference is a GGUF file."""
    return ref.lower().endswith(SUFFIX)


def read(path: Path) -> Header:
    """The header of a file whose data is all there.

    Raises:
        ModelError: not there, not GGUF, cut off, or the package that reads it is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"model {str(path)!r}: the package `gguf` is not installed", 'pip install "persyn[gguf]"'
        )
    if not path.is_file():
        raise ModelError(f"model file {str(path)!r} does not exist", "correct the path")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).header()
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise ModelError(
            f"model {str(path)!r} cannot be used: {error}",
            "copy the file again; one that is split into parts must be joined (llama-gguf-split --merge)",
        ) from error


class _Reader:
    """A place in a GGUF file that moves on as values are taken."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def header(self) -> Header:
        if self._data[:4] != b"GGUF":
            raise ValueError("it is not a GGUF file")
        self._at = 4
        version, tensors, keys = self._take("IQQ")
        if version not in (2, 3):
            raise ValueError(f"GGUF version {version} is not known")
        values = {self._text(): self._value(self._take("I")[0]) for _ in range(keys)}
        if "general.architecture" not in values:
            raise ValueError("it names no architecture")
        if values.get("split.count", 0) > 1:
            raise ValueError(f"it is one of {values['split.count']} parts")
        counts, end = Counter[int](), 0
        for _ in range(tensors):
            kind, count, size, offset = self._tensor()
            counts[kind] += count
            end = max(end, offset + size)
        alignment = values.get("general.alignment", 32)
        begin = -(-self._at // alignment) * alignment
        if begin + end > len(self._data):
            raise ValueError(f"{len(self._data)} bytes, but its header promises {begin + end}")
        most = counts.most_common(1)[0][0] if counts else 0
        return Header(values, counts.total(), _DTYPES.get(most, "bfloat16"))

    def _tensor(self) -> tuple[int, int, int, int]:
        """(ggml's number of its type, number of weights, bytes, offset) of the next tensor in the table."""
        import gguf

        self._text()
        (dimensions,) = self._take("I")
        count = prod(self._take(f"{dimensions}Q"))
        kind, offset = self._take("IQ")
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        return kind, count, count // block * size, offset

    def _take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return found

    def _text(self) -> str:
        (length,) = self._take("Q")
        begin, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise ValueError("it ends within its header")
        return self._data[begin : self._at].decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._take(_NUMBERS[kind])[0]
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise ValueError(f"its metadata has a value of unknown type {kind}")
        inner, count = self._take("IQ")
        if inner in _NUMBERS:
            self._at += count * struct.calcsize(f"<{_NUMBERS[inner]}")
        else:
            for _ in range(count):
                self._value(inner)
        return count
