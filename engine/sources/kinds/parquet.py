"""Prompts from a Parquet file."""

from pathlib import Path

from engine.base.errors import ConfigError
from engine.sources.tables import Rows, file_kind

# pyarrow is imported where a file is read: listing kinds stays quick.


def rows(path: Path) -> Rows:
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


def _count(path: Path) -> int:
    import pyarrow.parquet

    return int(pyarrow.parquet.ParquetFile(path).metadata.num_rows)


KIND = file_kind(rows, _count)
