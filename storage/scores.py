"""Scores: what a scorer has not seen yet, what it said, and the matrix that rewards are made of."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Select, and_, func, literal, or_, select
from sqlalchemy import insert as insert_rows

from storage.errors import StoreError
from storage.hashing import sha
from storage.job_records import Lease
from storage.records import Generation, Scorable, Score, Split
from storage.rows import PROMPT, SPLITS, by, chunks, merged, prompt_of, stored
from storage.schema import AssignmentRow, MemberRow, PromptRow, ResponseRow, ScoreRow, ScorerRow
from storage.store import Store

AGAIN = ("error", "unreadable")
"""Statuses of verdicts that are not the last word."""


@dataclass(frozen=True, slots=True)
class ScoreMatrix:
    """One scorer's values over prompts × teachers."""

    prompt_ids: npt.NDArray[np.int64]
    """(B,), in the set's order."""
    values: npt.NDArray[np.float64]
    """(B, M), teachers in the order asked for; NaN where there is no `ok` score."""
    asked: npt.NDArray[np.bool_]
    """(B, M), True where the teacher has a response that is not an `error`."""
    usable: npt.NDArray[np.bool_]
    """(B, M), True where that response is `ok`."""


def put_scorer(store: Store, kind: str, identity: Mapping[str, Any], model_id: int | None = None) -> int:
    """The id of the scorer of this kind and identity, registered when it is new.

    Args:
        store: an open store.
        kind: file name of the scorer in `engine.scorers.scorer_kinds`.
        identity: everything that shapes its scores, versions included.
        model_id: the student or reward model behind it; None for scorers without a model.
    """
    found = find_scorer(store, kind, identity, model_id)
    if found is not None:
        return found
    digest = _digest(kind, identity, model_id)
    with store.write() as connection:
        connection.execute(
            store.insert(ScorerRow)
            .values(sha=digest, kind=kind, identity=dict(identity), model_id=model_id)
            .on_conflict_do_nothing(index_elements=["sha"])
        )
        return connection.execute(select(ScorerRow.id).where(ScorerRow.sha == digest)).scalar_one()


def find_scorer(
    store: Store, kind: str, identity: Mapping[str, Any], model_id: int | None = None
) -> int | None:
    """As `put_scorer`; None when it is not registered, and nothing is written."""
    with store.read() as connection:
        return connection.execute(
            select(ScorerRow.id).where(ScorerRow.sha == _digest(kind, identity, model_id))
        ).scalar()


def _digest(kind: str, identity: Mapping[str, Any], model_id: int | None) -> str:
    return sha({"kind": kind, "identity": identity, "model_id": model_id})


def any_by(store: Store, scorer_id: int) -> bool:
    """Whether the scorer has given any response a score."""
    with store.read() as connection:
        found = select(ScoreRow.response_id).where(ScoreRow.scorer_id == scorer_id, ScoreRow.status == "ok")
        return connection.execute(found.limit(1)).first() is not None


def count_failed(store: Store, scorer_id: int, generations: Sequence[Generation], prompt_set_id: int) -> int:
    """How many of these answers' verdicts ended in an error, or unreadable, and may be asked for again."""
    with store.read() as connection:
        query = _answers(connection, (func.count(),), scorer_id, generations, prompt_set_id, None)
        failed = query.where(ScoreRow.status.in_(AGAIN), ScoreRow.detail["attempts"].as_integer() > 0)
        return int(connection.execute(failed).scalar_one())


def count(
    store: Store, scorer_id: int | None, generations: Sequence[Generation], prompt_set_id: int
) -> tuple[int, int]:
    """(answers with a text, how many of them the scorer has given a verdict on); None: one that is not stored."""
    with store.read() as connection:
        columns = func.count(), func.count(ScoreRow.response_id).filter(ScoreRow.status != "error")
        where = (-1 if scorer_id is None else scorer_id, generations, prompt_set_id, None)
        answers, scored = connection.execute(_answers(connection, columns, *where)).one()
        return int(answers), int(scored)


def statuses(
    store: Store, scorer_id: int, generations: Sequence[Generation], prompt_set_id: int
) -> dict[str, int]:
    """How many verdicts on these answers a scorer has given, by status."""
    with store.read() as connection:
        columns = (ScoreRow.status, func.count().label("number"))
        query = _answers(connection, columns, scorer_id, generations, prompt_set_id, None)
        rows = connection.execute(query.where(ScoreRow.status.is_not(None)).group_by(ScoreRow.status))
        return {row.status: row.number for row in rows}


def _answers(
    connection: Connection,
    columns: Sequence[Any],
    scorer_id: int,
    generations: Sequence[Generation],
    prompt_set_id: int,
    plan_ids: Sequence[int] | None,
) -> Select[Any]:
    query = (
        select(*columns)
        .select_from(MemberRow)
        .join(
            ResponseRow,
            and_(ResponseRow.prompt_id == MemberRow.prompt_id, by(stored(connection, generations))),
        )
        .outerjoin(ScoreRow, and_(ScoreRow.response_id == ResponseRow.id, ScoreRow.scorer_id == scorer_id))
        .where(
            MemberRow.prompt_set_id == prompt_set_id,
            ResponseRow.status == "ok",
        )
    )
    if plan_ids is not None:
        query = query.where(
            select(AssignmentRow.attempt)
            .where(
                AssignmentRow.plan_id.in_(plan_ids),
                AssignmentRow.prompt_id == ResponseRow.prompt_id,
                AssignmentRow.teacher_id == ResponseRow.teacher_id,
            )
            .exists()
        )
    return query


def _unscored(max_attempts: int, *where: Any) -> Select[Any]:
    attempts = ScoreRow.detail["attempts"].as_integer()  # NULL where the scorer does not count them
    again = and_(ScoreRow.status.in_(AGAIN), attempts < max_attempts)
    return _answers(*where).where(or_(ScoreRow.response_id.is_(None), again))


def pending(
    store: Store,
    scorer_id: int,
    generations: Sequence[Generation],
    prompt_set_id: int,
    splits: Sequence[Split] | None,
    *,
    plan_ids: Sequence[int] | None = None,
    after: tuple[int, int] = (-1, 0),
    limit: int = 500,
    whole: bool = False,
    max_attempts: int = 1,
) -> list[Scorable]:
    """The next `ok` responses without a score, by (ordinal, teacher id): one prompt's answers come together.

    Args:
        store: an open store.
        scorer_id: from `put_scorer`.
        generations: whose answers.
        prompt_set_id: to which prompts.
        splits: only these; None for all.
        plan_ids: only answers that one of these plans assigned; None for all.
        after: (ordinal, teacher id) of the last one already seen.
        limit: how many at most.
        whole: with the answers to the same prompts that have a score already.
        max_attempts: a verdict of a status in `AGAIN` that counts fewer `attempts` is asked for again.
    """
    columns = (
        MemberRow.ordinal,
        ResponseRow.id,
        ResponseRow.teacher_id,
        ResponseRow.text,
        ResponseRow.reasoning,
        *PROMPT,
    )
    ordinal, teacher = after
    pages: list[list[Scorable]] = []
    with store.read() as connection:
        where = (scorer_id, generations, prompt_set_id, plan_ids)
        query = _unscored(max_attempts, connection, columns, *where)
        if whole:
            prompts = _unscored(max_attempts, connection, (MemberRow.prompt_id,), *where)
            query = _answers(connection, columns, *where).where(MemberRow.prompt_id.in_(prompts))
        for split in splits or SPLITS:
            rows = connection.execute(
                query.join(PromptRow, PromptRow.id == MemberRow.prompt_id)
                .where(
                    MemberRow.split == split,
                    MemberRow.ordinal >= ordinal,
                    or_(MemberRow.ordinal > ordinal, ResponseRow.teacher_id > teacher),
                )
                .order_by(MemberRow.ordinal, ResponseRow.teacher_id)
                .limit(limit)
            )
            pages.append([Scorable(row[0], prompt_of(row, 5, split), *row[1:5]) for row in rows])
    return merged(pages, key=lambda item: (item.ordinal, item.teacher_id, item.response_id), limit=limit)


def count_pending(
    store: Store,
    scorer_id: int,
    generations: Sequence[Generation],
    prompt_set_id: int,
    splits: Sequence[Split] | None,
    *,
    plan_ids: Sequence[int] | None = None,
    max_attempts: int = 1,
) -> int:
    """How many responses `pending` would give in all."""
    with store.read() as connection:
        where = (scorer_id, generations, prompt_set_id, plan_ids)
        query = _unscored(max_attempts, connection, (func.count(),), *where)
        return int(connection.execute(query.where(MemberRow.split.in_(splits or SPLITS))).scalar_one())


def cost(store: Store, generations: Sequence[Generation], prompt_set_id: int, scorer_id: int) -> float:
    """Dollars that this scorer's verdicts on these answers have cost, as each says in `detail`."""
    with store.read() as connection:
        query = (
            select(func.sum(ScoreRow.detail["cost"].as_float()))
            .select_from(MemberRow)
            .join(
                ResponseRow,
                and_(ResponseRow.prompt_id == MemberRow.prompt_id, by(stored(connection, generations))),
            )
            .join(ScoreRow, and_(ScoreRow.response_id == ResponseRow.id, ScoreRow.scorer_id == scorer_id))
            .where(MemberRow.prompt_set_id == prompt_set_id)
        )
        return float(connection.execute(query).scalar() or 0.0)


def add(store: Store, lease: Lease | None, scorer_id: int, rows: Sequence[tuple[int, Score]]) -> int:
    """How many scores are new, in one transaction; a response that has one keeps it.

    Args:
        store: an open store.
        lease: the job's lease.
        scorer_id: from `put_scorer`.
        rows: (response id, verdict).

    Raises:
        StoreError: a value is NaN or infinite, or an `ok` verdict has none; nothing was stored.
    """
    if not rows:
        return 0
    with store.write(lease) as connection:
        return insert(store, connection, scorer_id, rows)


def insert(store: Store, connection: Connection, scorer_id: int, rows: Sequence[tuple[int, Score]]) -> int:
    """As `add`, in a transaction that is open."""
    for response_id, verdict in rows:
        numbers = [number for number in (verdict.value, verdict.sum) if number is not None]
        if not all(math.isfinite(number) for number in numbers) or (
            verdict.status == "ok" and verdict.value is None
        ):
            raise StoreError(
                f"the score of response {response_id} is {verdict.value} with sum {verdict.sum}",
                "A scorer must give a finite value, or say in `status` why there is none.",
            )
    values = [
        {
            "response_id": response_id,
            "scorer_id": scorer_id,
            "value": None if verdict.value is None else float(verdict.value),
            "sum": None if verdict.sum is None else float(verdict.sum),
            "count": verdict.count,
            "status": verdict.status,
            "detail": dict(verdict.detail),
        }
        for response_id, verdict in rows
    ]
    if not values:
        return 0
    return connection.execute(store.insert(ScoreRow).on_conflict_do_nothing(), values).rowcount


def twins(store: Store, scorer_id: int, prompt_ids: Sequence[int]) -> list[tuple[int, str, str, Score]]:
    """(prompt id, text, reasoning, verdict) of answers to these prompts that the scorer has given its last word on."""
    found = []
    columns = (ScoreRow.value, ScoreRow.sum, ScoreRow.count, ScoreRow.status, ScoreRow.detail)
    with store.read() as connection:
        for part in chunks(prompt_ids):
            rows = connection.execute(
                select(ResponseRow.prompt_id, ResponseRow.text, ResponseRow.reasoning, *columns)
                .join(ScoreRow, ScoreRow.response_id == ResponseRow.id)
                .where(
                    ResponseRow.prompt_id.in_(part),
                    ScoreRow.scorer_id == scorer_id,
                    ScoreRow.status.not_in(AGAIN),
                )
                .order_by(ResponseRow.id)
            )
            found += [(row[0], row[1], row[2], Score(*row[3:])) for row in rows]
    return found


def carry_over(store: Store, lease: Lease, old_id: int, new_id: int) -> int:
    """How many scores a scorer has got from another that differs only in seeing reasoning: of answers without any.

    Args:
        store: an open store.
        lease: the job's lease.
        old_id: the scorer whose scores are valid for the other one as well.
        new_id: the other one; what it has it keeps.
    """
    has = select(ScoreRow.response_id).where(ScoreRow.scorer_id == new_id)
    kept = [column for column in ScoreRow.__table__.c if column.name != "scorer_id"]
    valid = (
        select(*kept, literal(new_id))
        .join(ResponseRow, ResponseRow.id == ScoreRow.response_id)
        .where(ScoreRow.scorer_id == old_id, ResponseRow.reasoning == "", ScoreRow.response_id.not_in(has))
    )
    with store.write(lease) as connection:
        names = [*(column.name for column in kept), "scorer_id"]
        return connection.execute(insert_rows(ScoreRow).from_select(names, valid)).rowcount


def matrix_pages(
    store: Store,
    prompt_set_id: int,
    splits: Sequence[Split] | None,
    generations: Sequence[Generation],
    scorer_id: int,
    page: int = 5000,
    prompt_id: int | None = None,
) -> Iterator[ScoreMatrix]:
    """The score matrix in pages of at most `page` prompts, in the set's order.

    Args:
        store: an open store.
        prompt_set_id: the prompts.
        splits: only these; None for all.
        generations: the M columns, in order.
        scorer_id: whose scores.
        page: prompts a page.
        prompt_id: only this prompt, where it is in these splits; None for all.
    """
    if len(set(generations)) != len(generations):
        raise StoreError("a teacher is asked for twice in a score matrix", "Name every generation once.")
    after = -1
    while True:
        with store.read() as connection:
            query = select(MemberRow.ordinal, MemberRow.prompt_id).where(
                MemberRow.prompt_set_id == prompt_set_id,
                MemberRow.split.in_(splits or SPLITS),
                MemberRow.ordinal > after,
            )
            if prompt_id is not None:
                query = query.where(MemberRow.prompt_id == prompt_id)
            members = connection.execute(query.order_by(MemberRow.ordinal).limit(page)).all()
            if not members:
                return
            ids = np.asarray([member.prompt_id for member in members], dtype=np.int64)
            made = ScoreMatrix(
                prompt_ids=ids,
                values=np.full((len(ids), len(generations)), np.nan),
                asked=np.zeros((len(ids), len(generations)), dtype=np.bool_),
                usable=np.zeros((len(ids), len(generations)), dtype=np.bool_),
            )
            known = {item: key for key, item in stored(connection, generations).items()}
            order = np.argsort(ids)
            for place, generation in enumerate(Generation(*item) for item in generations):
                if generation not in known:
                    continue
                cells = _column(connection, members, known[generation], prompt_set_id, splits, scorer_id)
                if not cells:
                    continue
                prompt_ids, statuses, values, verdicts = zip(*cells, strict=True)
                lines = order[np.searchsorted(ids, np.asarray(prompt_ids), sorter=order)]
                status = np.asarray(statuses)
                made.asked[lines, place] = status != "error"
                made.usable[lines, place] = status == "ok"
                scored = np.asarray(verdicts) == "ok"
                made.values[lines[scored], place] = np.asarray(values, dtype=np.float64)[scored]
        yield made
        after = members[-1].ordinal


def _column(
    connection: Connection,
    members: Sequence[Any],
    key: tuple[int, int],
    prompt_set_id: int,
    splits: Sequence[Split] | None,
    scorer_id: int,
) -> Sequence[Any]:
    """(prompt id, status, value, verdict) of one generation's answers between the first and last member."""
    return connection.execute(
        select(ResponseRow.prompt_id, ResponseRow.status, ScoreRow.value, ScoreRow.status)
        .select_from(MemberRow)
        .join(ResponseRow, and_(ResponseRow.prompt_id == MemberRow.prompt_id, by([key])))
        .outerjoin(ScoreRow, and_(ScoreRow.response_id == ResponseRow.id, ScoreRow.scorer_id == scorer_id))
        .where(
            MemberRow.prompt_set_id == prompt_set_id,
            MemberRow.split.in_(splits or SPLITS),
            MemberRow.ordinal >= members[0].ordinal,
            MemberRow.ordinal <= members[-1].ordinal,
        )
    ).all()


def matrix(
    store: Store,
    prompt_set_id: int,
    splits: Sequence[Split] | None,
    generations: Sequence[Generation],
    scorer_id: int,
    prompt_id: int | None = None,
) -> ScoreMatrix:
    """The whole score matrix, or a prompt's: 10 bytes a cell. Use `matrix_pages` where a page at a time will do."""
    parts = list(matrix_pages(store, prompt_set_id, splits, generations, scorer_id, prompt_id=prompt_id))
    empty = (0, len(generations))
    return ScoreMatrix(
        np.concatenate([np.zeros(0, np.int64), *(part.prompt_ids for part in parts)]),
        np.concatenate([np.zeros(empty), *(part.values for part in parts)]),
        np.concatenate([np.zeros(empty, np.bool_), *(part.asked for part in parts)]),
        np.concatenate([np.zeros(empty, np.bool_), *(part.usable for part in parts)]),
    )


def of_responses(
    store: Store, response_ids: Sequence[int], scorer_ids: Sequence[int]
) -> dict[tuple[int, int], float]:
    """(response id, scorer id) → value, for the scores that there are and that are `ok`."""
    found: dict[tuple[int, int], float] = {}
    with store.read() as connection:
        for part in chunks(response_ids):
            rows = connection.execute(
                select(ScoreRow.response_id, ScoreRow.scorer_id, ScoreRow.value).where(
                    ScoreRow.response_id.in_(part),
                    ScoreRow.scorer_id.in_(scorer_ids),
                    ScoreRow.status == "ok",
                )
            )
            found.update({(row.response_id, row.scorer_id): row.value for row in rows})
    return found
