"""Prompts from rows: what files and data sets have in common; streamed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from engine.base import foreign_json
from engine.base.errors import ConfigError
from engine.base.foreign_json import Value, WrongShape
from engine.config.kinds import SourceKind
from engine.config.paths import RunFolder
from engine.config.sources import RowsConfig
from engine.sources.rows import Rows
from engine.verifiers.verify import stored_with
from storage.records import Prompt

ROLES = ("system", "user", "assistant")


class FileSource(RowsConfig):
    """JSONL, CSV or Parquet: one prompt a row, as `messages` or as a `prompt` string."""

    path: str = Field(title="file")
    """A prompt a row."""


def file_kind(rows: Callable[[Path], Rows], count: Callable[[Path], int | None]) -> SourceKind:
    """The kind of source that reads its prompts from the rows of one file.

    Args:
        rows: all rows of a file; raises ConfigError for a malformed one, with its line.
        count: how many there are, quickly; None where that takes too long.
    """

    def prompts(source: FileSource) -> Iterator[tuple[str, Prompt]]:
        return prompts_of(rows(_existing(source)), source, ":", 'put one prompt a line, e.g. {"prompt": "…"}')

    def counted(source: FileSource) -> int | None:
        path = Path(source.path)
        return count(path) if path.is_file() else None

    return SourceKind(
        settings=FileSource,
        prompts=prompts,
        located=absolute,
        identity=_identity,
        count=counted,
        rows_checked=None,
    )


def absolute(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    """The setting `path` as an absolute one."""
    return {"path": folder.path(settings["path"])}


def _identity(source: FileSource) -> Mapping[str, Any]:
    # The same prompts in another folder are the same prompts.
    with _existing(source).open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return {**source.model_dump(mode="json", exclude={"path"}), "sha256": content}


def _existing(source: FileSource) -> Path:
    path = Path(source.path)
    if not path.is_file():
        raise ConfigError(f"prompts: {path}: no such file", "check `path` (relative to the run file)")
    return path


def prompts_of(rows: Rows, source: RowsConfig, mark: str, remedy: str) -> Iterator[tuple[str, Prompt]]:
    """Yields (`NAME:17`, prompt) of the rows, of as many as the source's `size` says; `mark` stands before the number.

    Raises:
        ConfigError: there is no row, against which `remedy` helps; or as `prompt_of`.
    """
    name, found = Path(source.path).name, False
    for number, row in islice(rows, source.size):
        found = True
        where = f"{name}{mark}{number}"
        yield where, prompt_of(row, source, where, f"{source.path}{mark}{number}")
    if not found:
        raise ConfigError(f"prompts: {source.path}: has no rows", remedy)


def prompt_of(row: Mapping[str, Any], source: RowsConfig, where: str, at: str) -> Prompt:
    """The prompt of a row, by the source's `fields` and `verifier`; `where` is kept with it, `at` is named in errors.

    Raises:
        ConfigError: the row has no prompt, or no answer where the verifier needs one.
    """
    fields, verifier = source.fields, source.verifier
    messages = row.get(fields.messages)
    if isinstance(messages, str):  # CSV holds a conversation as JSON text
        try:
            messages = foreign_json.parse(messages).raw
        except WrongShape as problem:
            raise ConfigError(
                f"prompts: {at}: `{fields.messages}` is {problem}", "write a list of messages"
            ) from None
    if messages is None:
        prompt = row.get(fields.prompt)
        if not isinstance(prompt, str) or not prompt.strip():
            have = ", ".join(map(str, row))
            raise ConfigError(
                f"prompts: {at}: no text in `{fields.prompt}` and no `{fields.messages}` (the row has: {have})",
                "name the columns with `fields: {prompt: …}`",
            )
        messages = [{"role": "user", "content": prompt}]
    answer = row.get(fields.answer)
    if answer is not None and not isinstance(answer, str):
        answer = json.dumps(answer, ensure_ascii=False)
    if verifier is not None and answer is None:
        raise ConfigError(
            f"prompts: {at}: `verifier: {verifier}` needs an answer and the row has no `{fields.answer}`",
            "name the column with `fields: {answer: …}`, or leave `verifier` out",
        )
    return Prompt(
        messages=_checked(messages, at),
        answer=answer,
        verifier=None
        if verifier is None or answer is None
        else stored_with(verifier, answer, row.get(fields.choices), at),
        source=where,
    )


def _checked(messages: Any, at: str) -> tuple[dict[str, str], ...]:
    remedy = (
        'messages are a list of {"role": system|user|assistant, "content": text}, the last one from the user'
    )
    try:
        turns = Value(messages, "messages").list()
        checked = [{"role": turn["role"].text(), "content": turn["content"].text()} for turn in turns]
    except WrongShape as problem:
        raise ConfigError(f"prompts: {at}: not a message: {problem}", remedy) from None
    if unknown := {turn["role"] for turn in checked} - set(ROLES):
        raise ConfigError(f"prompts: {at}: not a message: there is no role `{min(unknown)}`", remedy)
    if (last := checked[-1]["role"] if checked else "nobody") != "user":
        raise ConfigError(f"prompts: {at}: the last message is from `{last}`", remedy)
    return tuple(checked)
