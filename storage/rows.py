"""From selected columns to records, by name, and the page arithmetic that every listing shares."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, CursorResult, and_, select, tuple_, update

from storage.job_records import Lease
from storage.records import Generation, Model, Prompt, Split, StoredResponse
from storage.schema import Base, GenerationRow, MemberRow, ModelRow, PromptRow, ResponseRow
from storage.store import AnyRow, Query, Store

AnyResult = CursorResult[*tuple[Any, ...]]
T = TypeVar("T")
R = TypeVar("R")

SPLITS: tuple[Split, ...] = ("calibration", "validation", "synthesis", "evaluation")

CHUNK = 500
"""How many values go into one IN list."""


class Columns(Generic[R]):
    """The columns of a record: `select(*COLUMNS)`, beside any others, then `COLUMNS.reader(result)`.

    Each is labelled `TABLE_FIELD` and found by that label, so the order and number of a query's columns do not
    matter. The labels are looked up once per result: reading a row costs what reading it by position costs.

    Args:
        record: a dataclass.
        table: every field is the column of the same name here, unless `others` says otherwise.
        given: names of the record's last fields, which no column holds; the reader's caller gives them.
        others: field → column.
    """

    def __init__(
        self, record: Callable[..., R], table: type[Base], given: Sequence[str] = (), **others: Any
    ) -> None:
        self.record = record
        self.table = table
        names = [field.name for field in fields(record) if field.name not in given]  # type: ignore[arg-type]  # a dataclass
        columns = {**table.__table__.c, **others}
        self._columns = {f"{table.__tablename__}_{name}": columns[name] for name in names}

    def __iter__(self) -> Iterator[ColumnElement[Any]]:
        return (column.label(label) for label, column in self._columns.items())

    def reader(self, result: AnyResult, **given: Any) -> Callable[[AnyRow], R]:
        """Reads the record from a row of the result."""
        places = {name: place for place, name in enumerate(result.keys())}
        values = itemgetter(*(places[label] for label in self._columns))
        record = partial(self.record, **given) if given else self.record
        return lambda row: record(*values(row))

    def all(self, store: Store, query: Query | None = None) -> list[R]:
        """The records of a query that selects these columns; without one, of the whole table by id."""
        query = select(*self).order_by(self.table.__table__.c.id) if query is None else query
        with store.read() as connection:
            result = connection.execute(query)
            return list(map(self.reader(result), result))

    def first(self, store: Store, query: Query) -> R | None:
        """The first record of a query that selects these columns, or None."""
        with store.read() as connection:
            return self._first(connection, query)

    def find(self, store: Store, spec_sha: str) -> R | None:
        """The record of this specification, or None."""
        return self.first(store, self._of(spec_sha))

    def open(self, store: Store, lease: Lease | None, spec_sha: str, **values: Any) -> R:
        """The record of this specification; made from these values when there is none."""
        found = self.find(store, spec_sha)
        if found is not None:
            return found
        with store.write(lease) as connection:
            connection.execute(
                store.insert(self.table)
                .values(spec_sha=spec_sha, **values)
                .on_conflict_do_nothing(index_elements=["spec_sha"])
            )
            made = self._first(connection, self._of(spec_sha))
        assert made is not None
        return made

    def complete(self, store: Store, lease: Lease | None, row_id: int, **values: Any) -> None:
        """Mark the record complete, with what is known of it now."""
        table: Any = self.table
        store.execute(update(table).where(table.id == row_id).values(complete=True, **values), lease)

    def _first(self, connection: Connection, query: Query) -> R | None:
        result = connection.execute(query)
        row = result.first()
        return None if row is None else self.reader(result)(row)

    def _of(self, spec_sha: str) -> Query:
        return select(*self).where(self.table.__table__.c.spec_sha == spec_sha)


PROMPT = Columns(Prompt, PromptRow, given=("split",))
MODEL = Columns(Model, ModelRow, archived=ModelRow.archived_at.is_not(None))
RESPONSE = Columns(
    StoredResponse,
    ResponseRow,
    generation_sha=select(GenerationRow.sha)
    .where(GenerationRow.id == ResponseRow.generation_id)
    .scalar_subquery(),
)


def prompt_page(
    store: Store, members: Query, splits: Sequence[Split] | None, after: int, limit: int
) -> list[tuple[int, Prompt]]:
    """(ordinal, prompt) of the next of these members, in order of ordinal.

    One query per split, each bounded and in index order, costs less than one over all of them that must sort.
    """
    joined = members.select_from(MemberRow).join(PromptRow, PromptRow.id == MemberRow.prompt_id)
    members = joined.with_only_columns(MemberRow.ordinal, *PROMPT)
    pages: list[list[tuple[int, Prompt]]] = []
    with store.read() as connection:
        for split in splits or SPLITS:
            result = connection.execute(
                members.where(MemberRow.split == split, MemberRow.ordinal > after)
                .order_by(MemberRow.ordinal)
                .limit(limit)
            )
            prompt = PROMPT.reader(result, split=split)
            pages.append([(row.ordinal, prompt(row)) for row in result])
    return merged(pages, key=lambda item: item[0], limit=limit)


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """The values in lists of at most `size`."""
    iterator = iter(values)
    while part := list(islice(iterator, size)):
        yield part


def merged(pages: Iterable[Sequence[T]], key: Callable[[T], Any], limit: int) -> list[T]:
    """The first `limit` items of several pages, each sorted by `key`; of equal keys the first is kept."""
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


def of_generations(store: Store, generations: Iterable[Generation]) -> ColumnElement[bool]:
    """Says that a response is the first sample of one of these generations."""
    wanted = dict.fromkeys(Generation(*item) for item in generations)
    numbers: dict[str, int] = {}
    for part in chunks(dict.fromkeys(item.generation_sha for item in wanted)):
        rows = store.rows(select(GenerationRow.sha, GenerationRow.id).where(GenerationRow.sha.in_(part)))
        numbers.update((row.sha, row.id) for row in rows)
    known = [
        (item.teacher_id, numbers[item.generation_sha]) for item in wanted if item.generation_sha in numbers
    ]
    return and_(ResponseRow.sample == 0, tuple_(ResponseRow.teacher_id, ResponseRow.generation_id).in_(known))
