"""JSON that others wrote, where each wrong shape is an error that names its place.

    reply = foreign_json.parse(body)
    reply["choices"][0]["message"]["content"].text()  # choices[0].message.content: expected text, found a list

What is not read may be of any shape: a server's reply, or a model's configuration, holds much that nobody here needs.
"""

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_BYTES = 200_000_000
"""Of a file; the largest that is known, the index of a model of 1,000 shards, has a tenth of that."""

_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


class WrongShape(ValueError):
    """What the value is not, with its place."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value, and its place in the whole."""

    raw: Any
    place: str = ""

    def __getitem__(self, step: str | int) -> "Value":
        """The value under a key, or at a place of a list.

        Raises:
            WrongShape: there is none, or this is no object, or no list.
        """
        inside: Any = self.object() if isinstance(step, str) else self._as(list)
        place = f"{self.place}[{step}]" if isinstance(step, int) else f"{self.place}.{step}".lstrip(".")
        try:
            return Value(inside[step], place)
        except LookupError:
            raise WrongShape(f"{place} is missing") from None

    def get(self, key: str) -> "Value | None":
        """The value under a key; None where there is none, or null.

        Raises:
            WrongShape: this is no object.
        """
        return None if self.object().get(key) is None else self[key]

    def object(self) -> dict[str, Any]:
        """The object as it is."""
        found: dict[str, Any] = self._as(dict)
        return found

    def list(self) -> "list[Value]":
        """The list's values."""
        return [self[index] for index in range(len(self._as(list)))]

    def text(self) -> str:
        """The text."""
        return str(self._as(str))

    def integer(self, lowest: int = 0, highest: int = 2**31 - 1) -> int:
        """The whole number, within these bounds."""
        if type(self.raw) is not int or not lowest <= self.raw <= highest:
            raise self._wrong(f"a whole number from {lowest:,} to {highest:,}")
        return self.raw

    def number(self) -> float:
        """The finite number."""
        with suppress(OverflowError):  # a whole number beyond floats
            if type(self.raw) in (int, float) and math.isfinite(self.raw):
                return float(self.raw)
        raise self._wrong("a finite number")

    def _as(self, kind: type) -> Any:
        if not isinstance(self.raw, kind):
            raise self._wrong(_KINDS[kind])
        return self.raw

    def _wrong(self, expected: str) -> WrongShape:
        found = _KINDS.get(type(self.raw)) or repr(self.raw)[:40]
        return WrongShape(f"{self.place + ': ' if self.place else ''}expected {expected}, found {found}")


def parse(text: str | bytes) -> Value:
    """The value that a text holds.

    Raises:
        WrongShape: it is not JSON in UTF-8, nested too deeply, or has a number of thousands of digits.
    """
    try:
        return Value(json.loads(text))
    except RecursionError:
        raise WrongShape("not JSON: nested too deeply") from None
    except ValueError as error:
        raise WrongShape(f"not JSON: {error}") from None


def read(path: Path) -> Value:
    """The value that a file holds.

    Raises:
        OSError: it cannot be read.
        WrongShape: it is no file, which would be waited for or read without end; or too large; or see `parse`.
    """
    if path.exists() and not path.is_file():
        raise WrongShape("no file, but a folder, a pipe or a device")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise WrongShape(f"{size:,} bytes, more than the {MOST_BYTES:,} that are read")
    return parse(path.read_bytes())
