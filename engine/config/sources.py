"""The run file's section `prompts`: where prompts come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from engine.config.section import Section, Seed, known
from storage.records import Split

VERIFIERS = ("math", "choice", "regex", "json", "text")


def _known_verifier(value: str) -> str:
    return known("verifier", value, VERIFIERS)


Verifier = Annotated[str, AfterValidator(_known_verifier)]


class SourceConfig(Section):
    """What every prompt source has."""

    split: Split | None = None
    """Puts all of this source's prompts into one split; None shares them out by `split:`."""


class ReasoningGymSource(SourceConfig):
    """Procedural tasks with their own verifier."""

    source: Literal["reasoning_gym"]
    """reasoning_gym's own generators."""
    task: str
    """One of reasoning_gym's."""
    size: int = Field(ge=1, le=10**9)
    """Prompts of the task."""
    seed: Seed = 0
    """Of the task."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the task; they say how hard it is."""


class FieldsConfig(Section):
    """Which columns hold what."""

    prompt: str = "prompt"
    messages: str = "messages"
    answer: str = "answer"
    choices: str = "choices"
    """The texts of a multiple-choice prompt, for `verifier: choice`; may be missing."""


class FileSource(SourceConfig):
    """JSONL, CSV or Parquet: one prompt a row, as `messages` or as a `prompt` string."""

    source: Literal["jsonl", "csv", "parquet"]
    path: str = Field(title="file")
    """A prompt a row."""
    fields: FieldsConfig = FieldsConfig()
    verifier: Verifier | None = None
    """How `exact_answer` compares with the answer column; None: responses cannot be verified."""
    size: int | None = Field(None, ge=1)
    """At most so many rows; None: all. Also what a dry run counts when the file is not here."""


class HuggingFaceSource(SourceConfig):
    """A Hugging Face dataset, by folder (saved with `save_to_disk`) or hub id."""

    source: Literal["huggingface"]
    path: str = Field(title="dataset")
    """Folder or hub id of a dataset."""
    name: str | None = Field(None, title="configuration")
    """The dataset's configuration; None: its only one."""
    subset: str = "train"
    """The dataset's own split to read."""
    fields: FieldsConfig = FieldsConfig()
    verifier: Verifier | None = None
    """How `exact_answer` compares with the answer column; None: responses cannot be verified."""
    size: int | None = Field(None, ge=1)
    """At most so many rows; None: all."""


class ImportedFields(FieldsConfig):
    """Which columns of parallel responses hold what; the last three may be missing."""

    model: str = "model"
    """Who answered; in a folder without this column it is the file's name without its ending."""
    response: str = "response"
    reward: str = "reward"
    """A number, for the scorer `imported`."""
    finish_reason: str = "finish_reason"
    """`length`: the answer was cut off."""
    completion_tokens: str = "completion_tokens"


class ImportedSource(SourceConfig):
    """Parallel responses made elsewhere: a row per prompt and model, in any order."""

    source: Literal["imported"]
    path: str
    """A JSONL or Parquet file, or a folder of such files."""
    fields: ImportedFields = ImportedFields()
    verifier: Verifier | None = None
    """How `exact_answer` compares with the answer column; None: responses cannot be verified."""
    size: int | None = Field(None, ge=1)
    """At most so many prompts; None: all. Also what a dry run counts when the file is not here."""


Source = Annotated[
    ReasoningGymSource | FileSource | HuggingFaceSource | ImportedSource, Field(discriminator="source")
]
