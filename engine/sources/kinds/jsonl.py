"""Prompts from a JSONL file: a JSON object a line."""

from pathlib import Path

from engine.base import foreign_json
from engine.base.errors import ConfigError
from engine.base.foreign_json import WrongShape
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
                yield line, foreign_json.parse(raw).object()
            except WrongShape as problem:
                raise ConfigError(
                    f"prompts: {path}:{line}: malformed JSONL: {problem}",
                    'each line is one JSON object in UTF-8, e.g. {"prompt": "…", "answer": "…"}',
                ) from None


def _count(path: Path) -> int | None:
    if path.stat().st_size > COUNTED_BYTES:
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


KIND = file_kind(rows, _count)
