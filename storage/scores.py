"""Scores: what a scorer has not seen yet, and what it said."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, and_, func, literal, or_, select
from sqlalchemy import insert as insert_rows

from storage.errors import StoreError
from storage.hashing import sha
from storage.job_records import Lease
from storage.records import Generation, Scorable, Score, Split, StoredScore
from storage.rows import PROMPT, SPLITS, Columns, chunks, merged, of_generations
from storage.schema import AssignmentRow, MemberRow, PromptRow, ResponseRow, ScoreRow, ScorerRow
from storage.store import Store

AGAIN = ("error", "unreadable")
"""Statuses of scores that may be asked for again."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One scorer and the responses that it is asked about: the first samples of some teachers to a set's prompts."""

    scorer_id: int | None
    """From `put_scorer`; None for one that is not stored, which has given no scores."""
    generations: Sequence[Generation]
    """Whose responses."""
    prompt_set_id: int
    splits: Sequence[Split] | None = None
    """Only responses to prompts of these; None for all."""
    plan_ids: Sequence[int] | None = None
    """Only responses that one of these plans assigned; None for all."""


_SCORE = Columns(Score, ScoreRow)


def put_scorer(store: Store, kind: str, identity: Mapping[str, Any], model_id: int | None = None) -> int:
    """The id of the scorer of this kind and identity, registered when it is new.

    Args:
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
    digest = _digest(kind, identity, model_id)
    return next(iter(store.scalars(select(ScorerRow.id).where(ScorerRow.sha == digest))), None)


def _digest(kind: str, identity: Mapping[str, Any], model_id: int | None) -> str:
    return sha({"kind": kind, "identity": identity, "model_id": model_id})


def any_by(store: Store, scorer_id: int) -> bool:
    """Whether the scorer has given any response a score."""
    found = select(ScoreRow.response_id).where(ScoreRow.scorer_id == scorer_id, ScoreRow.status == "ok")
    return bool(store.scalars(found.limit(1)))


def count_failed(store: Store, scored: Scored) -> int:
    """How many scores ended in an error, or unreadable, and may be asked for again."""
    query = select_responses(store, (func.count(),), scored)
    attempts = ScoreRow.detail["attempts"].as_integer()
    return store.number(query.where(ScoreRow.status.in_(AGAIN), attempts > 0))


def count(store: Store, scored: Scored) -> tuple[int, int]:
    """(usable responses, how many of them the scorer has given a score that is no error)."""
    columns = func.count(), func.count(ScoreRow.response_id).filter(ScoreRow.status != "error")
    ((responses, given),) = store.rows(select_responses(store, columns, scored))
    return responses, given


def statuses(store: Store, scored: Scored) -> dict[str, int]:
    """How many scores there are, by status."""
    query = select_responses(store, (ScoreRow.status, func.count().label("number")), scored)
    rows = store.rows(query.where(ScoreRow.status.is_not(None)).group_by(ScoreRow.status))
    return {row.status: row.number for row in rows}


def cost(store: Store, scored: Scored) -> float:
    """Dollars that the scores have cost, as each says in `detail`; of responses of any status."""
    cost = func.sum(ScoreRow.detail["cost"].as_float())
    (dollars,) = store.scalars(select_responses(store, (cost,), scored, usable=False))
    return float(dollars or 0)


def select_responses(
    store: Store, columns: Sequence[Any], scored: Scored, usable: bool = True
) -> Select[Any]:
    """Selects from the responses, outer joined to the scorer's scores on them."""
    given = and_(ResponseRow.prompt_id == MemberRow.prompt_id, of_generations(store, scored.generations))
    same = and_(ScoreRow.response_id == ResponseRow.id, ScoreRow.scorer_id == scored.scorer_id)
    query = (
        select(*columns)
        .select_from(MemberRow)
        .join(ResponseRow, given)
        .outerjoin(ScoreRow, same)
        .where(MemberRow.prompt_set_id == scored.prompt_set_id)
    )
    if usable:
        query = query.where(ResponseRow.status == "ok")
    if scored.splits is not None:
        query = query.where(MemberRow.split.in_(scored.splits))
    if scored.plan_ids is not None:
        query = query.where(
            select(AssignmentRow.attempt)
            .where(
                AssignmentRow.plan_id.in_(scored.plan_ids),
                AssignmentRow.prompt_id == ResponseRow.prompt_id,
                AssignmentRow.teacher_id == ResponseRow.teacher_id,
            )
            .exists()
        )
    return query


def _unscored(store: Store, columns: Sequence[Any], scored: Scored, max_attempts: int) -> Select[Any]:
    attempts = ScoreRow.detail["attempts"].as_integer()  # NULL where the scorer does not count them
    again = and_(ScoreRow.status.in_(AGAIN), attempts < max_attempts)
    return select_responses(store, columns, scored).where(or_(ScoreRow.response_id.is_(None), again))


def pending(
    store: Store,
    scored: Scored,
    *,
    after: tuple[int, int] = (-1, 0),
    limit: int = 500,
    whole: bool = False,
    max_attempts: int = 1,
) -> list[Scorable]:
    """The next usable responses without a score, by (ordinal, teacher id): those to one prompt come together.

    Args:
        scored: which responses, for which scorer.
        after: (ordinal, teacher id) of the last one already seen.
        limit: how many at most.
        whole: with the responses to the same prompts that have a score already.
        max_attempts: a score of a status in `AGAIN` that counts fewer `attempts` is asked for again.
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
    for split in scored.splits or SPLITS:
        here = replace(scored, splits=(split,))
        query = _unscored(store, columns, here, max_attempts)
        if whole:
            prompts = _unscored(store, (MemberRow.prompt_id,), scored, max_attempts)
            query = select_responses(store, columns, here).where(MemberRow.prompt_id.in_(prompts))
        query = query.join(PromptRow, PromptRow.id == MemberRow.prompt_id)
        later = or_(MemberRow.ordinal > ordinal, ResponseRow.teacher_id > teacher)
        query = query.where(MemberRow.ordinal >= ordinal, later)
        with store.read() as connection:
            result = connection.execute(
                query.order_by(MemberRow.ordinal, ResponseRow.teacher_id).limit(limit)
            )
            prompt = PROMPT.reader(result, split=split)
            pages.append(
                [
                    Scorable(row.ordinal, prompt(row), row.id, row.teacher_id, row.text, row.reasoning)
                    for row in result
                ]
            )
    return merged(pages, key=lambda item: (item.ordinal, item.teacher_id, item.response_id), limit=limit)


def count_pending(store: Store, scored: Scored, *, max_attempts: int = 1) -> int:
    """How many responses `pending` would give in all."""
    return store.number(_unscored(store, (func.count(),), scored, max_attempts))


def pending_characters(store: Store, scored: Scored, *, reasoning: bool) -> int:
    """Characters of the responses that have no score yet; with those of their reasoning, if asked."""
    length = func.length(ResponseRow.text) + (func.length(ResponseRow.reasoning) if reasoning else 0)
    return store.number(_unscored(store, (func.coalesce(func.sum(length), 0),), scored, 1))


def add(store: Store, lease: Lease | None, scorer_id: int, rows: Sequence[tuple[int, Score]]) -> int:
    """How many of these (response id, score) are new, in one transaction; a response that has a score keeps it.

    Raises:
        StoreError: a value is NaN or infinite, or an `ok` score has none; nothing was stored.
    """
    if not rows:
        return 0
    with store.write(lease) as connection:
        return insert(store, connection, scorer_id, rows)


def insert(store: Store, connection: Connection, scorer_id: int, rows: Sequence[tuple[int, Score]]) -> int:
    """As `add`, in a transaction that is open."""
    for response_id, score in rows:
        numbers = [number for number in (score.value, score.sum) if number is not None]
        if not all(math.isfinite(number) for number in numbers) or (
            score.status == "ok" and score.value is None
        ):
            raise StoreError(
                f"the score of response {response_id} is {score.value} with sum {score.sum}",
                "A scorer must give a finite value, or say in `status` why there is none.",
            )
    if not rows:
        return 0
    values = [
        {
            "response_id": response_id,
            "scorer_id": scorer_id,
            "value": None if score.value is None else float(score.value),
            "sum": None if score.sum is None else float(score.sum),
            "count": score.count,
            "status": score.status,
            "detail": dict(score.detail),
        }
        for response_id, score in rows
    ]
    return connection.execute(store.insert(ScoreRow).on_conflict_do_nothing(), values).rowcount


def twins(store: Store, scorer_id: int, prompt_ids: Sequence[int]) -> list[tuple[int, str, str, Score]]:
    """(prompt id, text, reasoning, score) of the responses to these prompts whose score is final."""
    found: list[tuple[int, str, str, Score]] = []
    with store.read() as connection:
        for part in chunks(prompt_ids):
            result = connection.execute(
                select(ResponseRow.prompt_id, ResponseRow.text, ResponseRow.reasoning, *_SCORE)
                .join(ScoreRow, ScoreRow.response_id == ResponseRow.id)
                .where(
                    ResponseRow.prompt_id.in_(part),
                    ScoreRow.scorer_id == scorer_id,
                    ScoreRow.status.not_in(AGAIN),
                )
                .order_by(ResponseRow.id)
            )
            score = _SCORE.reader(result)
            found += [(row.prompt_id, row.text, row.reasoning, score(row)) for row in result]
    return found


def of_response(connection: Connection, response_id: int) -> list[StoredScore]:
    """Every score of a response with the scorer that gave it, oldest scorer first."""
    query = (
        select(ScorerRow.id, ScorerRow.kind, ScorerRow.identity, *_SCORE)
        .join(ScorerRow, ScorerRow.id == ScoreRow.scorer_id)
        .where(ScoreRow.response_id == response_id)
        .order_by(ScorerRow.id)
    )
    result = connection.execute(query)
    score = _SCORE.reader(result)
    return [StoredScore(row.id, row.kind, row.identity, score(row)) for row in result]


def by_kind(store: Store, response_ids: Sequence[int]) -> dict[int, dict[str, float | None]]:
    """Response id → kind of scorer → value; of two scorers of a kind the newer one."""
    found: dict[int, dict[str, float | None]] = {}
    query = (
        select(ScoreRow.response_id, ScorerRow.kind, ScoreRow.value)
        .join(ScorerRow, ScorerRow.id == ScoreRow.scorer_id)
        .where(ScoreRow.response_id.in_(response_ids))
        .order_by(ScorerRow.id)
    )
    for response_id, kind, value in store.rows(query):
        found.setdefault(response_id, {})[kind] = value
    return found


def carry_over(store: Store, lease: Lease, old_id: int, new_id: int) -> int:
    """How many scores were copied from a scorer that differs only in seeing reasoning: those of responses without any.

    What the new scorer has it keeps.
    """
    has = select(ScoreRow.response_id).where(ScoreRow.scorer_id == new_id)
    kept = [column for column in ScoreRow.__table__.c if column.name != "scorer_id"]
    valid = (
        select(*kept, literal(new_id))
        .join(ResponseRow, ResponseRow.id == ScoreRow.response_id)
        .where(ScoreRow.scorer_id == old_id, ResponseRow.reasoning == "", ScoreRow.response_id.not_in(has))
    )
    names = [*(column.name for column in kept), "scorer_id"]
    return store.execute(insert_rows(ScoreRow).from_select(names, valid), lease)


def of_responses(
    store: Store, response_ids: Sequence[int], scorer_ids: Sequence[int]
) -> dict[tuple[int, int], float]:
    """(response id, scorer id) → value, for the scores that there are and that are `ok`."""
    query = select(ScoreRow.response_id, ScoreRow.scorer_id, ScoreRow.value).where(
        ScoreRow.scorer_id.in_(scorer_ids), ScoreRow.status == "ok"
    )
    found: dict[tuple[int, int], float] = {}
    for part in chunks(response_ids):
        rows = store.rows(query.where(ScoreRow.response_id.in_(part)))
        found.update({(row.response_id, row.scorer_id): row.value for row in rows})
    return found
