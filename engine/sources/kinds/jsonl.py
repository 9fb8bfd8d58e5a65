"""Prompts from a JSONL file: a JSON object a line."""

from engine.sources.rows import JSONL
from engine.sources.tables import file_kind

KIND = file_kind(JSONL)
