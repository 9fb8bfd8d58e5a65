"""Prompts from a CSV file with a header line."""

from engine.sources.rows import count_csv
from engine.sources.rows import read_csv as rows
from engine.sources.tables import file_kind

KIND = file_kind(rows, count_csv)
