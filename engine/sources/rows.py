"""The rows of files: JSONL, CSV, Parquet; streamed, each with its line. pyarrow is imported where it reads."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.base import foreign_json
from engine.base.errors import ConfigError
from engine.base.foreign_json import WrongShape

COUNTED_BYTES = 2**30
"""Larger text files are not read for a count; about a second of reading."""
_LONGEST_FIELD = 16 * 1024 * 1024

Rows = Iterator[tuple[int, Mapping[str, Any]]]
"""(line, row)."""


def read_jsonl(path: Path) -> Rows:
    """Every row.

    Raises:
        ConfigError: a line is no JSON object.
    """
    with path.open("rb") as file:
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
    if path.stat().st_size > COUNTED_BYTES:
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def read_csv(path: Path) -> Rows:
    """Every row.

    Raises:
        ConfigError: it is no CSV, or not UTF-8.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigError(
                f"prompts: {path}:{reader.line_num}: malformed CSV: {error}",
                "save it as UTF-8 with a header line",
            ) from None


def count_csv(path: Path) -> int | None:
    """The same of a CSV file."""
    if path.stat().st_size > COUNTED_BYTES:
        return None
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        return max(0, sum(1 for row in csv.reader(file) if row) - 1)


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
