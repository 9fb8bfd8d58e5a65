"""Prompts from rows: what files and data sets have in common; streamed."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from engine.base.errors import ConfigError
from engine.base.foreign_json import WrongShape
from engine.config.kinds import SourceKind
from engine.config.paths import RunFolder
from engine.config.sources import FieldsConfig, RowsConfig
from engine.sources import files
from engine.sources.cells import cell, choices_of, has
from engine.sources.conversations import Conversation, conversation
from engine.sources.hints import COMPANIONS, fields_remedy, have, unread
from engine.sources.references import reference, unverified
from engine.sources.rows import Format
from engine.verifiers.choices import listed
from storage.records import Prompt

LONGEST_TEXT: Final = 16 * 2**20
"""Characters of a prompt or a response; no model reads so many."""
PlacedRow = tuple[str, str, Mapping[str, Any]]
"""(its place by the file's name, the same by its path, row)."""
_MESSAGES = (
    'messages are a list of {"role": system|user|assistant, "content": text}, the last one from the user or, as an '
    "answer, from the assistant"
)


class FileSource(RowsConfig):
    """JSONL, CSV or Parquet: one prompt a row, as `messages` or as a `prompt` string."""

    path: str = Field(title="file")
    """A prompt a row; a folder or a pattern (`data/*.jsonl`) names several files."""


def file_kind(form: Format) -> SourceKind:
    """The kind of source that reads its prompts from the rows of files of one form: one, or those of a folder or
    pattern."""

    def found(source: FileSource) -> list[Path]:
        return files.named(source.path, (), form.endings)

    def rows(source: FileSource, also: Collection[str] = ()) -> Iterator[PlacedRow]:
        for file in found(source):
            name = file.relative_to(source.path).as_posix() if Path(source.path).is_dir() else file.name
            for line, row in form.rows(file, columns(source.fields) | set(also)):
                yield f"{name}:{line}", f"{file}:{line}", row

    def counted(source: FileSource) -> int | None:
        if files.is_missing(source.path):
            return None  # the run file's `size` says
        counts = [form.count(file, columns(source.fields)) for file in found(source)]
        return None if None in counts else sum(count or 0 for count in counts)

    def identity(source: FileSource) -> Mapping[str, Any]:
        # The same prompts in another folder are the same prompts.
        hashes = files.hashes(found(source), source.path)
        content = {"sha256": next(iter(hashes.values()))} if len(hashes) == 1 else {"files": hashes}
        return {**source.model_dump(mode="json", exclude={"path"}), **content}

    return SourceKind(
        settings=FileSource,
        prompts=lambda source: prompts_of(
            rows(source), source, 'put one prompt a line, e.g. {"prompt": "…"}'
        ),
        located=absolute,
        identity=identity,
        count=counted,
        notes=lambda source: notes_of(rows(source, COMPANIONS), source),
        rows_checked=None,
    )


def absolute(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    """The setting `path` as an absolute one."""
    return {"path": folder.path(settings["path"])}


def columns(fields: FieldsConfig) -> frozenset[str]:
    """The columns of a table that may be read."""
    named = {value for value in dict(fields).values() if isinstance(value, str)}
    named |= {"input", "system", "history", *(fields.choice_columns or ())}
    return frozenset(named | {name.partition(".")[0] for name in named})


def prompts_of(rows: Iterable[PlacedRow], source: RowsConfig, remedy: str) -> Iterator[tuple[str, Prompt]]:
    """Yields (where, prompt) of the rows, of as many as the source's `size` says.

    Raises:
        ConfigError: there is no row, against which `remedy` helps; or as `prompt_of`.
    """
    found = False
    for where, at, row in islice(rows, source.size):
        found = True
        yield where, prompt_of(row, source, where, at)
    if not found:
        raise ConfigError(f"prompts: {source.path}: has no rows", remedy)


def notes_of(rows: Iterator[PlacedRow], source: RowsConfig) -> list[str]:
    """What a person should know of the columns that are not read, by the first row; a line each."""
    first = next(rows, None)
    if first is None:
        return []
    where, at, row = first
    prompt = prompt_of(row, source, where, at, ends_with_reference=False)
    text = "\n".join(turn["content"] for turn in prompt.messages)
    return [f"prompts: {at}: {line}" for line in unread(row, source, text)]


def prompt_of(
    row: Mapping[str, Any], source: RowsConfig, where: str, at: str, *, ends_with_reference: bool = True
) -> Prompt:
    """The prompt of a row, by the source's `fields` and `verifier`.

    Args:
        where: its place, which is kept with it.
        at: the same for errors.
        ends_with_reference: an assistant's turn at the end is the reference of a row without a column for the answer.

    Raises:
        ConfigError: the row has no prompt, no answer where the verifier needs one, or one that nothing can match.
    """
    fields, verifier = source.fields, source.verifier
    found = _conversation(row, fields, at)
    try:
        given = cell(row, fields.answer)
        choices = choices_of(row, fields) if verifier is not None or source.show_choices else None
    except WrongShape as problem:
        raise ConfigError(f"prompts: {at}: {problem}", "mend the row") from None
    messages = found.messages
    if source.show_choices:
        if not (shown := listed(choices, at)):
            raise ConfigError(
                f"prompts: {at}: there are no choices to show", fields_remedy(row, fields, "choices")
            )
        messages = (*messages[:-1], {"role": "user", "content": f"{messages[-1]['content']}\n{shown}"})
    if verifier is None:
        answer, stored = unverified(given)
        return Prompt(messages=messages, answer=answer, verifier=stored, source=where)
    if given is None and not has(row, fields.answer):
        given = found.answer if ends_with_reference else None
        if given is None:
            raise ConfigError(
                f"prompts: {at}: `verifier: {verifier}` needs an answer and the row has no `{fields.answer}` "
                f"({have(row)})",
                fields_remedy(row, fields, "answer"),
            )
    answer, stored = reference(given, choices, verifier, at)
    return Prompt(messages=messages, answer=answer, verifier=stored, source=where)


def _conversation(row: Mapping[str, Any], fields: FieldsConfig, at: str) -> Conversation:
    try:
        found = conversation(row, fields)
    except WrongShape as problem:
        raise ConfigError(f"prompts: {at}: not a message: {problem}", _MESSAGES) from None
    if found is None:
        raise ConfigError(
            f"prompts: {at}: no text in `{fields.prompt}` and no `{fields.messages}` ({have(row)})",
            fields_remedy(row, fields, "messages"),
        )
    if sum(len(turn["content"]) for turn in found.messages) > LONGEST_TEXT:
        raise ConfigError(
            f"prompts: {at}: a prompt of more than {LONGEST_TEXT // 2**20} million characters",
            "take the row out",
        )
    return found
