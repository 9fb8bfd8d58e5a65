"""Where prompts come from. `read` streams them one at a time, so a source of any size fits in memory.

Every prompt says where it stands (`file.jsonl:17`, `reasoning_gym:chain_sum`), so that a message about
it can be followed.
"""

import hashlib
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from engine.base.errors import ConfigError
from engine.config.sources import FileSource, HuggingFaceSource, ImportedSource, ReasoningGymSource, Source
from engine.sources import imported, procedural, tables
from engine.sources.question import core_question as core_question
from storage.hashing import sha
from storage.records import Prompt

CHECKED_S = 2.0


def read(source: Source) -> Iterator[tuple[str, Prompt]]:
    """Yields (where, prompt) in the source's own order.

    Raises:
        ConfigError: the file, folder or task is not there, or a row is malformed; names file and line.
    """
    if isinstance(source, ReasoningGymSource):
        return procedural.read(source.task, source.size, source.seed, source.options)
    if isinstance(source, FileSource):
        return tables.read_file(
            Path(source.path), source.source, source.fields.model_dump(), source.verifier, source.size
        )
    if isinstance(source, HuggingFaceSource):
        return tables.read_huggingface(
            source.path, source.name, source.subset, source.fields.model_dump(), source.verifier, source.size
        )
    if isinstance(source, ImportedSource):
        return imported.prompts(source)
    raise ConfigError(f"prompts: unknown source {source!r}")


def check(source: Source) -> None:
    """Raises ConfigError when the source cannot be opened or a row is bad.

    A file is read for two seconds at most, about 100,000 rows; of any other source the first 20 prompts are.
    """
    rows = read(source)
    if not isinstance(source, FileSource):
        rows = islice(rows, 20)
    end = time.monotonic() + CHECKED_S
    for _ in rows:
        if time.monotonic() > end:
            return


def fingerprint(source: Source) -> str:
    """A hash over everything that decides which prompts the source yields, file contents included."""
    described = source.model_dump(mode="json")
    if isinstance(source, FileSource):
        described.pop("path")  # the same prompts in another folder are the same prompts
        path = Path(source.path)
        if not path.is_file():
            raise ConfigError(f"prompts: {path}: no such file", "check `path` (relative to the run file)")
        with path.open("rb") as file:
            described["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if isinstance(source, ImportedSource):
        described.pop("path")
        described["files"] = imported.hashes(source.path)
    return sha(described)
