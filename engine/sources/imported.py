"""Parallel responses made elsewhere: prompts, answers and rewards out of the same files, streamed.

A row is one model's answer to one prompt, as in Magpie-Zoo-like sets. Prompts are told apart by their core
question, as everywhere. Of several answers of one model to one prompt the first counts.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.base.errors import ConfigError
from engine.base.foreign_json import Value, WrongShape
from engine.config.sources import ImportedFields, ImportedSource
from engine.models import endings
from engine.models.reasoning import said
from engine.sources.cells import cell, has
from engine.sources.conversations import conversation, response_text
from engine.sources.files import COUNTED_BYTES, ending, plain, text_bytes
from engine.sources.files import hashes as content_hashes
from engine.sources.files import named as named_files
from engine.sources.hints import COMPANIONS, fields_remedy, have
from engine.sources.question import core_question
from engine.sources.rows import ARRAY, CSV, JSONL, PARQUET, Rows
from engine.sources.tables import columns, notes_of, prompt_of
from storage.records import Prompt
from storage.text import clean

_FORMS = {ending: form for form in (JSONL, PARQUET, ARRAY, CSV) for ending in form.endings}
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
    mark: str
    """What set its reasoning apart; empty where nothing did."""
    reward: float | None
    finish_reason: str
    """See `engine.models.endings.ending`."""
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
        for line, row in _rows(path, source.fields):
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
    unknown_ends: Counter[str] = field(default_factory=Counter)
    """Words for how a response ended that nobody knows → rows of it that end so, which count as cut off."""


def shares(source: ImportedSource, model: str) -> list[Share] | None:
    """What each file has of a model, without those that have no row of it; None where they are too large to count.

    Raises:
        ConfigError: there is no such file, or it is damaged.
    """
    found = files(source.path)
    if sum(map(text_bytes, found)) > COUNTED_BYTES:
        return None
    counted = []
    for file in found:
        state = file.stat()
        own = tuple(source.finish_reasons.items())
        by_model = _counted(file, state.st_size, state.st_mtime_ns, source.fields, own)
        counted += [by_model[model]] if model in by_model else []
    return counted


def files(path: str) -> list[Path]:
    """The file itself, or those of a pattern, or all JSONL and Parquet files below a folder; compressed ones too.

    Raises:
        ConfigError: there are none.
    """
    return named_files(path, tuple(_FORMS), _FOUND)


def _rows(path: Path, fields: ImportedFields, also: Collection[str] = ()) -> Rows:
    return _FORMS[ending(path)].rows(path, columns(fields) | set(also))


def notes(source: ImportedSource) -> list[str]:
    """What a person should know of the columns that are not read, by the first row; a line each."""
    path = files(source.path)[0]
    rows = ((path.name, f"{path}:{line}", row) for line, row in _rows(path, source.fields, COMPANIONS))
    return notes_of(rows, source)


def hashes(path: str) -> dict[str, str]:
    """SHA-256 of what each file holds, by its name, which in a folder can be its model's.

    Compression is not part of it, nor the folder that a file is in, unless another one has a file of the same name.
    """
    return content_hashes(files(path), path)


def prompt_key(prompt: Prompt) -> bytes:
    """16 bytes that stand for a prompt's core question."""
    return hashlib.blake2b(core_question(prompt).encode("utf-8", "replace"), digest_size=16).digest()


def answer_key(prompt: Prompt, text: str) -> bytes:
    """16 bytes that stand for an answer to a prompt, as the store keeps both."""
    return hashlib.blake2b(prompt_key(prompt) + clean(text).encode(), digest_size=16).digest()


def _answer(source: ImportedSource, path: Path, line: int, row: Mapping[str, Any]) -> Answer | None:
    where, at, fields = f"{path.name}:{line}", f"{path}:{line}", source.fields
    try:
        if has(row, fields.response):
            given = cell(row, fields.response)
            text = None if given is None else response_text(given, fields.response)
        elif (talk := conversation(row, fields)) is not None and talk.answer is not None:
            text = talk.answer
        else:
            raise ConfigError(
                f"prompts: {at}: no `{fields.response}` ({have(row)})", fields_remedy(row, fields, "response")
            )
        if text is None:
            return None
        found = said(text, source.reasoning_marks)
        model = Value(row.get(fields.model, plain(path).stem), fields.model).text()
        reward, tokens = _number(row, fields.reward), _number(row, fields.completion_tokens)
        if tokens is not None and not 0 <= tokens < 2**31:
            raise WrongShape(f"{fields.completion_tokens}: expected a number of tokens, found {tokens:g}")
    except WrongShape as problem:
        raise ConfigError(f"prompts: {at}: {problem}", "mend the row") from None
    return Answer(
        where=where,
        prompt=prompt_of(row, source, where, at, ends_with_reference=False),
        model=model,
        text=found.answer,
        reasoning=found.reasoning,
        mark=found.mark,
        reward=reward,
        finish_reason=endings.ending(row.get(fields.finish_reason), source.finish_reasons),
        completion_tokens=int(tokens or 0),
    )


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """The number in a column, 1 for true; None where it is missing: NaN in tables, an empty cell in CSV."""
    value = cell(row, name)
    if isinstance(value, str):  # CSV knows no numbers
        with suppress(ValueError):
            value = cell({name: float(value) if value.strip() else None}, name)
    return None if value is None else Value(float(value) if isinstance(value, bool) else value, name).number()


@lru_cache(maxsize=1024)
def _counted(
    file: Path, size: int, modified: int, fields: ImportedFields, own: tuple[tuple[str, str], ...]
) -> Mapping[str, Share]:
    """By model; a row that is malformed otherwise is told where it is read."""
    found: dict[str, Share] = {}
    stem = plain(file).stem
    for line, row in _rows(file, fields):
        model, text = row.get(fields.model, stem), row.get(fields.response)
        if not isinstance(model, str):
            continue
        before = found.get(model, Share(file.name, 0, 0, 0))
        if text is None or (isinstance(text, str) and not text.strip()):
            found[model] = replace(before, textless=before.textless + 1, first=before.first or line)
        else:
            found[model] = replace(before, responses=before.responses + 1)
            if (word := endings.ending(row.get(fields.finish_reason), dict(own))) not in endings.ENDINGS:
                found[model].unknown_ends[word] += 1
    return found
