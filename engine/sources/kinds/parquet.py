"""Prompts from a Parquet file."""

from engine.sources.rows import PARQUET
from engine.sources.tables import file_kind

KIND = file_kind(PARQUET)
