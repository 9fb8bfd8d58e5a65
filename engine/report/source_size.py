"""How many prompts a source has, without reading them as prompts and without a network."""

import csv
from pathlib import Path

from engine.base.errors import ConfigError
from engine.config.sources import FileSource, HuggingFaceSource, ImportedSource, Source
from engine.sources import imported

COUNTED_BYTES = 2**30
"""Larger text files are not read for a count; about a second of reading."""


def count(source: Source) -> tuple[int, bool]:
    """(number of prompts, whether it was counted rather than taken from the run file's `size`).

    Duplicates, which only the stage `prompts` finds, are included.

    Raises:
        ConfigError: the source is not here, or too large to count, and the run file does not give its `size`.
    """
    if isinstance(source, FileSource):
        rows = _file(Path(source.path), source.source)
    elif isinstance(source, ImportedSource):
        rows = _imported(source)
    elif isinstance(source, HuggingFaceSource):
        rows = _dataset(Path(source.path), source.subset)
    else:
        return source.size, True
    if rows is None:
        if source.size is None:
            gone = not isinstance(source, HuggingFaceSource) and not Path(source.path).exists()
            raise ConfigError(
                f"prompts: {source.path}: {'no such file' if gone else 'cannot be counted here'}, so the dry run does "
                "not know how many prompts it has",
                "set `size` of this source (at most so many prompts are read), or put the data where `path` says",
            )
        return source.size, False
    return (rows if source.size is None else min(rows, source.size)), True


def _file(path: Path, kind: str) -> int | None:
    if not path.is_file():
        return None
    if kind == "parquet":
        import pyarrow.parquet

        return int(pyarrow.parquet.ParquetFile(path).metadata.num_rows)
    if path.stat().st_size > COUNTED_BYTES:
        return None
    if kind == "jsonl":
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    csv.field_size_limit(16 * 1024 * 1024)
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        return max(0, sum(1 for row in csv.reader(file) if row) - 1)


def _imported(source: ImportedSource) -> int | None:
    """Different prompts, which are fewer than rows: each of them is there once per model."""
    if not Path(source.path).exists():
        return None
    if sum(file.stat().st_size for file in imported.files(source.path)) > COUNTED_BYTES:
        return None
    return sum(1 for _ in imported.prompts(source))


def _dataset(folder: Path, subset: str) -> int | None:
    """Rows of a dataset folder written by `save_to_disk`; None for anything else, a hub id included."""
    if not folder.is_dir():
        return None
    inner = folder if (folder / "state.json").is_file() else folder / subset
    if not (inner / "state.json").is_file():
        return None
    import pyarrow

    rows = 0
    for part in sorted(inner.glob("*.arrow")):
        with pyarrow.memory_map(str(part)) as mapped:
            for batch in pyarrow.ipc.open_stream(mapped):
                rows += batch.num_rows
    return rows
