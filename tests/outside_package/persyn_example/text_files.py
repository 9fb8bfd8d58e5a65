"""Prompts from a folder: the text of each `NAME.txt`, with the reference answer in `NAME.answer` where there is one.

prompts:
  - {source: text_files, folder: questions, verifier: approximate}
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.base.errors import ConfigError
from engine.config.kinds import SourceKind
from engine.config.paths import RunFolder
from engine.config.sources import SourceConfig, Verifier
from engine.verifiers.verify import stored_with
from storage.records import Prompt


class TextFiles(SourceConfig):
    """The texts of a folder."""

    folder: str
    """Where the files are."""
    verifier: Verifier | None = None
    """How `exact_answer` compares with the reference answers; None: responses cannot be verified."""


def _files(source: TextFiles) -> list[Path]:
    found = sorted(Path(source.folder).glob("*.txt"))
    if not found:
        raise ConfigError(f"prompts: {source.folder}: no .txt file is there", "check `folder`")
    return found


def _prompts(source: TextFiles) -> Iterator[tuple[str, Prompt]]:
    for file in _files(source):
        reference = file.with_suffix(".answer")
        answer = reference.read_text(encoding="utf-8").strip() if reference.is_file() else None
        verifier = None
        if source.verifier is not None and answer is not None:
            verifier = stored_with(source.verifier, answer, None, str(reference))
        asked = ({"role": "user", "content": file.read_text(encoding="utf-8").strip()},)
        yield file.name, Prompt(messages=asked, answer=answer, verifier=verifier, source=file.name)


def _located(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    return {"folder": folder.path(settings["folder"])}


def _identity(source: TextFiles) -> Mapping[str, Any]:
    files = [
        file for path in _files(source) for file in (path, path.with_suffix(".answer")) if file.is_file()
    ]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {**source.model_dump(mode="json", exclude={"folder"}), "files": hashes}


KIND = SourceKind(
    settings=TextFiles,
    prompts=_prompts,
    located=_located,
    identity=_identity,
    count=lambda source: len(_files(source)),
)
