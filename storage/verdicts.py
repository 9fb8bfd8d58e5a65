"""Verdicts: what judges said, stored as it is paid for and kept until the scores made of it are final."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, select, update

from storage import scores
from storage.job_records import Lease
from storage.records import Response, Score
from storage.rows import chunks, of_generations
from storage.schema import MemberRow, ResponseRow, ScoreRow, VerdictRow
from storage.store import Store

VOID = "void"
"""Status of a verdict that counts for its dollars alone."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said once to one question: about a response, or about two."""

    response_id: int
    other_id: int
    """The response that it was compared with; 0 for none."""
    reply: Response
    """The judge's own words, status and tokens."""
    cost: float
    """Dollars that no score counts yet."""


def add(
    store: Store,
    lease: Lease | None,
    scorer_id: int,
    verdicts: Sequence[Verdict],
    scored: Sequence[tuple[int, Score]] = (),
) -> int:
    """How many responses got their first score, in one transaction with the verdicts.

    A score that ended in an error gives way to the next one, which counts its dollars and attempts too.

    Args:
        scorer_id: from `scores.put_scorer`.
        verdicts: new ones; of one question, in the order in which they came.
        scored: (response id, score); from now on the scores count what their verdicts have cost.

    Raises:
        StoreError: see `scores.add`.
    """
    if not verdicts and not scored:
        return 0
    with store.write(lease) as connection:
        for verdict in verdicts:
            asked = select(func.count()).where(
                VerdictRow.scorer_id == scorer_id,
                VerdictRow.response_id == verdict.response_id,
                VerdictRow.other_id == verdict.other_id,
            )
            said = verdict.reply
            connection.execute(
                store.insert(VerdictRow).values(
                    scorer_id=scorer_id,
                    response_id=verdict.response_id,
                    other_id=verdict.other_id,
                    attempt=connection.execute(asked).scalar_one(),
                    status=said.status,
                    prompt_tokens=said.prompt_tokens,
                    completion_tokens=said.completion_tokens,
                    cost=verdict.cost,
                    text=said.text,
                    error=said.error,
                )
            )
        before = {}
        for part in chunks(response_id for response_id, _ in scored):
            rows = and_(ScoreRow.scorer_id == scorer_id, ScoreRow.response_id.in_(part))
            found = connection.execute(
                select(ScoreRow.response_id, ScoreRow.detail).where(rows, ScoreRow.status.in_(scores.AGAIN))
            )
            before.update({row.response_id: row.detail for row in found if "attempts" in row.detail})
            connection.execute(update(VerdictRow).where(*_about(scorer_id, part)).values(cost=0.0))
        # What could not be read is not read again: another try asks anew.
        for part in chunks(number for number, score in scored if score.status == "unreadable"):
            connection.execute(delete(VerdictRow).where(*_about(scorer_id, part)))
        for part in chunks(before):
            connection.execute(
                delete(ScoreRow).where(ScoreRow.scorer_id == scorer_id, ScoreRow.response_id.in_(part))
            )
        merged = [(number, _after(before.get(number), score)) for number, score in scored]
        return scores.insert(store, connection, scorer_id, merged) - len(before)


def of(store: Store, scorer_id: int, response_ids: Sequence[int]) -> list[Verdict]:
    """The verdicts on these responses; of one question, in the order in which they came."""
    found = []
    order = (VerdictRow.response_id, VerdictRow.other_id, VerdictRow.attempt)
    for part in chunks(response_ids):
        query = select(VerdictRow.__table__).where(*_about(scorer_id, part)).order_by(*order)
        for row in store.rows(query):
            said = Response(
                key=0,
                text=row.text,
                status=row.status,
                finish_reason="",
                prompt_tokens=row.prompt_tokens,
                completion_tokens=row.completion_tokens,
                latency_s=0.0,
                error=row.error,
            )
            found.append(Verdict(row.response_id, row.other_id, said, row.cost))
    return found


def forget(store: Store, lease: Lease | None, scorer_id: int, response_ids: Sequence[int]) -> None:
    """Delete the verdicts on these responses, whose scores are all final."""
    with store.write(lease) as connection:
        for part in chunks(response_ids):
            connection.execute(delete(VerdictRow).where(*_about(scorer_id, part)))


def void(store: Store, lease: Lease | None, scorer_id: int, response_ids: Sequence[int]) -> None:
    """Keep of the verdicts on these responses only what they have cost: they are not read again."""
    with store.write(lease) as connection:
        for part in chunks(response_ids):
            connection.execute(update(VerdictRow).where(*_about(scorer_id, part)).values(status=VOID))


def _about(scorer_id: int, response_ids: Sequence[int]) -> tuple[ColumnElement[bool], ...]:
    return (
        VerdictRow.scorer_id == scorer_id,
        VerdictRow.response_id.in_(response_ids),
        VerdictRow.status != VOID,
    )


def cost(store: Store, scored: scores.Scored) -> float:
    """Dollars of verdicts on these responses that no score counts yet."""
    query = (
        select(func.sum(VerdictRow.cost))
        .select_from(VerdictRow)
        .join(ResponseRow, ResponseRow.id == VerdictRow.response_id)
        .join(MemberRow, MemberRow.prompt_id == ResponseRow.prompt_id)
        .where(
            VerdictRow.scorer_id == scored.scorer_id,
            MemberRow.prompt_set_id == scored.prompt_set_id,
            of_generations(store, scored.generations),
        )
    )
    (dollars,) = store.scalars(query)
    return float(dollars or 0)


def _after(before: Mapping[str, Any] | None, score: Score) -> Score:
    """The score with the dollars and attempts of the failed one before it."""
    if before is None:
        return score
    detail = dict(score.detail)
    detail["cost"] = detail.get("cost", 0) + before.get("cost", 0)
    if score.status == "error":
        detail["attempts"] = detail.get("attempts", 0) + before.get("attempts", 0)
    return replace(score, detail=detail)
