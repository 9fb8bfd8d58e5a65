"""Stored responses to look at: a page of a listing, and one response with all that is known of it."""

from collections.abc import Callable, Iterable

from sqlalchemy import Connection, select

from storage import responses, scores
from storage.listing import Listing, page
from storage.records import Assignment, Membership, ResponseContext, ResponseLine, StoredAssignment
from storage.rows import MODEL, PROMPT, RESPONSE, AnyResult, Columns
from storage.schema import (
    AssignmentRow,
    DatasetRowRow,
    DatasetTable,
    ModelRow,
    PlanRow,
    PromptRow,
    ResponseRow,
)
from storage.store import AnyRow, Query, Store

_ASSIGNMENT = Columns(Assignment, AssignmentRow)
_MEMBERSHIP = Columns(Membership, DatasetRowRow, dataset=DatasetTable.name)


def _selected() -> Query:
    """Every response with what its line shows, and what `get` shows beside it."""
    return (
        select(
            ModelRow.name.label("teacher"),
            ResponseRow.created_at,
            ResponseRow.attempts,
            ResponseRow.job_id,
            *PROMPT,
            *RESPONSE,
        )
        .select_from(ResponseRow)
        .join(PromptRow, PromptRow.id == ResponseRow.prompt_id)
        .join(ModelRow, ModelRow.id == ResponseRow.teacher_id)
    )


def _reader(result: AnyResult) -> Callable[[AnyRow], ResponseLine]:
    prompt, response = PROMPT.reader(result), RESPONSE.reader(result)
    return lambda row: ResponseLine(response(row), row.teacher, prompt(row), row.created_at)


def browse(store: Store, listing: Listing, after_id: int = 0, limit: int = 50) -> list[ResponseLine]:
    """The next responses of a listing in order of id, as `listing.page`."""
    return lines(store, page(store, listing, after_id, limit))


def lines(store: Store, ids: Iterable[int]) -> list[ResponseLine]:
    """The listing lines of these responses, in the order of `ids`; unknown ids are left out."""
    ids = list(ids)
    with store.read() as connection:
        result = connection.execute(_selected().where(ResponseRow.id.in_(ids)))
        found = {line.response.id: line for line in map(_reader(result), result)}
    return [found[identifier] for identifier in ids if identifier in found]


def get(store: Store, response_id: int) -> ResponseContext | None:
    """The response of this id with its prompt, teacher, scores, assignments and datasets, or None."""
    with store.read() as connection:
        result = connection.execute(_selected().where(ResponseRow.id == response_id))
        row = result.first()
        if row is None:
            return None
        line = _reader(result)(row)
        models = connection.execute(select(*MODEL).where(ModelRow.id == line.response.teacher_id))
        return ResponseContext(
            line=line,
            teacher=MODEL.reader(models)(models.one()),
            attempts=row.attempts,
            job_id=row.job_id,
            scores=scores.of_response(connection, response_id),
            assignments=_assignments(connection, line),
            datasets=_datasets(connection, line),
        )


def of_prompt(store: Store, prompt_id: int) -> list[ResponseContext]:
    """The newest responses to a prompt, as `get` has them, by teacher name; every sample and every setting counts."""
    found = (get(store, id) for id in responses.ids_of_prompt(store, prompt_id))
    return [one for one in found if one is not None]


def _assignments(connection: Connection, line: ResponseLine) -> list[StoredAssignment]:
    result = connection.execute(
        select(PlanRow.id, PlanRow.strategy, *_ASSIGNMENT)
        .join(AssignmentRow, AssignmentRow.plan_id == PlanRow.id)
        .where(
            AssignmentRow.plan_id.in_(select(PlanRow.id)),  # so that SQLite uses the index, plan by plan
            AssignmentRow.prompt_id == line.response.prompt_id,
            AssignmentRow.teacher_id == line.response.teacher_id,
        )
        .order_by(PlanRow.id, AssignmentRow.attempt)
    )
    assignment = _ASSIGNMENT.reader(result)
    return [StoredAssignment(row.id, row.strategy, assignment(row)) for row in result]


def _datasets(connection: Connection, line: ResponseLine) -> list[Membership]:
    result = connection.execute(
        select(*_MEMBERSHIP)
        .join(DatasetTable, DatasetTable.id == DatasetRowRow.dataset_id)
        .where(
            DatasetRowRow.dataset_id.in_(select(DatasetTable.id)),  # as above
            DatasetRowRow.prompt_id == line.response.prompt_id,
            DatasetRowRow.response_id == line.response.id,
        )
        .order_by(DatasetTable.id)
    )
    return list(map(_MEMBERSHIP.reader(result), result))
