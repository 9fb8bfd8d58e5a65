"""Prompts from a Parquet file."""

from engine.sources.rows import count_parquet
from engine.sources.rows import read_parquet as rows
from engine.sources.tables import file_kind

KIND = file_kind(rows, count_parquet)
