"""The tables. Only `storage` uses these classes; everyone else gets the records of `storage.records`.

Times are seconds since the epoch (UTC), money is dollars, hashes are 64 hexadecimal digits. Tables of short rows
whose key is a pair are stored by that key (WITHOUT ROWID): one tree instead of two to write.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator

from storage.errors import StoreError
from storage.job_records import ACTIVE_STATES
from storage.records import Sampling
from storage.text import clean


class CleanText(TypeDecorator[str]):
    """Text that passes `storage.text.clean` on its way in, bound search terms included."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        # One flipped bit of a damaged file makes bytes of a text.
        return value.decode("utf-8", "replace") if type(value) is bytes else value


class Document(TypeDecorator[Any]):
    """A JSON document that is an object, or a list.

    Args:
        kind: dict or list.
    """

    impl = JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, kind: type = dict) -> None:
        super().__init__()
        self.kind = kind

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> Any:
        # As JSON, so that parts of it can be asked for.
        return JSON().coerce_compared_value(op, value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None or isinstance(value, self.kind):
            return value
        raise StoreError(
            f"the store holds {type(value).__name__} where a document that is a {self.kind.__name__} belongs",
            "Restore a copy of it.",
        )


class Turns(Document):
    """Messages, as a JSON document. In a damaged file, what is no such document is read as one turn of that text."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(list)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        read = super().result_processor(dialect, coltype)
        if read is None:
            return None

        def turns(value: Any) -> Any:
            try:
                return read(value)
            except StoreError:
                return [{"role": "user", "content": str(value)}]

        return turns


class SamplingDocument(TypeDecorator[Sampling]):
    """A `Sampling`, as a JSON document."""

    impl = JSON
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Sampling:
        return Sampling(**{**value, "stop": tuple(value.get("stop", ()))})


class Strengths(TypeDecorator[tuple[float, ...]]):
    """A router's strengths, one per teacher, as little-endian float32."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Sequence[float] | None, dialect: Dialect) -> bytes | None:
        return None if value is None else struct.pack(f"<{len(value)}f", *value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> tuple[float, ...] | None:
        return None if value is None else struct.unpack(f"<{len(value) // 4}f", value)


Id = BigInteger().with_variant(Integer, "sqlite")
Number = Float().with_variant(DOUBLE_PRECISION(), "postgresql")

_ACTIVE = ", ".join(f"'{state}'" for state in ACTIVE_STATES)
_BY_KEY = {"sqlite_with_rowid": False}


class Base(DeclarativeBase):
    """Names every constraint, so that later migrations can drop it on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: Id,
        float: Number,
        str: CleanText(),
        dict[str, Any]: Document(dict),
        list[Any]: Document(list),
    }


class Specified(Base):
    """What is made once for each specification: making it again finds the first one's row."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(primary_key=True)
    spec_sha: Mapped[str] = mapped_column(unique=True)


class ModelRow(Base):
    """A registered model. A name may have several rows: an edited system prompt makes a new identity."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("role", "name", "identity_sha"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    role: Mapped[str]
    name: Mapped[str]
    identity_sha: Mapped[str]
    backend: Mapped[str]
    model: Mapped[str]
    revision: Mapped[str]
    family: Mapped[str]
    parameters: Mapped[float | None]
    context: Mapped[int | None]
    price_input: Mapped[float]
    price_output: Mapped[float]
    system: Mapped[str]
    sampling: Mapped[Sampling] = mapped_column(SamplingDocument())
    options: Mapped[dict[str, Any]]
    archived_at: Mapped[float | None]
    created_at: Mapped[float]
    put_at: Mapped[float]
    """When it was last registered."""
    by_run: Mapped[bool]
    """Whether only runs have registered it, whose files describe it. The model of a name is its latest row that was
    registered by hand; the latest one of a run where there is none."""


class PromptRow(Base):
    """A prompt, shared by all prompt sets so that another set re-uses its responses."""

    __tablename__ = "prompts"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha: Mapped[str] = mapped_column(unique=True)
    messages: Mapped[list[Any]] = mapped_column(Turns())
    answer: Mapped[str | None]
    verifier: Mapped[dict[str, Any] | None]
    source: Mapped[str]


class PromptSetRow(Specified):
    """A prompt set."""

    __tablename__ = "prompt_sets"

    name: Mapped[str]
    complete: Mapped[bool]
    counts: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class MemberRow(Base):
    """A prompt's place in a prompt set."""

    __tablename__ = "prompt_set_members"
    __table_args__ = (
        UniqueConstraint("prompt_set_id", "prompt_id"),
        Index(None, "prompt_set_id", "split", "ordinal"),
        _BY_KEY,
    )

    prompt_set_id: Mapped[int] = mapped_column(ForeignKey("prompt_sets.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"))
    split: Mapped[str]


class GenerationRow(Base):
    """A generation hash, once: a number in the key of a million responses takes a tenth of its space."""

    __tablename__ = "generations"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha: Mapped[str] = mapped_column(unique=True)


class ResponseRow(Base):
    """A response of one teacher to one prompt."""

    __tablename__ = "responses"
    __table_args__ = (
        UniqueConstraint("prompt_id", "teacher_id", "sample", "generation_id"),
        Index(None, "teacher_id", "id"),
        # Failures are few: a listing of them must not scan a million good rows, nor slow their insertion.
        Index(
            "ix_responses_failed",
            "status",
            "id",
            sqlite_where=text("status <> 'ok'"),
            postgresql_where=text("status <> 'ok'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"))
    teacher_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    sample: Mapped[int]
    generation_id: Mapped[int] = mapped_column(ForeignKey("generations.id"))
    status: Mapped[str]
    finish_reason: Mapped[str]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    latency_s: Mapped[float]
    cost: Mapped[float]
    attempts: Mapped[int]
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[float]
    # Long texts come last: SQLite reads a row from its beginning, and most questions end before them.
    text: Mapped[str]
    reasoning: Mapped[str]
    error: Mapped[str]


class ScorerRow(Base):
    """A scorer with everything that shapes its scores."""

    __tablename__ = "scorers"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    identity: Mapped[dict[str, Any]]
    model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))


class ScoreRow(Base):
    """What one scorer gave one response."""

    __tablename__ = "scores"
    __table_args__ = (_BY_KEY,)

    response_id: Mapped[int] = mapped_column(ForeignKey("responses.id"), primary_key=True)
    scorer_id: Mapped[int] = mapped_column(ForeignKey("scorers.id"), primary_key=True)
    value: Mapped[float | None]
    sum: Mapped[float | None]
    count: Mapped[int | None]
    status: Mapped[str]
    detail: Mapped[dict[str, Any]]


class VerdictRow(Base):
    """What a judge said to one question about a response, or about two; kept until their scores are final."""

    __tablename__ = "judge_replies"
    __table_args__ = (_BY_KEY,)

    scorer_id: Mapped[int] = mapped_column(ForeignKey("scorers.id"), primary_key=True)
    response_id: Mapped[int] = mapped_column(ForeignKey("responses.id"), primary_key=True)
    other_id: Mapped[int] = mapped_column(primary_key=True)
    """The response that it is compared with; 0 for none."""
    attempt: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cost: Mapped[float]
    """Dollars; 0 once a score's `detail` counts them."""
    text: Mapped[str]
    error: Mapped[str]


class RouterRow(Specified):
    """A trained router."""

    __tablename__ = "routers"

    student_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    path: Mapped[str]
    manifest: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class PlanRow(Specified):
    """One strategy applied to one prompt set."""

    __tablename__ = "plans"

    strategy: Mapped[str]
    prompt_set_id: Mapped[int] = mapped_column(ForeignKey("prompt_sets.id"))
    router_id: Mapped[int | None] = mapped_column(ForeignKey("routers.id"))
    manifest: Mapped[dict[str, Any]]
    complete: Mapped[bool]


class AssignmentRow(Base):
    """A plan's choice of a teacher for a prompt."""

    __tablename__ = "assignments"
    __table_args__ = (Index(None, "plan_id", "teacher_id", "prompt_id"), _BY_KEY)

    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"), primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    teacher_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    strengths: Mapped[tuple[float, ...] | None] = mapped_column(Strengths())
    margin: Mapped[float | None]


class DatasetTable(Specified):
    """A dataset."""

    __tablename__ = "datasets"

    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    name: Mapped[str]
    manifest: Mapped[dict[str, Any]]
    complete: Mapped[bool]


class DatasetRowRow(Base):
    """A training row."""

    __tablename__ = "dataset_rows"
    __table_args__ = (Index(None, "dataset_id", "response_id"), _BY_KEY)

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"), primary_key=True)
    response_id: Mapped[int] = mapped_column(ForeignKey("responses.id"))
    quality: Mapped[float | None]
    learnability: Mapped[float | None]
    reward: Mapped[float | None]
    excluded: Mapped[bool]


class AdapterRow(Specified):
    """A distilled student."""

    __tablename__ = "adapters"

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    student_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    path: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    complete: Mapped[bool]


class CheckpointRow(Base):
    """A training checkpoint."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("adapter_id", "step"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    step: Mapped[int]
    path: Mapped[str]
    sha256: Mapped[str]
    metrics: Mapped[dict[str, Any]]


class EvaluationRow(Specified):
    """A measurement of a student."""

    __tablename__ = "evaluations"

    student_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    adapter_id: Mapped[int | None] = mapped_column(ForeignKey("adapters.id"))
    prompt_set_id: Mapped[int] = mapped_column(ForeignKey("prompt_sets.id"))
    summary: Mapped[dict[str, Any]]
    complete: Mapped[bool]


class ResultRow(Base):
    """One evaluation prompt's outcome."""

    __tablename__ = "evaluation_results"

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"), primary_key=True)
    value: Mapped[float | None]
    text: Mapped[str]
    status: Mapped[str]
    completion_tokens: Mapped[int]


class JobRow(Base):
    """A run of a specification, and who may write for it."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "uq_jobs_active_spec_sha",
            "spec_sha",
            unique=True,
            sqlite_where=text(f"state IN ({_ACTIVE})"),
            postgresql_where=text(f"state IN ({_ACTIVE})"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    spec: Mapped[dict[str, Any]]
    spec_sha: Mapped[str]
    until_stage: Mapped[str | None]
    state: Mapped[str]
    stage: Mapped[str]
    epoch: Mapped[int]
    owner: Mapped[str | None]
    pid: Mapped[int | None]
    host: Mapped[str]
    lease_until: Mapped[float]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    error: Mapped[str]
    progress: Mapped[dict[str, Any]]


class EventRow(Base):
    """Something that happened in a job."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    at: Mapped[float]
    kind: Mapped[str]
    message: Mapped[str]


class MetricRow(Base):
    """One point of a curve."""

    __tablename__ = "metrics"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    at: Mapped[float]
    stage: Mapped[str]
    name: Mapped[str]
    step: Mapped[int]
    value: Mapped[float | None]


class CommandRow(Base):
    """An operator's wish to a running job."""

    __tablename__ = "commands"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    kind: Mapped[str]
    args: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    taken_at: Mapped[float | None]


class SearchMarkRow(Base):
    """Up to which response and which prompt the word index is filled; one row, id 1."""

    __tablename__ = "search_marks"

    id: Mapped[int] = mapped_column(primary_key=True)
    response_id: Mapped[int]
    prompt_id: Mapped[int] = mapped_column(server_default="0")


class SearchQueueRow(Base):
    """Responses below the mark whose text came later: an error row that a retry replaced."""

    __tablename__ = "search_queue"

    response_id: Mapped[int] = mapped_column(
        ForeignKey("responses.id"), primary_key=True, autoincrement=False
    )
