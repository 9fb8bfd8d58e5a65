"""The rows of files: JSONL, arrays of JSON, CSV, Parquet; compressed too; each with its line. All are streamed.

pyarrow is imported where it reads.
"""

import codecs
import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, Final

from engine.base import foreign_json
from engine.base.errors import ConfigError
from engine.base.foreign_json import Value, WrongShape
from engine.sources.files import COUNTED_BYTES, opened, refuse_foreign, text_bytes

LONGEST_LINE: Final = 32 * 2**20
"""Bytes of a row's text; a longer one is refused before it is read."""
_LONGEST_FIELD: Final = 16 * 2**20
_BLOCK: Final = 2**16
_LONGEST_MARK: Final = 16
"""Characters of JSON that are read as one: `-Infinity`, an escape."""
_BLANK: Final = b" \t\r\n"
_DELIMITERS: Final = ",;\t|"
_SEPARATOR: Final = re.compile(r"sep=(.)\s*")
"""How Excel tells the separator, in a line before the header."""
_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")

Rows = Iterator[tuple[int, Mapping[str, Any]]]
"""(line, row)."""


@dataclass(frozen=True, slots=True)
class Format:
    """A form of files."""

    endings: tuple[str, ...]
    """Those of which a folder is read."""
    rows: Callable[[Path, Collection[str]], Rows]
    """All rows of a file; the columns that are wanted may be told, and others then come as None. Raises ConfigError for
    a malformed row, with its line."""
    count: Callable[[Path, Collection[str]], int | None]
    """How many `rows` there are, quickly; None where that takes too long."""


def read_jsonl(path: Path, columns: Collection[str] = ()) -> Rows:
    """Every row of a file with an object a line, or of one array of objects, numbered from 1.

    Raises:
        ConfigError: a line is no JSON object.
    """
    with opened(path) as file:
        if _is_array(file):
            yield from _elements(path, file)
            return
        for line, raw in _lines(path, file):
            try:
                yield line, foreign_json.parse(raw).object()
            except WrongShape as problem:
                raise ConfigError(
                    f"prompts: {path}:{line}: malformed JSONL: {problem}", _jsonl_remedy(raw)
                ) from None


def _jsonl_remedy(raw: bytes) -> str:
    if raw.strip() == b"{":
        return "write each object on one line: jq -c . FILE > FILE.jsonl"
    return 'each line is one JSON object in UTF-8, e.g. {"prompt": "…", "answer": "…"}'


def count_jsonl(path: Path, columns: Collection[str] = ()) -> int | None:
    """How many rows there are; None where the file is too large to be read for that."""
    if text_bytes(path) > COUNTED_BYTES:
        return None
    with opened(path) as file:
        if _is_array(file):
            return sum(1 for _ in _elements(path, file))
        return sum(1 for _ in _lines(path, file))


def read_json(path: Path, columns: Collection[str] = ()) -> Rows:
    """Every row of an array of objects, numbered from 1.

    Raises:
        ConfigError: it is no array of objects.
    """
    with opened(path) as file:
        yield from _elements(path, file)


def _lines(path: Path, file: BufferedReader) -> Iterator[tuple[int, bytes]]:
    """(number, line) of each that is not blank.

    Raises:
        ConfigError: one is longer than `LONGEST_LINE`.
    """
    line = 0
    while raw := file.readline(LONGEST_LINE + 1):
        line += 1
        if len(raw) > LONGEST_LINE:
            raise _too_long(path, line)
        if raw.strip() not in (b"", codecs.BOM_UTF8):
            yield line, raw


def _too_long(path: Path, line: int) -> ConfigError:
    return ConfigError(
        f"prompts: {path}:{line}: longer than {LONGEST_LINE // 2**20} MiB",
        "take the row out, or put each row on a line of its own",
    )


def _is_array(file: BufferedReader) -> bool:
    return file.peek(_BLOCK).removeprefix(codecs.BOM_UTF8).lstrip(_BLANK).startswith(b"[")


def _elements(path: Path, file: BufferedReader) -> Rows:
    """The objects of an array, each parsed as soon as what has been read holds it whole."""
    text, number = _Text(file), 0
    try:
        if (mark := text.mark()) != "[":
            raise WrongShape(
                "expected a list, found an object" if mark == "{" else "not JSON: no list begins it"
            )
        if text.peek() == "]":
            mark = text.mark()
        while mark != "]":
            value = Value(text.value(), f"[{number}]").object()
            number += 1
            if (mark := text.mark()) not in (",", "]"):
                raise WrongShape(f"[{number}]: not JSON: expected `,` or `]` before it")
            yield number, value
        if text.mark():
            raise WrongShape("not JSON: something follows the list")
    except _TooLong:
        raise _too_long(path, number + 1) from None
    except (ValueError, RecursionError) as problem:
        what = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        what = what if isinstance(problem, WrongShape) else f"[{number}]: not JSON: {what}"
        raise ConfigError(
            f"prompts: {path}: malformed JSON: {what}",
            'it is an array of objects, e.g. [{"prompt": "…", "response": "…"}]; a file of one object a line is .jsonl',
        ) from None


class _TooLong(Exception):
    """A value is longer than `LONGEST_LINE`."""


class _Text:
    """JSON text that is read as far as its next value needs."""

    def __init__(self, file: BufferedReader) -> None:
        self._file, self._decode = file, codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._place, self._ended = "", 0, False
        self._json = json.JSONDecoder()

    def mark(self) -> str:
        """The next character that is not blank, taken; empty at the end."""
        found = self.peek()
        self._place += len(found)
        return found

    def peek(self) -> str:
        """The same, left there."""
        while True:
            rest = self._text[self._place : self._place + _BLOCK].lstrip(" \t\r\n")
            if rest:
                self._place = self._text.index(rest[0], self._place)
                return rest[0]
            self._place = len(self._text)
            if not self._more(_BLOCK):
                return ""

    def value(self) -> Any:
        """The next value.

        Raises:
            ValueError: it is no JSON.
            _TooLong: it is longer than a row may be.
        """
        self.peek()
        size = _BLOCK
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                begun = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _LONGEST_MARK
                if begun and len(self._text) - self._place > LONGEST_LINE:
                    raise _TooLong from None
                size *= 2
                if not begun or not self._more(size):
                    raise ValueError(error.msg) from None
            else:
                self._place = end
                return value

    def _more(self, size: int) -> bool:
        """Whether there was more to read."""
        block = self._file.read(size)
        self._text = self._text[self._place :] + self._decode(block, final=not block)
        self._place = 0
        return bool(block)


def read_csv(path: Path, columns: Collection[str] = ()) -> Rows:
    """Every row that has a cell which is not empty. The header's names are taken without blanks around them.

    Cells are separated by what separates the wanted columns in the header: a comma, a semicolon, a tab or `|`.

    Raises:
        ConfigError: it is no CSV, not UTF-8, a quote is never closed, a column stands twice, or a row has more or fewer
            cells than the header.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    with opened(path) as file:
        text = TextIOWrapper(file, encoding="utf-8-sig", newline="", errors="surrogateescape")
        lines = _CsvLines(path, text)
        first = next(lines, "")
        told = _SEPARATOR.fullmatch(first)
        start = "" if told else first
        delimiter = told[1] if told else _delimiter(first, columns)
        spaced = {name[:1] for name in _cells(first, delimiter)[1:]} == {" "}
        reader = csv.reader(
            chain([start] if start else [], lines), delimiter=delimiter, skipinitialspace=spaced, strict=True
        )
        begins = 1
        try:
            header = _header(next(reader, []), columns)
            begins = lines.number + 1
            for cells in reader:
                if any(cells):
                    if len(cells) != len(header):
                        raise csv.Error(f"{len(cells)} cells, and the header has {len(header)}")
                    yield lines.number, dict(zip(header, cells, strict=True))
                begins = lines.number + 1
        except csv.Error as error:
            line, what = lines.number, str(error)
            remedy = "quote a cell that holds a comma, a quote or a line end"
            if "unexpected end" in what or "expected after" in what:
                # The row's first line: where the quote is that reading stumbled over only later.
                line, remedy = begins, "close the quote; one within a quoted cell is written twice"
                what = f"a quote is not closed where its cell ends ({what})"
            raise ConfigError(f"prompts: {path}:{line}: malformed CSV: {what}", remedy) from None


class _CsvLines:
    """The lines of a text, counted.

    Raises:
        ConfigError: while it is iterated, where one is not UTF-8 or too long.
    """

    def __init__(self, path: Path, text: TextIOWrapper) -> None:
        self._path, self._text, self.number = path, text, 0

    def __iter__(self) -> "_CsvLines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > LONGEST_LINE:
            raise _too_long(self._path, self.number)
        if not line.isascii() and _NOT_UTF8.search(line):
            raise ConfigError(
                f"prompts: {self._path}:{self.number}: malformed CSV: not UTF-8", "save it as UTF-8"
            )
        return line


def _delimiter(header: str, columns: Collection[str]) -> str:
    """The first of `_DELIMITERS` that makes a wanted column of the header; a comma where none does."""
    for delimiter in _DELIMITERS:
        if any(name.strip() in columns for name in _cells(header, delimiter)):
            return delimiter
    return ","


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _header(names: Sequence[str], columns: Collection[str]) -> list[str]:
    found = [name if name in columns else name.strip() for name in names]
    if twice := [name for name in columns if found.count(name) > 1]:
        raise csv.Error(f"the column `{twice[0]}` stands twice in the header")
    return found


def count_csv(path: Path, columns: Collection[str] = ()) -> int | None:
    """How many rows there are; None where the file is too large to be read for that."""
    return None if text_bytes(path) > COUNTED_BYTES else sum(1 for _ in read_csv(path, columns))


def read_parquet(path: Path, columns: Collection[str] = ()) -> Rows:
    """Every row; of columns that are not wanted only the names, where some are.

    Raises:
        ConfigError: it is no Parquet file, or a value has no form in Python.
    """
    index = 0
    with _parquet(path) as file:
        names = file.schema_arrow.names
        if twice := [name for name in columns if names.count(name) > 1]:
            raise ConfigError(f"prompts: {path}: the column `{twice[0]}` stands twice", "rename one of them")
        read = [name for name in names if name in columns] if columns else names
        for batch in file.iter_batches(batch_size=1000, columns=read):
            for row in batch.to_pylist():
                index += 1
                yield index, dict.fromkeys(names) | row


def count_parquet(path: Path, columns: Collection[str] = ()) -> int:
    """How many rows there are."""
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.lib
    import pyarrow.parquet

    with path.open("rb") as file:
        head = file.read(512)
    if not head.startswith(b"PAR1"):
        refuse_foreign(path, head)
    try:
        yield pyarrow.parquet.ParquetFile(path)
    except (pyarrow.lib.ArrowException, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ConfigError(
            f"prompts: {path}: not a readable Parquet file: {error}", "write it again"
        ) from None


JSONL = Format((".jsonl", ".ndjson"), read_jsonl, count_jsonl)
CSV = Format((".csv", ".tsv"), read_csv, count_csv)
PARQUET = Format((".parquet",), read_parquet, count_parquet)
ARRAY = Format((".json",), read_json, count_jsonl)
FORMS: Final[Mapping[str, Format]] = {"jsonl": JSONL, "csv": CSV, "parquet": PARQUET}
"""By the kind of source whose files have it."""
