"""Prompts from a JSONL file: a JSON object a line."""

import json
from pathlib import Path

from engine.base.errors import ConfigError
from engine.sources.tables import COUNTED_BYTES, Rows, file_kind


def rows(path: Path) -> Rows:
    """Every row.

    Raises:
        ConfigError: a line is no JSON object.
    """
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw.decode("utf-8"))
            # Not UTF-8, not JSON, a number of 5,000 digits, too deep.
            except (ValueError, RecursionError) as error:
                raise ConfigError(
                    f"prompts: {path}:{line}: malformed JSONL: {error}",
                    "each line is one JSON object in UTF-8",
                ) from None
            if not isinstance(row, dict):
                raise ConfigError(
                    f"prompts: {path}:{line}: a JSON object is expected, not {type(row).__name__}",
                    'e.g. {"prompt": "…", "answer": "…"}',
                )
            yield line, row


def _count(path: Path) -> int | None:
    if path.stat().st_size > COUNTED_BYTES:
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


KIND = file_kind(rows, _count)
