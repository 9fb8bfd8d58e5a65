"""What judges have said: kept as it is paid for, until the verdicts that it is for stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, select, update

from storage import scores
from storage.job_records import Lease
from storage.records import Generation, Response, Score
from storage.rows import by, chunks, stored
from storage.schema import JudgeReplyRow, MemberRow, ResponseRow, ScoreRow
from storage.store import Store

VOID = "void"
"""Status of a reply that counts for its dollars alone."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge has said once to one question: about an answer, or about two."""

    response_id: int
    other_id: int
    """The response that it was compared with; 0 for none."""
    completion: Response
    cost: float
    """Dollars that no verdict counts yet."""


def add(
    store: Store,
    lease: Lease | None,
    scorer_id: int,
    replies: Sequence[Verdict],
    verdicts: Sequence[tuple[int, Score]] = (),
) -> int:
    """How many responses got their first verdict, in one transaction with the replies.

    A verdict that ended in an error gives way to the next one, which counts its dollars and attempts too.

    Args:
        store: an open store.
        lease: the job's lease.
        scorer_id: from `scores.put_scorer`.
        replies: new ones; of one question, in the order in which they came.
        verdicts: (response id, verdict); from now on they count what their replies have cost.

    Raises:
        StoreError: see `scores.add`.
    """
    if not replies and not verdicts:
        return 0
    with store.write(lease) as connection:
        for reply in replies:
            asked = select(func.count()).where(
                JudgeReplyRow.scorer_id == scorer_id,
                JudgeReplyRow.response_id == reply.response_id,
                JudgeReplyRow.other_id == reply.other_id,
            )
            said = reply.completion
            connection.execute(
                store.insert(JudgeReplyRow).values(
                    scorer_id=scorer_id,
                    response_id=reply.response_id,
                    other_id=reply.other_id,
                    attempt=connection.execute(asked).scalar_one(),
                    status=said.status,
                    prompt_tokens=said.prompt_tokens,
                    completion_tokens=said.completion_tokens,
                    cost=reply.cost,
                    text=said.text,
                    error=said.error,
                )
            )
        before = {}
        for part in chunks(response_id for response_id, _ in verdicts):
            rows = and_(ScoreRow.scorer_id == scorer_id, ScoreRow.response_id.in_(part))
            found = connection.execute(
                select(ScoreRow.response_id, ScoreRow.detail).where(rows, ScoreRow.status.in_(scores.AGAIN))
            )
            before.update({row.response_id: row.detail for row in found if "attempts" in row.detail})
            connection.execute(update(JudgeReplyRow).where(*_about(scorer_id, part)).values(cost=0.0))
        # What could not be read is not read again: another try asks anew.
        for part in chunks(number for number, verdict in verdicts if verdict.status == "unreadable"):
            connection.execute(delete(JudgeReplyRow).where(*_about(scorer_id, part)))
        for part in chunks(before):
            connection.execute(
                delete(ScoreRow).where(ScoreRow.scorer_id == scorer_id, ScoreRow.response_id.in_(part))
            )
        merged = [(number, _after(before.get(number), verdict)) for number, verdict in verdicts]
        return scores.insert(store, connection, scorer_id, merged) - len(before)


def of(store: Store, scorer_id: int, response_ids: Sequence[int]) -> list[Verdict]:
    """The replies about these responses; of one question, in the order in which they came."""
    found = []
    with store.read() as connection:
        for part in chunks(response_ids):
            rows = connection.execute(
                select(JudgeReplyRow.__table__)
                .where(*_about(scorer_id, part))
                .order_by(JudgeReplyRow.response_id, JudgeReplyRow.other_id, JudgeReplyRow.attempt)
            )
            for row in rows:
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
    """Deletes the replies about these responses, whose verdicts all stand."""
    with store.write(lease) as connection:
        for part in chunks(response_ids):
            connection.execute(delete(JudgeReplyRow).where(*_about(scorer_id, part)))


def void(store: Store, lease: Lease | None, scorer_id: int, response_ids: Sequence[int]) -> None:
    """Keeps of the replies about these responses only what they have cost: they are not read again."""
    with store.write(lease) as connection:
        for part in chunks(response_ids):
            connection.execute(update(JudgeReplyRow).where(*_about(scorer_id, part)).values(status=VOID))


def _about(scorer_id: int, response_ids: Sequence[int]) -> tuple[ColumnElement[bool], ...]:
    return (
        JudgeReplyRow.scorer_id == scorer_id,
        JudgeReplyRow.response_id.in_(response_ids),
        JudgeReplyRow.status != VOID,
    )


def cost(store: Store, generations: Sequence[Generation], prompt_set_id: int, scorer_id: int) -> float:
    """Dollars of replies about these answers that no verdict counts yet."""
    with store.read() as connection:
        query = (
            select(func.sum(JudgeReplyRow.cost))
            .select_from(JudgeReplyRow)
            .join(ResponseRow, ResponseRow.id == JudgeReplyRow.response_id)
            .join(MemberRow, MemberRow.prompt_id == ResponseRow.prompt_id)
            .where(
                JudgeReplyRow.scorer_id == scorer_id,
                MemberRow.prompt_set_id == prompt_set_id,
                by(stored(connection, generations)),
            )
        )
        return float(connection.execute(query).scalar() or 0.0)


def _after(before: Mapping[str, Any] | None, verdict: Score) -> Score:
    """The verdict with the dollars and attempts of the failed one before it."""
    if before is None:
        return verdict
    detail = dict(verdict.detail)
    detail["cost"] = detail.get("cost", 0) + before.get("cost", 0)
    if verdict.status == "error":
        detail["attempts"] = detail.get("attempts", 0) + before.get("attempts", 0)
    return replace(verdict, detail=detail)
