"""Prompts from a JSONL file: a JSON object a line."""

from engine.sources.rows import count_jsonl
from engine.sources.rows import read_jsonl as rows
from engine.sources.tables import file_kind

KIND = file_kind(rows, count_jsonl)
