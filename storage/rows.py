"""From selected columns to records, and the page arithmetic that every listing shares."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, and_, select, tuple_

from storage.records import Generation, Model, Prompt, Sampling, Split, StoredResponse
from storage.schema import Base, GenerationRow, ModelRow, PromptRow, ResponseRow
from storage.store import Store

AnyRow = Row[*tuple[Any, ...]]
T = TypeVar("T")

SPLITS: tuple[Split, ...] = ("calibration", "validation", "synthesis", "evaluation")

CHUNK = 500
"""How many values go into one IN list."""

PROMPT = (PromptRow.id, PromptRow.messages, PromptRow.answer, PromptRow.verifier, PromptRow.source)
"""The columns of a `Prompt`, in the order that `prompt_of` reads."""

RESPONSE = (
    ResponseRow.id,
    ResponseRow.prompt_id,
    ResponseRow.teacher_id,
    ResponseRow.sample,
    select(GenerationRow.sha).where(GenerationRow.id == ResponseRow.generation_id).scalar_subquery(),
    ResponseRow.text,
    ResponseRow.status,
    ResponseRow.finish_reason,
    ResponseRow.prompt_tokens,
    ResponseRow.completion_tokens,
    ResponseRow.latency_s,
    ResponseRow.cost,
    ResponseRow.reasoning,
    ResponseRow.error,
)
"""The columns of a `StoredResponse`, in the record's own order."""


def prompt_of(row: AnyRow, at: int = 0, split: Split | None = None) -> Prompt:
    """The prompt whose `PROMPT` columns begin at position `at` of the row."""
    return Prompt(
        id=row[at],
        messages=row[at + 1],
        answer=row[at + 2],
        verifier=row[at + 3],
        source=row[at + 4],
        split=split,
    )


def response_of(row: AnyRow, at: int = 0) -> StoredResponse:
    """The response whose `RESPONSE` columns begin at position `at` of the row."""
    return StoredResponse(*row[at : at + len(RESPONSE)])


def model_of(row: AnyRow) -> Model:
    """The model of a row selected as the whole `models` table."""
    sampling = dict(row.sampling)
    sampling["stop"] = tuple(sampling.get("stop", ()))
    return Model(
        id=row.id,
        name=row.name,
        role=row.role,
        backend=row.backend,
        model=row.model,
        revision=row.revision,
        family=row.family,
        parameters=row.parameters,
        system=row.system,
        sampling=Sampling(**sampling),
        price_input=row.price_input,
        price_output=row.price_output,
        context=row.context,
        options=row.options,
        archived=row.archived_at is not None,
    )


MODEL = tuple(ModelRow.__table__.c)
"""The columns of a `Model`, read by name."""


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """The values in lists of at most `size`."""
    iterator = iter(values)
    while part := list(islice(iterator, size)):
        yield part


def merged(pages: Iterable[Sequence[T]], key: Callable[[T], Any], limit: int) -> list[T]:
    """The first `limit` items of several pages, each sorted by `key`; of equal keys the first is kept.

    One query per split or plan, each bounded and in index order, costs less than one query over all of them
    that must sort.
    """
    out: list[T] = []
    last: Any = None
    for item in heapq.merge(*pages, key=key):
        if out and key(item) == last:
            continue
        if len(out) == limit:
            break
        out.append(item)
        last = key(item)
    return out


def stored(connection: Connection, generations: Iterable[Generation]) -> dict[tuple[int, int], Generation]:
    """The generations that have responses, by (teacher id, number of their hash), in the order given."""
    wanted = list(dict.fromkeys(Generation(teacher, sha) for teacher, sha in generations))
    numbers: dict[str, int] = {}
    for part in chunks(dict.fromkeys(item.generation_sha for item in wanted)):
        rows = connection.execute(
            select(GenerationRow.sha, GenerationRow.id).where(GenerationRow.sha.in_(part))
        )
        numbers.update((row[0], row[1]) for row in rows)
    return {
        (item.teacher_id, numbers[item.generation_sha]): item
        for item in wanted
        if item.generation_sha in numbers
    }


def by(generations: Iterable[tuple[int, int]]) -> ColumnElement[bool]:
    """Says that a response is the first sample of one of the `stored` generations."""
    return and_(
        ResponseRow.sample == 0,
        tuple_(ResponseRow.teacher_id, ResponseRow.generation_id).in_(list(generations)),
    )


def put_once(
    store: Store, connection: Connection, table: type[Base], spec_sha: str, values: dict[str, Any]
) -> None:
    """Insert a row unless one of this specification exists."""
    connection.execute(
        store.insert(table)
        .values(spec_sha=spec_sha, **values)
        .on_conflict_do_nothing(index_elements=["spec_sha"])
    )


def by_spec(connection: Connection, table: type[Base], spec_sha: str) -> AnyRow | None:
    """The whole row of this specification, or None."""
    columns = table.__table__.c
    return connection.execute(select(*columns).where(columns.spec_sha == spec_sha)).first()
