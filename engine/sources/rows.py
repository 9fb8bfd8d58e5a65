"""The rows of files: JSONL, CSV, Parquet, arrays of JSON; compressed too; each with its line.

They are streamed, but for an array of JSON. pyarrow is imported where it reads.
"""

import bz2
import csv
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any, cast

from engine.base import foreign_json
from engine.base.errors import ConfigError
from engine.base.foreign_json import WrongShape

COUNTED_BYTES = 2**30
"""Larger text files are not read for a count, about a second of reading, and larger arrays of JSON not at all."""
_TEXT_RATIO = 4
"""About so many times as large is text before it is compressed."""
_LONGEST_FIELD = 16 * 1024 * 1024

_OPENERS: Mapping[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

Rows = Iterator[tuple[int, Mapping[str, Any]]]
"""(line, row)."""


def plain(path: Path) -> Path:
    """`answers.jsonl` of `answers.jsonl.gz`."""
    return path.with_suffix("") if path.suffix in _OPENERS else path


def text_bytes(path: Path) -> int:
    """About how many bytes `opened` reads."""
    return path.stat().st_size * (_TEXT_RATIO if path.suffix in _OPENERS else 1)


def _plainly(path: Path) -> BufferedReader:
    return path.open("rb")


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The bytes of a file, decompressed where its name ends in .gz, .bz2 or .xz.

    Raises:
        ConfigError: within it, where the compressed bytes are damaged.
    """
    with _OPENERS.get(path.suffix, _plainly)(path) as file:
        try:
            yield cast(BufferedReader, file)
        except (OSError, zlib.error, lzma.LZMAError, EOFError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk: bz2 and gzip say what is wrong with their bytes without a number
            raise ConfigError(
                f"prompts: {path}: cannot be decompressed: {error}", "fetch or compress it again"
            ) from error


def read_jsonl(path: Path) -> Rows:
    """Every row.

    Raises:
        ConfigError: a line is no JSON object.
    """
    with opened(path) as file:
        for line, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                yield line, foreign_json.parse(raw).object()
            except WrongShape as problem:
                raise ConfigError(
                    f"prompts: {path}:{line}: malformed JSONL: {problem}",
                    'each line is one JSON object in UTF-8, e.g. {"prompt": "…", "answer": "…"}',
                ) from None


def count_jsonl(path: Path) -> int | None:
    """How many rows there are; None where the file is too large to be read for that."""
    if text_bytes(path) > COUNTED_BYTES:
        return None
    with opened(path) as file:
        return sum(1 for line in file if line.strip())


def read_json(path: Path) -> Rows:
    """Every row of an array of objects, numbered from 1.

    Raises:
        ConfigError: it is no array of objects, or larger than `COUNTED_BYTES`.
    """
    with opened(path) as file:
        content = file.read(COUNTED_BYTES + 1)
    if len(content) > COUNTED_BYTES:
        raise ConfigError(
            f"prompts: {path}: an array of more than {COUNTED_BYTES / 2**30:.0f} GiB would be read at once",
            "make it JSONL, which is streamed: jq -c '.[]' FILE.json > FILE.jsonl",
        )
    try:
        for number, row in enumerate(foreign_json.parse(content).list(), 1):
            yield number, row.object()
    except WrongShape as problem:
        raise ConfigError(
            f"prompts: {path}: malformed JSON: {problem}",
            'it is an array of objects, e.g. [{"prompt": "…", "response": "…"}]; a file of one object a line is .jsonl',
        ) from None


def read_csv(path: Path) -> Rows:
    """Every row.

    Raises:
        ConfigError: it is no CSV, not UTF-8, a quote is never closed, or a row has more or fewer cells than the header.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    with opened(path) as file:
        text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader, begins = csv.DictReader(text, strict=True), 1
        try:
            header = reader.fieldnames or ()
            begins = reader.line_num + 1
            for row in reader:
                if None in row or None in row.values():
                    count = sum(isinstance(cell, str) for cell in row.values()) + len(row.get(None, ()))
                    raise csv.Error(f"{count} cells, and the header has {len(header)}")
                yield reader.line_num, row
                begins = reader.line_num + 1
        except (csv.Error, UnicodeDecodeError) as error:
            line, what, remedy = reader.line_num, str(error), "save it as UTF-8 with a header line"
            if "unexpected end" in what or "expected after" in what:
                # The row's first line: where the quote is that reading stumbled over only later.
                line, remedy = begins, "close the quote; one within a quoted cell is written twice"
                what = f"a quote is not closed where its cell ends ({what})"
            raise ConfigError(f"prompts: {path}:{line}: malformed CSV: {what}", remedy) from None


def count_csv(path: Path) -> int | None:
    """The same of a CSV file."""
    if text_bytes(path) > COUNTED_BYTES:
        return None
    csv.field_size_limit(_LONGEST_FIELD)
    with opened(path) as file:
        text = TextIOWrapper(file, encoding="utf-8-sig", newline="", errors="replace")
        return max(0, sum(1 for row in csv.reader(text) if row) - 1)


def read_parquet(path: Path) -> Rows:
    """Every row.

    Raises:
        ConfigError: it is no Parquet file.
    """
    import pyarrow.lib
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        index = 0
        for batch in file.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                index += 1
                yield index, row
    except pyarrow.lib.ArrowException as error:
        raise ConfigError(
            f"prompts: {path}: not a readable Parquet file: {error}", "write it again"
        ) from None


def count_parquet(path: Path) -> int:
    """How many rows there are."""
    import pyarrow.parquet

    return int(pyarrow.parquet.ParquetFile(path).metadata.num_rows)
