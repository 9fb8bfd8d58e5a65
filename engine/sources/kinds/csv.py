"""Prompts from a CSV file with a header line."""

import csv
from pathlib import Path

from engine.base.errors import ConfigError
from engine.sources.tables import COUNTED_BYTES, Rows, file_kind

_LONGEST_FIELD = 16 * 1024 * 1024


def rows(path: Path) -> Rows:
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


def _count(path: Path) -> int | None:
    if path.stat().st_size > COUNTED_BYTES:
        return None
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        return max(0, sum(1 for row in csv.reader(file) if row) - 1)


KIND = file_kind(rows, _count)
