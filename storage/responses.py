"""Responses: what is missing, what came in, and how to look at it.

Pending work is never queued: it is what the prompts have and the responses lack. A response is unique by
(prompt, teacher, sample, generation hash); storing it again changes nothing, except that an `error` row gives
way to the next attempt.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
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

from storage.browse import browse as browse
from storage.browse import get as get
from storage.job_records import Lease
from storage.records import Coverage, Generation, NewResponse, Prompt, ResponseCount, Split, StoredResponse
from storage.rows import PROMPT, RESPONSE, SPLITS, by, chunks, merged, prompt_of, response_of, stored
from storage.schema import AssignmentRow, GenerationRow, MemberRow, PromptRow, ResponseRow, SearchQueueRow
from storage.store import Store, insert
from storage.text import clean

_KEY = ["prompt_id", "teacher_id", "sample", "generation_id"]


def _answer(
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


def _pending(columns: Sequence[Any], set_id: int, generation: Generation, max_attempts: int) -> Select[Any]:
    return (
        select(*columns)
        .select_from(MemberRow)
        .outerjoin(ResponseRow, _answer(MemberRow.prompt_id, generation))
        .where(MemberRow.prompt_set_id == set_id, _missing(max_attempts))
    )


def pending(
    store: Store,
    set_id: int,
    splits: Sequence[Split] | None,
    generation: Generation,
    *,
    max_attempts: int = 3,
    after: int = -1,
    limit: int = 500,
) -> list[tuple[int, Prompt]]:
    """The next prompts without a final answer of this generation, with their ordinals, in order.

    Args:
        store: an open store.
        set_id: the prompt set.
        splits: only these; None for all.
        generation: the teacher and the hash of its settings.
        max_attempts: an `error` row with fewer attempts is asked again.
        after: the last ordinal already seen.
        limit: how many at most.
    """
    pages: list[list[tuple[int, Prompt]]] = []
    with store.read() as connection:
        for split in splits or SPLITS:
            rows = connection.execute(
                _pending((MemberRow.ordinal, *PROMPT), set_id, generation, max_attempts)
                .join(PromptRow, PromptRow.id == MemberRow.prompt_id)
                .where(MemberRow.split == split, MemberRow.ordinal > after)
                .order_by(MemberRow.ordinal)
                .limit(limit)
            )
            pages.append([(row[0], prompt_of(row, 1, split)) for row in rows])
    return merged(pages, key=lambda item: item[0], limit=limit)


def count_pending(
    store: Store,
    set_id: int,
    splits: Sequence[Split] | None,
    generation: Generation,
    *,
    max_attempts: int = 3,
) -> int:
    """How many prompts `pending` would give in all."""
    query = _pending((func.count(),), set_id, generation, max_attempts).where(
        MemberRow.split.in_(splits or SPLITS)
    )
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def _assigned(plan_id: int, generation: Generation, max_attempts: int, after: int, limit: int) -> Select[Any]:
    return (
        select(AssignmentRow.prompt_id)
        .distinct()
        .outerjoin(ResponseRow, _answer(AssignmentRow.prompt_id, generation))
        .where(
            AssignmentRow.plan_id == plan_id,
            AssignmentRow.teacher_id == generation[0],
            AssignmentRow.prompt_id > after,
            _missing(max_attempts),
        )
        .order_by(AssignmentRow.prompt_id)
        .limit(limit)
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
    """The next prompts that any of the plans gives to this teacher and that lack its final answer, by id.

    Args:
        store: an open store.
        plan_ids: the plans; a prompt that several of them give to the teacher comes once.
        generation: the teacher and the hash of its settings.
        max_attempts: an `error` row with fewer attempts is asked again.
        limit: how many at most.
        after_prompt_id: the last prompt already seen.
    """
    pages: list[list[int]] = []
    found: dict[int, Prompt] = {}
    with store.read() as connection:
        for plan_id in dict.fromkeys(plan_ids):
            rows = connection.execute(_assigned(plan_id, generation, max_attempts, after_prompt_id, limit))
            pages.append([row[0] for row in rows])
        ids = merged(pages, key=lambda item: item, limit=limit)
        for part in chunks(ids):
            for row in connection.execute(select(*PROMPT).where(PromptRow.id.in_(part))):
                found[row[0]] = prompt_of(row)
    return [found[identifier] for identifier in ids]


def count_pending_assigned(
    store: Store, plan_ids: Sequence[int], generation: Generation, *, max_attempts: int = 3
) -> int:
    """How many prompts `pending_assigned` would give in all."""
    query = (
        select(func.count(func.distinct(AssignmentRow.prompt_id)))
        .select_from(AssignmentRow)
        .outerjoin(ResponseRow, _answer(AssignmentRow.prompt_id, generation))
        .where(
            AssignmentRow.plan_id.in_(plan_ids),
            AssignmentRow.teacher_id == generation[0],
            _missing(max_attempts),
        )
    )
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


# In the table's own order, which is the order of the compiled statement's parameters.
_STORED = (
    "prompt_id",
    "teacher_id",
    "sample",
    "generation_id",
    "status",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "latency_s",
    "cost",
    "attempts",
    "job_id",
    "created_at",
    "text",
    "reasoning",
    "error",
)


def _values(row: NewResponse, numbers: dict[str, int], clock: float) -> tuple[Any, ...]:
    """The row's values in the order of `_STORED`, storable as they are."""
    answer = row.completion
    return (
        row.prompt_id,
        row.teacher_id,
        row.sample,
        numbers[row.generation_sha],
        answer.status,
        clean(answer.finish_reason),
        answer.prompt_tokens,
        answer.completion_tokens,
        answer.latency_s,
        row.cost,
        1,
        row.job_id,
        clock,
        clean(answer.text),
        clean(answer.reasoning),
        clean(answer.error),
    )


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
    found = {row[0]: row[1] for row in connection.execute(query)}
    new = [{"sha": digest} for digest in digests if digest not in found]
    if new:
        connection.execute(store.insert(GenerationRow).on_conflict_do_nothing(), new)
        found = {row[0]: row[1] for row in connection.execute(query)}
    return found


def add(store: Store, lease: Lease | None, rows: Sequence[NewResponse]) -> int:
    """How many of the responses were stored (new, or in place of an `error` row), in one transaction.

    Args:
        store: an open store.
        lease: the job's lease.
        rows: up to a few hundred; a response that is already stored is left as it is.

    Raises:
        FencedError: the job belongs to another process now; nothing was stored.
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
        values: Any = sorted((_values(row, numbers, clock) for row in rows), key=lambda value: value[:4])
        if dialect.paramstyle != "qmark":
            values = [dict(zip(_STORED, row, strict=True)) for row in values]
        count = connection.exec_driver_sql(_upsert(dialect), values).rowcount
        for part in chunks(failed):
            # Their ids lie below the word index's mark: say that there is text now.
            mended = select(ResponseRow.id).where(ResponseRow.id.in_(part), ResponseRow.status != "error")
            connection.execute(
                store.insert(SearchQueueRow).from_select(["response_id"], mended).on_conflict_do_nothing()
            )
    return count


def counts(
    store: Store,
    generations: Sequence[Generation],
    prompt_set_id: int,
    splits: Sequence[Split] | None = None,
) -> list[ResponseCount]:
    """Counts and sums per teacher and status over the prompt set, ordered by teacher and status.

    Args:
        store: an open store.
        generations: which answers to count.
        prompt_set_id: over which prompts.
        splits: only these; None for all.
    """
    found: list[ResponseCount] = []
    with store.read() as connection:
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
                .join(ResponseRow, _answer(MemberRow.prompt_id, generation))
                .where(MemberRow.prompt_set_id == prompt_set_id, MemberRow.split.in_(splits or SPLITS))
                .group_by(ResponseRow.status)
            )
            rows: Any = connection.execute(query)
            for status, count, prompt_tokens, completion_tokens, cost, latency in rows:
                found.append(
                    ResponseCount(
                        teacher_id=generation[0],
                        status=status,
                        count=count,
                        prompt_tokens=int(prompt_tokens),
                        completion_tokens=int(completion_tokens),
                        cost=cost,
                        latency_s=latency,
                    )
                )
    return sorted(found, key=lambda item: (item.teacher_id, item.status))


def coverage(
    store: Store,
    generations: Sequence[Generation],
    prompt_set_id: int,
    splits: Sequence[Split],
    plan_ids: Sequence[int],
) -> list[Coverage]:
    """What each teacher has to answer and how much of it is there, in the order of `generations`.

    Args:
        store: an open store.
        generations: the teachers with the hashes of their settings.
        prompt_set_id: the prompts.
        splits: those that every teacher answers.
        plan_ids: each teacher also answers what any of these plans gives it, fallbacks included.
    """
    found = []
    with store.read() as connection:
        for generation in generations:
            wanted = union(
                select(MemberRow.prompt_id).where(
                    MemberRow.prompt_set_id == prompt_set_id, MemberRow.split.in_(splits)
                ),
                select(AssignmentRow.prompt_id).where(
                    AssignmentRow.plan_id.in_(plan_ids), AssignmentRow.teacher_id == generation[0]
                ),
            ).subquery()
            rows = connection.execute(
                select(
                    ResponseRow.status,
                    func.count(),
                    func.sum(ResponseRow.attempts - 1),
                    func.sum(ResponseRow.completion_tokens),
                    func.sum(ResponseRow.cost),
                )
                .select_from(wanted)
                .outerjoin(ResponseRow, _answer(wanted.c.prompt_id, generation))
                .group_by(ResponseRow.status)
            ).all()
            answered = [row for row in rows if row[0] is not None]
            found.append(
                Coverage(
                    teacher_id=generation[0],
                    wanted=sum(row[1] for row in rows),
                    counts={row[0]: row[1] for row in answered},
                    retries=sum(int(row[2]) for row in answered),
                    completion_tokens=sum(int(row[3]) for row in answered),
                    cost=sum(row[4] for row in answered),
                )
            )
        last = connection.execute(select(func.max(ResponseRow.id))).scalar() or 0
    return [replace(cover, last_id=last) for cover in found]


def since(store: Store, job_id: int, after_id: int) -> dict[int, dict[str, tuple[int, float]]]:
    """What a job has stored after a response: teacher id → status → (how many, dollars).

    An answer in place of an `error` keeps that one's id, and is not among them.
    """
    found: dict[int, dict[str, tuple[int, float]]] = {}
    with store.read() as connection:
        rows = connection.execute(
            select(ResponseRow.teacher_id, ResponseRow.status, func.count(), func.sum(ResponseRow.cost))
            .where(ResponseRow.id > after_id, ResponseRow.job_id == job_id, ResponseRow.sample == 0)
            .group_by(ResponseRow.teacher_id, ResponseRow.status)
        )
        for teacher_id, status, count, dollars in rows:
            found.setdefault(teacher_id, {})[status] = (count, dollars)
    return found


def of_prompts(
    store: Store, prompt_ids: Sequence[int], generations: Sequence[Generation]
) -> dict[int, dict[int, StoredResponse]]:
    """The responses to these prompts, by prompt id and then teacher id; what does not exist is left out.

    Args:
        store: an open store.
        prompt_ids: a page of prompts.
        generations: one per teacher.
    """
    found: dict[int, dict[int, StoredResponse]] = {}
    with store.read() as connection:
        known = stored(connection, generations)
        for part in chunks(dict.fromkeys(prompt_ids)):
            query = select(*RESPONSE).where(ResponseRow.prompt_id.in_(part), by(known))
            for row in connection.execute(query):
                response = response_of(row)
                found.setdefault(response.prompt_id, {})[response.teacher_id] = response
    return found
