"""Prompts out of a file's content, read by the code of a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.base.errors import ConfigError
from engine.config import kinds
from engine.config.sources import SourceConfig
from engine.sources import source_kinds
from storage.records import Prompt


def source(path: Path, kind: str, **settings: Any) -> SourceConfig:
    """A source of the kind, as a run file gives it."""
    given = {"source": kind, "path": str(path), **settings}
    return kinds.source_kind(kind).settings.model_validate(given)  # type: ignore[return-value]


def prompts(found: SourceConfig) -> list[Prompt]:
    """All of it, and as many as a dry run counts."""
    read = [prompt for _, prompt in source_kinds.read(found)]
    assert source_kinds.count(found) == (len(read), True)
    return read


def refusal(found: SourceConfig) -> str:
    """What is said of a source that is refused, with its remedy."""
    with pytest.raises(ConfigError) as caught:
        list(source_kinds.read(found))
    assert caught.value.remedy
    return f"{caught.value.message}\n→ {caught.value.remedy}"


def jsonl(*rows: Any) -> bytes:
    """The rows as lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
