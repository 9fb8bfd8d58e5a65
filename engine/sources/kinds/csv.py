"""Prompts from a CSV file with a header line."""

from engine.sources.rows import CSV
from engine.sources.tables import file_kind

KIND = file_kind(CSV)
