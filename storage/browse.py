"""Looking at stored responses: keyset pages with filters, and one response with all that is known of it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, literal_column, select

from storage.records import (
    Assignment,
    Membership,
    Prompt,
    ResponseContext,
    ResponseLine,
    Score,
    Split,
    Status,
    StoredAssignment,
    StoredScore,
)
from storage.rows import MODEL, PROMPT, RESPONSE, AnyRow, model_of, prompt_of, response_of
from storage.schema import (
    AssignmentRow,
    DatasetRowRow,
    DatasetTable,
    MemberRow,
    ModelRow,
    PlanRow,
    PromptRow,
    PromptSetRow,
    ResponseRow,
    ScoreRow,
    ScorerRow,
)
from storage.search import matching
from storage.store import Store
from storage.strengths import unpack

_LINE = (ModelRow.name, ResponseRow.created_at, *PROMPT, *RESPONSE)


def _line_of(row: AnyRow) -> ResponseLine:
    prompt: Prompt = prompt_of(row, 2)
    return ResponseLine(
        response=response_of(row, 2 + len(PROMPT)), teacher=row[0], prompt=prompt, created_at=row[1]
    )


def browse(
    store: Store,
    *,
    teacher: str | None = None,
    status: Status | None = None,
    prompt_set_id: int | None = None,
    split: Split | None = None,
    dataset_id: int | None = None,
    words: str | None = None,
    after_id: int = 0,
    limit: int = 50,
    newest_first: bool = False,
) -> list[ResponseLine]:
    """The next responses that pass every filter, by id.

    Args:
        store: an open store.
        teacher: name of the teacher (all rows that share it).
        status: only this status.
        prompt_set_id: only answers to this set's prompts.
        split: only answers to prompts that are in this split, of that set or of any.
        dataset_id: only what this dataset holds.
        words: only answers that hold all these words or whose prompt does, as far as `search.sync` has indexed them.
        after_id: the last response id already seen; 0 for the first page.
        limit: how many at most.
        newest_first: highest id first.
    """
    with store.read() as connection:
        query = (
            select(*_LINE)
            .select_from(ResponseRow)
            .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
            .join(ModelRow, ModelRow.id == ResponseRow.teacher_id)
        )
        key: Any = ResponseRow.id
        if dataset_id is not None:
            # Paging by the dataset's own column keeps to its index.
            key = DatasetRowRow.response_id
            query = query.join(DatasetRowRow, DatasetRowRow.response_id == ResponseRow.id).where(
                DatasetRowRow.dataset_id == dataset_id
            )
        if teacher is not None:
            ids = connection.execute(select(ModelRow.id).where(ModelRow.name == teacher)).scalars().all()
            query = query.where(ResponseRow.teacher_id.in_(ids))
        if status == "ok":
            query = query.where(ResponseRow.status == status)
        elif status is not None:
            # Spelled out so that the planner sees that the index of failures applies.
            query = query.where(literal_column("responses.status") != literal_column("'ok'"))
            query = query.where(ResponseRow.status == status)
        if prompt_set_id is not None or split is not None:
            # Every set is named: members are found by set and prompt, not by prompt alone.
            sets = select(PromptSetRow.id) if prompt_set_id is None else [prompt_set_id]
            member = select(MemberRow.ordinal).where(
                MemberRow.prompt_set_id.in_(sets), MemberRow.prompt_id == ResponseRow.prompt_id
            )
            query = query.where(
                (member if split is None else member.where(MemberRow.split == split)).exists()
            )
        if words is not None:
            query = query.where(ResponseRow.id.in_(matching(store, words)))
        if newest_first:
            query = query.order_by(key.desc())
            if after_id:
                query = query.where(key < after_id)
        else:
            query = query.order_by(key).where(key > after_id)
        return [_line_of(row) for row in connection.execute(query.limit(limit))]


def lines(store: Store, ids: Sequence[int]) -> list[ResponseLine]:
    """The listing lines of these responses, in the order of `ids`; unknown ids are left out."""
    query = (
        select(*_LINE)
        .select_from(ResponseRow)
        .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        .join(ModelRow, ModelRow.id == ResponseRow.teacher_id)
        .where(ResponseRow.id.in_(ids))
    )
    with store.read() as connection:
        found = {line.response.id: line for line in map(_line_of, connection.execute(query))}
    return [found[identifier] for identifier in ids if identifier in found]


def get(store: Store, id: int) -> ResponseContext | None:
    """The response of this id with its prompt, teacher, scores, assignments and datasets, or None."""
    with store.read() as connection:
        row = connection.execute(
            select(*_LINE, ResponseRow.attempts, ResponseRow.job_id)
            .select_from(ResponseRow)
            .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
            .join(ModelRow, ModelRow.id == ResponseRow.teacher_id)
            .where(ResponseRow.id == id)
        ).first()
        if row is None:
            return None
        line = _line_of(row)
        teacher = connection.execute(select(*MODEL).where(ModelRow.id == line.response.teacher_id)).one()
        return ResponseContext(
            line=line,
            teacher=model_of(teacher),
            attempts=row.attempts,
            job_id=row.job_id,
            scores=_scores(connection, id),
            assignments=_assignments(connection, line),
            datasets=_datasets(connection, line),
        )


def _scores(connection: Connection, id: int) -> list[StoredScore]:
    rows = connection.execute(
        select(
            ScorerRow.id,
            ScorerRow.kind,
            ScorerRow.identity,
            ScoreRow.value,
            ScoreRow.sum,
            ScoreRow.count.label("terms"),
            ScoreRow.status,
            ScoreRow.detail,
        )
        .join(ScorerRow, ScorerRow.id == ScoreRow.scorer_id)
        .where(ScoreRow.response_id == id)
        .order_by(ScorerRow.id)
    )
    return [StoredScore(row[0], row[1], row[2], Score(*row[3:8])) for row in rows]


def _assignments(connection: Connection, line: ResponseLine) -> list[StoredAssignment]:
    rows = connection.execute(
        select(
            PlanRow.id, PlanRow.strategy, AssignmentRow.attempt, AssignmentRow.strengths, AssignmentRow.margin
        )
        .join(AssignmentRow, AssignmentRow.plan_id == PlanRow.id)
        .where(
            AssignmentRow.plan_id.in_(select(PlanRow.id)),  # so that SQLite uses the index, plan by plan
            AssignmentRow.prompt_id == line.response.prompt_id,
            AssignmentRow.teacher_id == line.response.teacher_id,
        )
        .order_by(PlanRow.id, AssignmentRow.attempt)
    )
    return [
        StoredAssignment(
            plan_id=row[0],
            strategy=row[1],
            assignment=Assignment(
                line.response.prompt_id, line.response.teacher_id, row[2], unpack(row[3]), row[4]
            ),
        )
        for row in rows
    ]


def _datasets(connection: Connection, line: ResponseLine) -> list[Membership]:
    rows = connection.execute(
        select(
            DatasetTable.id,
            DatasetTable.name,
            DatasetRowRow.quality,
            DatasetRowRow.learnability,
            DatasetRowRow.reward,
            DatasetRowRow.excluded,
        )
        .join(DatasetRowRow, DatasetRowRow.dataset_id == DatasetTable.id)
        .where(
            DatasetRowRow.dataset_id.in_(select(DatasetTable.id)),  # as above
            DatasetRowRow.prompt_id == line.response.prompt_id,
            DatasetRowRow.response_id == line.response.id,
        )
        .order_by(DatasetTable.id)
    )
    return [Membership(*row) for row in rows]
