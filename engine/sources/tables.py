"""Prompts from files with rows: JSONL, CSV, Parquet, and Hugging Face datasets; streamed."""

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from engine.base.errors import ConfigError
from engine.sources.verifiers import verifier_of
from storage.records import Prompt

ROLES = ("system", "user", "assistant")


def read_file(
    path: Path, kind: str, fields: Mapping[str, str], verifier: str | None, size: int | None
) -> Iterator[tuple[str, Prompt]]:
    """Yields (`file:line`, prompt) for each row.

    Raises:
        ConfigError: no such file, an empty one, or a malformed row (with its line).
    """
    if not path.is_file():
        raise ConfigError(f"prompts: {path}: no such file", "check `path` (relative to the run file)")
    found = False
    for line, row in islice(rows(path, kind), size):
        found = True
        where = f"{path.name}:{line}"
        yield where, prompt_of(row, fields, verifier, where, f"{path}:{line}")
    if not found:
        raise ConfigError(f"prompts: {path}: has no rows", 'put one prompt a line, e.g. {"prompt": "…"}')


def read_huggingface(
    path: str,
    name: str | None,
    subset: str,
    fields: Mapping[str, str],
    verifier: str | None,
    size: int | None,
) -> Iterator[tuple[str, Prompt]]:
    """Yields (`dataset#row`, prompt) of a dataset folder or hub id.

    Raises:
        ConfigError: the dataset or its split cannot be loaded.
    """
    import datasets

    try:
        if Path(path).is_dir() and (Path(path) / "state.json").is_file():
            rows: Any = datasets.load_from_disk(path)
        elif Path(path).is_dir() and (Path(path) / "dataset_dict.json").is_file():
            rows = datasets.load_from_disk(path)[subset]
        else:
            rows = datasets.load_dataset(path, name, split=subset, streaming=True)
    except KeyError:
        raise ConfigError(f"prompts: {path}: has no split `{subset}`", "set `subset` to one it has") from None
    except Exception as error:  # datasets raises many kinds; each one means that it cannot be used
        raise ConfigError(
            f"prompts: {path}: cannot be loaded: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "check the id or folder; without a network use a folder saved with save_to_disk",
        ) from None
    label = Path(path).name
    found = False
    for index, row in enumerate(islice(iter(rows), size)):
        found = True
        yield f"{label}#{index}", prompt_of(row, fields, verifier, f"{label}#{index}", f"{path}#{index}")
    if not found:
        raise ConfigError(f"prompts: {path}: has no rows", "choose another `subset`")


def rows(path: Path, kind: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields (line, row) of a `jsonl`, `csv` or `parquet` file.

    Raises:
        ConfigError: a malformed row, with its line.
    """
    return {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}[kind](path)


def _jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw.decode("utf-8"))
            except (
                ValueError,
                RecursionError,
            ) as error:  # not UTF-8, not JSON, a number of 5,000 digits, too deep
                raise ConfigError(
                    f"prompts: {path}:{line}: malformed JSONL: {error}",
                    "each line is one JSON object in UTF-8",
                ) from None
            if not isinstance(row, dict):
                raise ConfigError(
                    f"prompts: {path}:{line}: a JSON object is expected, not {type(row).__name__}",
                    'e.g. {"prompt": "…", "answer": "…"}',
                )
            yield line, row


def _csv(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(16 * 1024 * 1024)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigError(
                f"prompts: {path}:{reader.line_num}: malformed CSV: {error}",
                "save it as UTF-8 with a header line",
            ) from None


def _parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow.lib
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        index = 0
        for batch in file.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                index += 1
                yield index, row
    except pyarrow.lib.ArrowException as error:
        raise ConfigError(
            f"prompts: {path}: not a readable Parquet file: {error}", "write it again"
        ) from None


def prompt_of(
    row: Mapping[str, Any], fields: Mapping[str, str], verifier: str | None, where: str, at: str
) -> Prompt:
    """The prompt of a row; `where` is kept with it, `at` is named in errors.

    Raises:
        ConfigError: the row has no prompt, or no answer where the verifier needs one.
    """
    messages = row.get(fields["messages"])
    if isinstance(messages, str):  # CSV holds a conversation as JSON text
        try:
            messages = json.loads(messages)
        except json.JSONDecodeError:
            raise ConfigError(
                f"prompts: {at}: `{fields['messages']}` is not JSON", "write a list of messages"
            ) from None
    if messages is None:
        prompt = row.get(fields["prompt"])
        if not isinstance(prompt, str) or not prompt.strip():
            have = ", ".join(map(str, row))
            raise ConfigError(
                f"prompts: {at}: no text in `{fields['prompt']}` and no `{fields['messages']}` (the row has: {have})",
                "name the columns with `fields: {prompt: …}`",
            )
        messages = [{"role": "user", "content": prompt}]
    answer = row.get(fields["answer"])
    if answer is not None and not isinstance(answer, str):
        answer = json.dumps(answer, ensure_ascii=False)
    if verifier is not None and answer is None:
        raise ConfigError(
            f"prompts: {at}: `verifier: {verifier}` needs an answer and the row has no `{fields['answer']}`",
            "name the column with `fields: {answer: …}`, or leave `verifier` out",
        )
    return Prompt(
        messages=_checked(messages, at),
        answer=answer,
        verifier=None
        if verifier is None or answer is None
        else verifier_of(verifier, answer, row.get(fields["choices"]), at),
        source=where,
    )


def _checked(messages: Any, at: str) -> tuple[dict[str, str], ...]:
    remedy = (
        'messages are a list of {"role": system|user|assistant, "content": text}, the last one from the user'
    )
    if not isinstance(messages, list) or not messages:
        raise ConfigError(f"prompts: {at}: messages are not a list", remedy)
    checked = []
    for message in messages:
        if (
            not isinstance(message, dict)
            or message.get("role") not in ROLES
            or not isinstance(message.get("content"), str)
        ):
            raise ConfigError(f"prompts: {at}: not a message: {str(message)[:80]}", remedy)
        checked.append({"role": message["role"], "content": message["content"]})
    if checked[-1]["role"] != "user":
        raise ConfigError(f"prompts: {at}: the last message is from `{checked[-1]['role']}`", remedy)
    return tuple(checked)
