"""The run file's section `prompts`: where prompts come from.

The keys of most sources stand with their kinds, in `engine.sources.kinds`; here is what they share, and the source that
teachers and scorers read too.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, create_model, model_serializer

from engine.base.plugins import SOURCES, VERIFIERS
from engine.config.kinds import source_kind, verifier_kind, verifiers
from engine.config.section import FinishReasons, ReasoningMarks, Section, known
from storage.records import Split


def _known_verifier(value: str) -> str:
    if value in VERIFIERS.names():
        verifier_kind(value)  # which says why one of another package cannot be used
    return known("verifier", value, verifiers())


Verifier = Annotated[str, AfterValidator(_known_verifier)]


class SourceConfig(Section):
    """What every prompt source has."""

    source: str
    """Its kind."""
    split: Split | None = None
    """Puts all of this source's prompts into one split; None shares them out by `split:`."""


class FieldsConfig(Section):
    """Which columns hold what."""

    prompt: str = "prompt"
    messages: str = "messages"
    answer: str = "answer"
    choices: str = "choices"
    """The texts of a multiple-choice prompt, for `verifier: choice`; may be missing."""
    choice_columns: tuple[str, ...] | None = None
    """Where each choice has a column of its own, e.g. [opa, opb, opc, opd]; None: `choices` has them."""
    input: str | None = None
    """Text that belongs under the prompt's; None: `input`, where the prompt is in `instruction`."""
    system: str | None = None
    """What the conversation begins with; None: `system`, beside an `instruction` or `conversations`."""
    history: str | None = None
    """Pairs of turns before the prompt; None: `history`, where the prompt is in `instruction`."""

    @model_serializer(mode="wrap")
    def _without_unset(self, plainly: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The hashes of run files from before there were these keys stay.
        found: dict[str, Any] = plainly(self)
        return {key: value for key, value in found.items() if value is not None}


class RowsConfig(SourceConfig):
    """A source with a prompt a row, as `messages` or as a `prompt` string."""

    path: str
    fields: FieldsConfig = FieldsConfig()
    verifier: Verifier | None = None
    """How `exact_answer` compares with the answer column; None: responses cannot be verified."""
    size: int | None = Field(None, ge=1)
    """At most so many prompts; None: all. Also what a dry run counts when the data is not here."""
    show_choices: bool = False
    """Lists the choices under the prompt, `A. …` a line, for data sets whose questions do not show them."""

    @model_serializer(mode="wrap")
    def _without_later(self, plainly: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The hashes of run files from before there was this key stay.
        found: dict[str, Any] = plainly(self)
        return {key: value for key, value in found.items() if key != "show_choices" or value}


class ImportedFields(FieldsConfig):
    """Which columns of parallel responses hold what; the last three may be missing."""

    model: str = "model"
    """Who responded; in a folder without this column it is the file's name without its ending."""
    response: str = "response"
    reward: str = "reward"
    """A number, for the scorer `imported`."""
    finish_reason: str = "finish_reason"
    """How the response ended, in any provider's words; one that nobody knows counts as cut off."""
    completion_tokens: str = "completion_tokens"


class ImportedSource(RowsConfig):
    """Parallel responses made elsewhere: a row per prompt and model, in any order."""

    source: Literal["imported"]
    path: str
    """A JSONL, JSON (an array), CSV or Parquet file, or a folder of JSONL and Parquet files; .gz, .bz2, .xz too."""
    fields: ImportedFields = ImportedFields()
    finish_reasons: FinishReasons = Field(default_factory=dict)
    """What the files' own words in `finish_reason` mean, e.g. {done: stop}; those of most providers are known."""
    reasoning_marks: ReasoningMarks = ()
    """What stands before and after reasoning in a response, e.g. [["<plan>", "</plan>"]]; those of most are known."""


def any_source() -> Any:
    """The type of an entry of `prompts`: the settings of the kind that its key `source` names."""
    kinds = [_named(name, source_kind(name).settings) for name in SOURCES.usable()]
    union: Any = kinds[0]
    for kind in kinds[1:]:
        union |= kind
    return Annotated[union, Field(discriminator="source")]


def _named(name: str, settings: type[Section]) -> type[Section]:
    title = "".join(word.title() for word in name.split("_")) + "Source"
    its_name: Any = Literal[name]
    return create_model(title, __base__=settings, __doc__=settings.__doc__, source=(its_name, ...))
