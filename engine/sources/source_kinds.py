"""Where prompts come from. `read` streams them one at a time, so a source of any size fits in memory.

A kind is the name of its file in `engine.sources.kinds`, or of an entry point `persyn.sources` of another package. Its
module declares `KIND`, an `engine.config.kinds.SourceKind`. Every prompt says where it stands (`file.jsonl:17`,
`reasoning_gym:chain_sum`), so that a message about it can be followed.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from engine.base.errors import ConfigError, PersynError
from engine.config.kinds import source_kind
from engine.config.sources import SourceConfig
from storage.hashing import sha
from storage.records import Prompt

CHECKED_S = 2.0


def read(source: SourceConfig) -> Iterator[tuple[str, Prompt]]:
    """Yields (where, prompt) in the source's own order.

    Raises:
        ConfigError: the file, folder or task is not there, or a row is malformed; names file and line.
    """
    return source_kind(source.source).prompts(source)


def check(source: SourceConfig) -> None:
    """Raises ConfigError when the source cannot be opened or a row is bad.

    It is read for two seconds at most, about 100,000 rows of a file; of some sources only the first prompts are.
    """
    end = time.monotonic() + CHECKED_S
    for _ in islice(read(source), source_kind(source.source).rows_checked):
        if time.monotonic() > end:
            return


def notes(source: SourceConfig) -> list[str]:
    """What a person should know of a source that can be read, a line each."""
    with suppress(PersynError, OSError):  # what `check` refuses
        return list(source_kind(source.source).notes(source))
    return []


def fingerprint(source: SourceConfig) -> str:
    """A hash over everything that decides which prompts the source yields, file contents included."""
    return sha(dict(source_kind(source.source).identity(source)))


def count(source: SourceConfig) -> tuple[int, bool]:
    """(number of prompts, whether it was counted rather than taken from the run file's `size`).

    Quick, and without a network. Duplicates, which only the stage `prompts` finds, are included.

    Raises:
        ConfigError: the source is not here, or too large to count, and the run file does not give its `size`.
    """
    found = source_kind(source.source).count(source)
    size: int | None = getattr(source, "size", None)
    if found is not None:
        return (found if size is None else min(found, size)), True
    if size is not None:
        return size, False
    path = getattr(source, "path", "")
    gone = Path(path).is_absolute() and not Path(path).exists()
    why = "no such file" if gone else "cannot be counted here"
    raise ConfigError(
        f"prompts: {path or source.source}: {why}, so the dry run does not know how many prompts it has",
        "set `size` of this source (at most so many prompts are read), or put the data where `path` says",
    )
