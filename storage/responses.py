"""Responses: which are missing, storing them, and counting them.

Pending work is never queued: it is what the prompts have and the responses lack. A response is unique by
(prompt, teacher, sample, generation hash); storing it again changes nothing, except that an `error` row gives
way to the next attempt.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Select,
    and_,
    func,
    literal_column,
    or_,
    select,
    union,
)
from sqlalchemy.orm import InstrumentedAttribute

from storage.job_records import Lease
from storage.records import Coverage, Generation, NewResponse, Prompt, ResponseCount, Split, StoredResponse
from storage.rows import PROMPT, RESPONSE, SPLITS, chunks, merged, of_generations, prompt_page
from storage.schema import (
    AssignmentRow,
    GenerationRow,
    MemberRow,
    ModelRow,
    PromptRow,
    ResponseRow,
    SearchQueueRow,
)
from storage.store import Store, insert
from storage.text import clean

_KEY = ["prompt_id", "teacher_id", "sample", "generation_id"]


def _response(
    prompt_id: ColumnElement[int] | InstrumentedAttribute[int], generation: Generation
) -> ColumnElement[bool]:
    """Joins a prompt to this generation's first sample."""
    teacher_id, digest = generation
    number = select(GenerationRow.id).where(GenerationRow.sha == digest).scalar_subquery()
    return and_(
        ResponseRow.prompt_id == prompt_id,
        ResponseRow.teacher_id == teacher_id,
        ResponseRow.sample == 0,
        ResponseRow.generation_id == number,
    )


def _missing(max_attempts: int) -> ColumnElement[bool]:
    return or_(
        ResponseRow.id.is_(None), and_(ResponseRow.status == "error", ResponseRow.attempts < max_attempts)
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """The prompts of a set that one teacher has to respond to."""

    prompt_set_id: int
    splits: Sequence[Split] | None
    """Only prompts of these; None for all."""
    generation: Generation
    """The teacher and the hash of its settings."""


def _pending(columns: Sequence[Any], wanted: Wanted, max_attempts: int) -> Select[Any]:
    return (
        select(*columns)
        .select_from(MemberRow)
        .outerjoin(ResponseRow, _response(MemberRow.prompt_id, wanted.generation))
        .where(MemberRow.prompt_set_id == wanted.prompt_set_id, _missing(max_attempts))
    )


def pending(
    store: Store, wanted: Wanted, *, max_attempts: int = 3, after: int = -1, limit: int = 500
) -> list[tuple[int, Prompt]]:
    """The next prompts without a final response, with their ordinals, in order.

    An `error` row with fewer than `max_attempts` attempts is asked again.
    """
    return prompt_page(store, _pending((MemberRow,), wanted, max_attempts), wanted.splits, after, limit)


def count_pending(store: Store, wanted: Wanted, *, max_attempts: int = 3) -> int:
    """How many prompts `pending` would give in all."""
    query = _pending((func.count(),), wanted, max_attempts)
    return store.number(query.where(MemberRow.split.in_(wanted.splits or SPLITS)))


def _assigned(column: Any, plan_ids: Sequence[int], generation: Generation, max_attempts: int) -> Select[Any]:
    return (
        select(column)
        .select_from(AssignmentRow)
        .outerjoin(ResponseRow, _response(AssignmentRow.prompt_id, generation))
        .where(
            AssignmentRow.plan_id.in_(plan_ids),
            AssignmentRow.teacher_id == generation.teacher_id,
            _missing(max_attempts),
        )
    )


def pending_assigned(
    store: Store,
    plan_ids: Sequence[int],
    generation: Generation,
    *,
    max_attempts: int = 3,
    limit: int = 500,
    after_prompt_id: int = 0,
) -> list[Prompt]:
    """The next prompts that any of the plans gives to this teacher and that lack its final response, by id.

    A prompt that several of them give to the teacher comes once. Attempts count as in `pending`.
    """
    key = AssignmentRow.prompt_id
    pages: list[list[int]] = []
    found: dict[int | None, Prompt] = {}
    for plan_id in dict.fromkeys(plan_ids):  # each in the order of its index
        query = _assigned(key, [plan_id], generation, max_attempts).distinct()
        pages.append(store.scalars(query.where(key > after_prompt_id).order_by(key).limit(limit)))
    ids = merged(pages, key=lambda item: item, limit=limit)
    for part in chunks(ids):
        prompts = PROMPT.all(store, select(*PROMPT).where(PromptRow.id.in_(part)))
        found.update((prompt.id, prompt) for prompt in prompts)
    return [found[identifier] for identifier in ids]


def count_pending_assigned(
    store: Store, plan_ids: Sequence[int], generation: Generation, *, max_attempts: int = 3
) -> int:
    """How many prompts `pending_assigned` would give in all."""
    counted = func.count(func.distinct(AssignmentRow.prompt_id))
    return store.number(_assigned(counted, plan_ids, generation, max_attempts))


_STORED = [column.name for column in ResponseRow.__table__.c if column.name != "id"]
"""In the table's own order, which is the order of the compiled statement's parameters."""


def _values(row: NewResponse, numbers: dict[str, int], clock: float) -> dict[str, Any]:
    """The row's values by column, storable as they are."""
    response = row.response
    return {
        "prompt_id": row.prompt_id,
        "teacher_id": row.teacher_id,
        "sample": row.sample,
        "generation_id": numbers[row.generation_sha],
        "status": response.status,
        "finish_reason": clean(response.finish_reason),
        "prompt_tokens": response.prompt_tokens,
        "completion_tokens": response.completion_tokens,
        "latency_s": response.latency_s,
        "cost": row.cost,
        "attempts": 1,
        "job_id": row.job_id,
        "created_at": clock,
        "text": clean(response.text),
        "reasoning": clean(response.reasoning),
        "error": clean(response.error),
    }


@lru_cache(maxsize=4)
def _upsert(dialect: Dialect) -> str:
    """The SQL that stores a response; an `error` row gives way, any other stays."""
    statement = insert(dialect, ResponseRow)
    statement = statement.on_conflict_do_update(
        index_elements=_KEY,
        set_={
            **{name: statement.excluded[name] for name in _STORED if name not in (*_KEY, "attempts")},
            "attempts": literal_column("responses.attempts + 1"),
        },
        where=literal_column("responses.status") == literal_column("'error'"),
    )
    return str(statement.compile(dialect=dialect, column_keys=_STORED))


def _numbers(store: Store, connection: Connection, rows: Sequence[NewResponse]) -> dict[str, int]:
    """The number of every generation hash in the rows, given now to those that have none."""
    digests = list(dict.fromkeys(row.generation_sha for row in rows))
    query = select(GenerationRow.sha, GenerationRow.id).where(GenerationRow.sha.in_(digests))
    found = {row.sha: row.id for row in connection.execute(query)}
    new = [{"sha": digest} for digest in digests if digest not in found]
    if new:
        connection.execute(store.insert(GenerationRow).on_conflict_do_nothing(), new)
        found = {row.sha: row.id for row in connection.execute(query)}
    return found


def add(store: Store, lease: Lease | None, rows: Sequence[NewResponse]) -> int:
    """How many of the responses were stored (new, or in place of an `error` row), in one transaction.

    Args:
        rows: up to a few hundred; a response that is already stored is left as it is.

    Raises:
        DiskFullError: no space is left; nothing was stored.
    """
    if not rows:
        return 0
    clock = time.time()
    with store.write(lease) as connection:
        numbers = _numbers(store, connection, rows)
        failed: list[int] = []
        teachers = list(dict.fromkeys(row.teacher_id for row in rows))
        for part in chunks(dict.fromkeys(row.prompt_id for row in rows)):
            failed += connection.execute(
                select(ResponseRow.id).where(
                    ResponseRow.prompt_id.in_(part),
                    ResponseRow.teacher_id.in_(teachers),
                    ResponseRow.status == "error",
                )
            ).scalars()
        # Straight to the driver: SQLAlchemy's handling of 16 values costs more than storing them.
        dialect = store.engine.dialect
        # Two jobs that store the same responses must lock them in the same order.
        values: Any = sorted((_values(row, numbers, clock) for row in rows), key=itemgetter(*_KEY))
        if dialect.paramstyle == "qmark":
            values = list(map(itemgetter(*_STORED), values))
        count = connection.exec_driver_sql(_upsert(dialect), values).rowcount
        for part in chunks(failed):
            # Their ids lie below the word index's mark: say that there is text now.
            mended = select(ResponseRow.id).where(ResponseRow.id.in_(part), ResponseRow.status != "error")
            connection.execute(
                store.insert(SearchQueueRow).from_select(["response_id"], mended).on_conflict_do_nothing()
            )
    return count


def counts(
    store: Store, generations: Sequence[Generation], prompt_set_id: int, splits: Sequence[Split] | None = None
) -> list[ResponseCount]:
    """Counts and sums per teacher and status over the prompt set, ordered by teacher and status."""
    found: list[ResponseCount] = []
    for generation in dict.fromkeys(Generation(*item) for item in generations):
        query = (
            select(
                ResponseRow.status,
                func.count(),
                func.sum(ResponseRow.prompt_tokens),
                func.sum(ResponseRow.completion_tokens),
                func.sum(ResponseRow.cost),
                func.sum(ResponseRow.latency_s),
            )
            .select_from(MemberRow)
            .join(ResponseRow, _response(MemberRow.prompt_id, generation))
            .where(MemberRow.prompt_set_id == prompt_set_id, MemberRow.split.in_(splits or SPLITS))
            .group_by(ResponseRow.status)
        )
        found += [
            ResponseCount(generation.teacher_id, status, count, int(prompts), int(completions), cost, latency)
            for status, count, prompts, completions, cost, latency in store.rows(query)
        ]
    return sorted(found, key=lambda item: (item.teacher_id, item.status))


def last_error(store: Store, generation: Generation) -> str:
    """What went wrong with a generation's newest response that is an error; empty without one."""
    number = select(GenerationRow.id).where(GenerationRow.sha == generation.generation_sha).scalar_subquery()
    query = (
        select(ResponseRow.error)
        .where(
            ResponseRow.teacher_id == generation.teacher_id,
            ResponseRow.generation_id == number,
            ResponseRow.status == "error",
        )
        .order_by(ResponseRow.id.desc())
        .limit(1)
    )
    return next(iter(store.scalars(query)), "")


def coverage(
    store: Store,
    generations: Sequence[Generation],
    prompt_set_id: int,
    splits: Sequence[Split],
    plan_ids: Sequence[int],
) -> list[Coverage]:
    """Which prompts each teacher has to respond to and how much of it is there, in the order of `generations`.

    A teacher responds to the prompts of `splits`, and to what any of the plans gives it, fallbacks included.
    """
    members = select(MemberRow.prompt_id).where(
        MemberRow.prompt_set_id == prompt_set_id, MemberRow.split.in_(splits)
    )
    assigned = select(AssignmentRow.prompt_id).where(AssignmentRow.plan_id.in_(plan_ids))
    found = []
    with store.read() as connection:
        for generation in generations:
            own = assigned.where(AssignmentRow.teacher_id == generation.teacher_id)
            wanted = union(members, own).subquery()
            query = (
                select(
                    ResponseRow.status,
                    func.count().label("number"),
                    func.sum(ResponseRow.attempts - 1).label("retries"),
                    func.sum(ResponseRow.completion_tokens).label("completion_tokens"),
                    func.sum(ResponseRow.cost).label("cost"),
                )
                .select_from(wanted)
                .outerjoin(ResponseRow, _response(wanted.c.prompt_id, generation))
                .group_by(ResponseRow.status)
            )
            rows = connection.execute(query).all()
            given = [row for row in rows if row.status is not None]
            cover = Coverage(
                teacher_id=generation.teacher_id,
                wanted=sum(row.number for row in rows),
                counts={row.status: row.number for row in given},
                retries=sum(int(row.retries) for row in given),
                completion_tokens=sum(int(row.completion_tokens) for row in given),
                cost=sum(row.cost for row in given),
            )
            found.append(cover)
        last = connection.execute(select(func.max(ResponseRow.id))).scalar() or 0
    return [replace(cover, last_id=last) for cover in found]


def since(store: Store, job_id: int, after_id: int) -> dict[int, dict[str, tuple[int, float]]]:
    """What a job has stored after a response: teacher id → status → (how many, dollars).

    A response in place of an `error` keeps that one's id, and is not among them.
    """
    query = (
        select(ResponseRow.teacher_id, ResponseRow.status, func.count(), func.sum(ResponseRow.cost))
        .where(ResponseRow.id > after_id, ResponseRow.job_id == job_id, ResponseRow.sample == 0)
        .group_by(ResponseRow.teacher_id, ResponseRow.status)
    )
    found: dict[int, dict[str, tuple[int, float]]] = {}
    for teacher_id, status, count, dollars in store.rows(query):
        found.setdefault(teacher_id, {})[status] = (count, dollars)
    return found


def of_prompts(
    store: Store, prompt_ids: Sequence[int], generations: Sequence[Generation]
) -> dict[int, dict[int, StoredResponse]]:
    """The responses to these prompts, by prompt id and then teacher id; what does not exist is left out."""
    query = select(*RESPONSE).where(of_generations(store, generations))
    found: dict[int, dict[int, StoredResponse]] = {}
    for part in chunks(dict.fromkeys(prompt_ids)):
        for response in RESPONSE.all(store, query.where(ResponseRow.prompt_id.in_(part))):
            found.setdefault(response.prompt_id, {})[response.teacher_id] = response
    return found


def ids_of_prompt(store: Store, prompt_id: int, limit: int = 100) -> list[int]:
    """The ids of the newest responses to a prompt, by teacher name; every sample and every setting counts."""
    newest = (
        select(ResponseRow.id, ResponseRow.teacher_id)
        .where(ResponseRow.prompt_id == prompt_id)
        .order_by(ResponseRow.id.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        select(newest.c.id)
        .join(ModelRow, ModelRow.id == newest.c.teacher_id)
        .order_by(ModelRow.name, newest.c.id)
    )
    return store.scalars(query)


def count_of_teacher(store: Store, teacher_id: int) -> int:
    """How many responses of this model are stored."""
    return store.number(
        select(func.count()).select_from(ResponseRow).where(ResponseRow.teacher_id == teacher_id)
    )


def newest_id(store: Store) -> int:
    """The highest response id; 0 for an empty store."""
    return store.number(select(func.coalesce(func.max(ResponseRow.id), 0)))


def count_above(store: Store, response_id: int) -> int:
    """How many responses came after this one."""
    return store.number(select(func.count()).select_from(ResponseRow).where(ResponseRow.id > response_id))
