"""Parallel responses made elsewhere: prompts, answers and rewards out of the same files, streamed.

A row is one model's answer to one prompt, as in Magpie-Zoo-like sets. Prompts are told apart by their core
question, as everywhere. Of several answers of one model to one prompt the first counts.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.base.errors import ConfigError
from engine.base.foreign_json import Value, WrongShape
from engine.config.sources import ImportedFields, ImportedSource
from engine.models.reasoning import split_reasoning
from engine.sources import rows, tables
from engine.sources.question import core_question
from storage.records import Prompt
from storage.text import clean

_ROWS = {
    ".jsonl": rows.read_jsonl,
    ".parquet": rows.read_parquet,
    ".json": rows.read_json,
    ".csv": rows.read_csv,
}
_FOUND = (".jsonl", ".parquet")
"""What is read of a folder, where other files may lie beside."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One row."""

    where: str
    """File and line."""
    prompt: Prompt
    model: str
    text: str
    """Without its reasoning."""
    reasoning: str
    reward: float | None
    finish_reason: str
    """`length` or `stop`."""
    completion_tokens: int
    """0 when the file does not say."""


def named(settings: Mapping[str, Any], who: str) -> list[ImportedSource]:
    """The sources under `responses` in the settings of a teacher or a scorer.

    Raises:
        ConfigError: there are none.
    """
    found = [ImportedSource.model_validate(source) for source in settings.get("responses", ())]
    if not found:
        raise ConfigError(
            f"{who}: no imported responses are named", "add `{source: imported, path: …}` to `prompts`"
        )
    return found


def prompts(source: ImportedSource) -> Iterator[tuple[str, Prompt]]:
    """Yields (where, prompt) of each prompt once, in the files' order."""
    seen = set[bytes]()
    for answer in answers(source):
        key = prompt_key(answer.prompt)
        if key in seen:
            continue
        if source.size is not None and len(seen) >= source.size:
            return
        seen.add(key)
        yield answer.where, answer.prompt


def answers(source: ImportedSource) -> Iterator[Answer]:
    """Every answer; a row whose response is null is none.

    Raises:
        ConfigError: no such file, no rows, or a malformed row, with its place.
    """
    found = False
    for path in files(source.path):
        for line, row in _ROWS[rows.plain(path).suffix](path):
            found = True
            if (answer := _answer(source, path, line, row)) is not None:
                yield answer
    if not found:
        raise ConfigError(f"prompts: {source.path}: has no rows", "give one answer a row")


@dataclass(frozen=True, slots=True)
class Share:
    """What one file has of one model."""

    file: str
    responses: int
    textless: int
    """Rows of it whose response is missing or empty."""
    first: int
    """The line of the first of those; 0 without any."""


def shares(source: ImportedSource, model: str) -> list[Share] | None:
    """What each file has of a model, without those that have no row of it; None where they are too large to count.

    Raises:
        ConfigError: there is no such file, or it is damaged.
    """
    found = files(source.path)
    if sum(map(rows.text_bytes, found)) > rows.COUNTED_BYTES:
        return None
    counted = []
    for file in found:
        state = file.stat()
        by_model = _counted(file, state.st_size, state.st_mtime_ns, source.fields)
        counted += [by_model[model]] if model in by_model else []
    return counted


def files(path: str) -> list[Path]:
    """The file itself, or all JSONL and Parquet files below a folder, sorted; compressed ones too.

    Raises:
        ConfigError: there are none.
    """
    place = Path(path)
    found, suffixes = ([place], tuple(_ROWS)) if place.is_file() else (sorted(place.rglob("*")), _FOUND)
    found = [file for file in found if _format(file) in suffixes and file.is_file()]
    if not found:
        raise ConfigError(
            f"prompts: {path}: no {' or '.join(suffixes)} file is there, nor one of text as .gz, .bz2 or .xz",
            "check `path` (relative to the run file)",
        )
    return found


def _format(file: Path) -> str:
    """`.jsonl` of `a.jsonl.gz`; a Parquet file is compressed within, so `a.parquet.gz` is none."""
    return file.suffix if rows.plain(file).suffix == ".parquet" else rows.plain(file).suffix


def hashes(path: str) -> dict[str, str]:
    """SHA-256 of what each file holds, by its name, which in a folder can be its model's.

    Compression is not part of it, nor the folder that a file is in, unless another one has a file of the same name.
    """
    found, by_name = files(path), dict[str, str]()
    names = Counter(rows.plain(file).name for file in found)
    for file in found:
        name, state = rows.plain(file).name, file.stat()
        name = name if names[name] == 1 else file.relative_to(path).as_posix()
        by_name[name] = _sha256(file, state.st_size, state.st_mtime_ns)
    return by_name


def prompt_key(prompt: Prompt) -> bytes:
    """16 bytes that stand for a prompt's core question."""
    return hashlib.blake2b(core_question(prompt).encode("utf-8", "replace"), digest_size=16).digest()


def answer_key(prompt: Prompt, text: str) -> bytes:
    """16 bytes that stand for an answer to a prompt, as the store keeps both."""
    return hashlib.blake2b(prompt_key(prompt) + clean(text).encode(), digest_size=16).digest()


def _answer(source: ImportedSource, path: Path, line: int, row: Mapping[str, Any]) -> Answer | None:
    where, at = f"{path.name}:{line}", f"{path}:{line}"
    fields = source.fields
    if fields.response not in row:
        raise ConfigError(
            f"prompts: {at}: no `{fields.response}` (the row has: {', '.join(map(str, row))})",
            "name the columns with `fields: {response: …, model: …, reward: …}`",
        )
    text = row[fields.response]
    if text is None:
        return None
    try:
        reasoning, answer = split_reasoning(Value(text, fields.response).text())
        model = Value(row.get(fields.model, rows.plain(path).stem), fields.model).text()
        reward, tokens = _number(row, fields.reward), _number(row, fields.completion_tokens)
    except WrongShape as problem:
        raise ConfigError(f"prompts: {at}: {problem}", "mend the row") from None
    return Answer(
        where=where,
        prompt=tables.prompt_of(row, source, where, at),
        model=model,
        text=answer,
        reasoning=reasoning,
        reward=reward,
        finish_reason="length" if row.get(fields.finish_reason) == "length" else "stop",
        completion_tokens=int(tokens or 0),
    )


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """The number in a column; None where it is missing, which tables write as NaN and CSV as an empty cell."""
    value = row.get(name)
    if isinstance(value, str):  # CSV knows no numbers
        with suppress(ValueError):
            value = float(value) if value.strip() else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return Value(value, name).number()


@lru_cache(maxsize=1024)
def _counted(file: Path, size: int, modified: int, fields: ImportedFields) -> Mapping[str, Share]:
    """By model; a row that is malformed otherwise is told where it is read."""
    found: dict[str, Share] = {}
    stem = rows.plain(file).stem
    for line, row in _ROWS[rows.plain(file).suffix](file):
        model, text = row.get(fields.model, stem), row.get(fields.response)
        if not isinstance(model, str):
            continue
        before = found.get(model, Share(file.name, 0, 0, 0))
        if text is None or (isinstance(text, str) and not text.strip()):
            found[model] = replace(before, textless=before.textless + 1, first=before.first or line)
        else:
            found[model] = replace(before, responses=before.responses + 1)
    return found


@lru_cache(maxsize=1024)
def _sha256(file: Path, size: int, modified: int) -> str:
    """Of the file's content; size and time of change are there to notice another content."""
    with rows.opened(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
