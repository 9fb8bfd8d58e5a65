"""Adapters with their checkpoints, and evaluations with their per-prompt results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.orm import InstrumentedAttribute

from storage.job_records import Lease
from storage.records import Adapter, Checkpoint, Evaluation, Prompt, Result
from storage.rows import PROMPT, AnyRow, by_spec, prompt_of, put_once
from storage.schema import AdapterRow, CheckpointRow, EvaluationRow, MemberRow, PromptRow, ResultRow
from storage.store import Store

_PAGE = 2000
_RESULT: tuple[ColumnElement[Any] | InstrumentedAttribute[Any], ...] = (
    ResultRow.prompt_id,
    ResultRow.value,
    ResultRow.text,
    ResultRow.status,
    ResultRow.completion_tokens,
)


def _adapter_of(row: AnyRow) -> Adapter:
    return Adapter(row.id, row.spec_sha, row.dataset_id, row.student_id, row.path, row.metrics, row.complete)


def _evaluation_of(row: AnyRow) -> Evaluation:
    return Evaluation(
        row.id,
        row.spec_sha,
        row.student_id,
        row.adapter_id,
        row.prompt_set_id,
        row.summary,
        row.complete,
    )


def open_adapter(
    store: Store, lease: Lease | None, spec_sha: str, dataset_id: int, student_id: int
) -> Adapter:
    """The adapter of this specification, made incomplete when there is none."""
    found = adapter(store, spec_sha)
    if found is not None:
        return found
    with store.write(lease) as connection:
        values = {
            "dataset_id": dataset_id,
            "student_id": student_id,
            "path": "",
            "metrics": {},
            "complete": False,
        }
        put_once(store, connection, AdapterRow, spec_sha, values)
        row = by_spec(connection, AdapterRow, spec_sha)
        assert row is not None
        return _adapter_of(row)


def finish_adapter(store: Store, lease: Lease | None, id: int, path: str, metrics: Mapping[str, Any]) -> None:
    """Mark the adapter complete: its files are at `path`, written and hashed."""
    with store.write(lease) as connection:
        connection.execute(
            update(AdapterRow)
            .where(AdapterRow.id == id)
            .values(path=path, metrics=dict(metrics), complete=True)
        )


def adapter(store: Store, spec_sha: str) -> Adapter | None:
    """The adapter of this specification, or None."""
    with store.read() as connection:
        row = by_spec(connection, AdapterRow, spec_sha)
    return None if row is None else _adapter_of(row)


def adapters_of(store: Store, dataset_id: int) -> list[Adapter]:
    """Every adapter of a dataset, oldest first."""
    query = select(*AdapterRow.__table__.c).where(AdapterRow.dataset_id == dataset_id).order_by(AdapterRow.id)
    with store.read() as connection:
        return [_adapter_of(row) for row in connection.execute(query)]


def adapters(store: Store, after_id: int = 0, limit: int = 500) -> list[Adapter]:
    """The next adapters, by id."""
    query = (
        select(*AdapterRow.__table__.c).where(AdapterRow.id > after_id).order_by(AdapterRow.id).limit(limit)
    )
    with store.read() as connection:
        return [_adapter_of(row) for row in connection.execute(query)]


def add_checkpoint(
    store: Store,
    lease: Lease | None,
    adapter_id: int,
    step: int,
    path: str,
    sha256: str,
    metrics: Mapping[str, Any],
) -> None:
    """Record a checkpoint whose files are complete; one of the same step is replaced."""
    values: dict[str, Any] = {"path": path, "sha256": sha256, "metrics": dict(metrics)}
    with store.write(lease) as connection:
        connection.execute(
            store.insert(CheckpointRow)
            .values(adapter_id=adapter_id, step=step, **values)
            .on_conflict_do_update(index_elements=["adapter_id", "step"], set_=values)
        )


def keep_checkpoints(store: Store, lease: Lease | None, adapter_id: int, steps: Sequence[int]) -> None:
    """Forget the adapter's checkpoints of all other steps: their files are gone."""
    with store.write(lease) as connection:
        connection.execute(
            delete(CheckpointRow).where(
                CheckpointRow.adapter_id == adapter_id, CheckpointRow.step.not_in(steps)
            )
        )


def checkpoints(store: Store, adapter_id: int) -> list[Checkpoint]:
    """The adapter's checkpoints, latest step first: resume from the first whose files are whole."""
    query = (
        select(*CheckpointRow.__table__.c)
        .where(CheckpointRow.adapter_id == adapter_id)
        .order_by(CheckpointRow.step.desc())
    )
    with store.read() as connection:
        return [
            Checkpoint(row.id, row.adapter_id, row.step, row.path, row.sha256, row.metrics)
            for row in connection.execute(query)
        ]


def open_evaluation(
    store: Store,
    lease: Lease | None,
    spec_sha: str,
    student_id: int,
    adapter_id: int | None,
    prompt_set_id: int,
) -> Evaluation:
    """The evaluation of this specification, made empty and incomplete when there is none."""
    found = evaluation(store, spec_sha)
    if found is not None:
        return found
    with store.write(lease) as connection:
        values: dict[str, Any] = {
            "student_id": student_id,
            "adapter_id": adapter_id,
            "prompt_set_id": prompt_set_id,
            "summary": {},
            "complete": False,
        }
        put_once(store, connection, EvaluationRow, spec_sha, values)
        row = by_spec(connection, EvaluationRow, spec_sha)
        assert row is not None
        return _evaluation_of(row)


def evaluation(store: Store, spec_sha: str) -> Evaluation | None:
    """The evaluation of this specification, or None."""
    with store.read() as connection:
        row = by_spec(connection, EvaluationRow, spec_sha)
    return None if row is None else _evaluation_of(row)


def evaluations(store: Store, after_id: int = 0, limit: int = 500) -> list[Evaluation]:
    """The next evaluations, by id."""
    query = (
        select(*EvaluationRow.__table__.c)
        .where(EvaluationRow.id > after_id)
        .order_by(EvaluationRow.id)
        .limit(limit)
    )
    with store.read() as connection:
        return [_evaluation_of(row) for row in connection.execute(query)]


def pending_evaluation(
    store: Store, evaluation_id: int, after: int = -1, limit: int = 500
) -> list[tuple[int, Prompt]]:
    """The next evaluation prompts without a result, with their ordinals, in order.

    Args:
        store: an open store.
        evaluation_id: the evaluation.
        after: the last ordinal already seen.
        limit: how many at most.
    """
    query = (
        select(MemberRow.ordinal, *PROMPT)
        .select_from(EvaluationRow)
        .join(MemberRow, MemberRow.prompt_set_id == EvaluationRow.prompt_set_id)
        .join(PromptRow, PromptRow.id == MemberRow.prompt_id)
        .outerjoin(
            ResultRow,
            and_(ResultRow.evaluation_id == EvaluationRow.id, ResultRow.prompt_id == MemberRow.prompt_id),
        )
        .where(
            EvaluationRow.id == evaluation_id,
            MemberRow.split == "evaluation",
            MemberRow.ordinal > after,
            ResultRow.prompt_id.is_(None),
        )
        .order_by(MemberRow.ordinal)
        .limit(limit)
    )
    with store.read() as connection:
        return [(row[0], prompt_of(row, 1, "evaluation")) for row in connection.execute(query)]


def add_results(store: Store, lease: Lease | None, evaluation_id: int, rows: Sequence[Result]) -> int:
    """How many results are new, in one transaction; a prompt that has one keeps it."""
    if not rows:
        return 0
    values = [
        {
            "evaluation_id": evaluation_id,
            "prompt_id": row.prompt_id,
            "value": row.value,
            "text": row.text,
            "status": row.status,
            "completion_tokens": row.completion_tokens,
        }
        for row in rows
    ]
    with store.write(lease) as connection:
        return connection.execute(store.insert(ResultRow).on_conflict_do_nothing(), values).rowcount


def iterate_results(store: Store, evaluation_id: int, page: int = _PAGE) -> Iterator[Result]:
    """Every result in order of prompt id, reading `page` of them at a time."""
    after = 0
    while True:
        query = (
            select(*_RESULT)
            .where(ResultRow.evaluation_id == evaluation_id, ResultRow.prompt_id > after)
            .order_by(ResultRow.prompt_id)
            .limit(page)
        )
        with store.read() as connection:
            found = [Result(*row) for row in connection.execute(query)]
        if not found:
            return
        yield from found
        after = found[-1].prompt_id


def values(store: Store, evaluation_id: int) -> dict[int, float | None]:
    """Prompt id → value, of every result in order of prompt id; no text is read."""
    query = (
        select(ResultRow.prompt_id, ResultRow.value)
        .where(ResultRow.evaluation_id == evaluation_id)
        .order_by(ResultRow.prompt_id)
    )
    with store.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def result(store: Store, evaluation_id: int, prompt_id: int) -> Result | None:
    """The result of this prompt, or None."""
    query = select(*_RESULT).where(ResultRow.evaluation_id == evaluation_id, ResultRow.prompt_id == prompt_id)
    with store.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else Result(*row)


def count_results(store: Store, evaluation_id: int) -> int:
    """How many results an evaluation has so far; their texts are not read."""
    query = select(func.count()).select_from(ResultRow).where(ResultRow.evaluation_id == evaluation_id)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def results(store: Store, evaluation_id: int) -> list[Result]:
    """Every result in order of prompt id: as many as there are evaluation prompts, text included."""
    return list(iterate_results(store, evaluation_id))


def finish_evaluation(store: Store, lease: Lease | None, id: int, summary: Mapping[str, Any]) -> None:
    """Mark the evaluation complete, with its summary."""
    with store.write(lease) as connection:
        connection.execute(
            update(EvaluationRow).where(EvaluationRow.id == id).values(summary=dict(summary), complete=True)
        )
