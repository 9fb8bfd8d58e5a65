"""Adapters with their checkpoints, and evaluations with their per-prompt results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import and_, delete, func, select

from storage.job_records import Lease
from storage.records import Adapter, Checkpoint, Evaluation, Prompt, Result
from storage.rows import Columns, prompt_page
from storage.schema import AdapterRow, CheckpointRow, EvaluationRow, MemberRow, ResultRow
from storage.store import Store

_ADAPTER = Columns(Adapter, AdapterRow)
_CHECKPOINT = Columns(Checkpoint, CheckpointRow)
_EVALUATION = Columns(Evaluation, EvaluationRow)
_RESULT = Columns(Result, ResultRow)


def open_adapter(
    store: Store, lease: Lease | None, spec_sha: str, dataset_id: int, student_id: int
) -> Adapter:
    """The adapter of this specification, made incomplete when there is none."""
    values: dict[str, Any] = {"dataset_id": dataset_id, "student_id": student_id, "path": "", "metrics": {}}
    return _ADAPTER.open(store, lease, spec_sha, **values, complete=False)


def finish_adapter(
    store: Store, lease: Lease | None, adapter_id: int, path: str, metrics: Mapping[str, Any]
) -> None:
    """Mark the adapter complete: its files are at `path`, written and hashed."""
    _ADAPTER.complete(store, lease, adapter_id, path=path, metrics=dict(metrics))


def adapter(store: Store, spec_sha: str) -> Adapter | None:
    """The adapter of this specification, or None."""
    return _ADAPTER.find(store, spec_sha)


def adapters(store: Store, dataset_id: int | None = None) -> list[Adapter]:
    """Every adapter, or those of a dataset, oldest first."""
    query = select(*_ADAPTER).order_by(AdapterRow.id)
    return _ADAPTER.all(
        store, query if dataset_id is None else query.where(AdapterRow.dataset_id == dataset_id)
    )


def add_checkpoint(store: Store, lease: Lease | None, checkpoint: Checkpoint) -> None:
    """Record a checkpoint whose files are complete; one of the same step is replaced."""
    values = asdict(checkpoint)
    added = store.insert(CheckpointRow).values(values)
    store.execute(added.on_conflict_do_update(index_elements=["adapter_id", "step"], set_=values), lease)


def keep_checkpoints(store: Store, lease: Lease | None, adapter_id: int, steps: Sequence[int]) -> None:
    """Forget the adapter's checkpoints of all other steps: their files are gone."""
    others = (CheckpointRow.adapter_id == adapter_id, CheckpointRow.step.not_in(steps))
    store.execute(delete(CheckpointRow).where(*others), lease)


def checkpoints(store: Store, adapter_id: int) -> list[Checkpoint]:
    """The adapter's checkpoints, latest step first: resume from the first whose files are whole."""
    query = select(*_CHECKPOINT).where(CheckpointRow.adapter_id == adapter_id)
    return _CHECKPOINT.all(store, query.order_by(CheckpointRow.step.desc()))


def open_evaluation(
    store: Store,
    lease: Lease | None,
    spec_sha: str,
    student_id: int,
    adapter_id: int | None,
    prompt_set_id: int,
) -> Evaluation:
    """The evaluation of this specification, made empty and incomplete when there is none."""
    values = {"student_id": student_id, "adapter_id": adapter_id, "prompt_set_id": prompt_set_id}
    return _EVALUATION.open(store, lease, spec_sha, **values, summary={}, complete=False)


def evaluation(store: Store, spec_sha: str) -> Evaluation | None:
    """The evaluation of this specification, or None."""
    return _EVALUATION.find(store, spec_sha)


def evaluations(store: Store) -> list[Evaluation]:
    """Every evaluation, oldest first."""
    return _EVALUATION.all(store)


def pending_evaluation(
    store: Store, evaluation_id: int, after: int = -1, limit: int = 500
) -> list[tuple[int, Prompt]]:
    """The next evaluation prompts without a result, with their ordinals, in order."""
    members = (
        select(MemberRow)
        .join(EvaluationRow, EvaluationRow.prompt_set_id == MemberRow.prompt_set_id)
        .outerjoin(
            ResultRow,
            and_(ResultRow.evaluation_id == EvaluationRow.id, ResultRow.prompt_id == MemberRow.prompt_id),
        )
        .where(EvaluationRow.id == evaluation_id, ResultRow.prompt_id.is_(None))
    )
    return prompt_page(store, members, ("evaluation",), after, limit)


def add_results(store: Store, lease: Lease | None, evaluation_id: int, rows: Sequence[Result]) -> int:
    """How many results are new, in one transaction; a prompt that has one keeps it."""
    return store.add(ResultRow, [{"evaluation_id": evaluation_id, **asdict(row)} for row in rows], lease)


def values(store: Store, evaluation_id: int) -> dict[int, float | None]:
    """Prompt id → value, of every result in order of prompt id; no text is read."""
    query = (
        select(ResultRow.prompt_id, ResultRow.value)
        .where(ResultRow.evaluation_id == evaluation_id)
        .order_by(ResultRow.prompt_id)
    )
    return {row.prompt_id: row.value for row in store.rows(query)}


def result(store: Store, evaluation_id: int, prompt_id: int) -> Result | None:
    """The result of this prompt, or None."""
    query = select(*_RESULT).where(ResultRow.evaluation_id == evaluation_id, ResultRow.prompt_id == prompt_id)
    return _RESULT.first(store, query)


def count_results(store: Store, evaluation_id: int) -> int:
    """How many results an evaluation has so far; their texts are not read."""
    return store.number(
        select(func.count()).select_from(ResultRow).where(ResultRow.evaluation_id == evaluation_id)
    )


def results(store: Store, evaluation_id: int) -> list[Result]:
    """Every result in order of prompt id: as many as there are evaluation prompts, text included."""
    query = select(*_RESULT).where(ResultRow.evaluation_id == evaluation_id).order_by(ResultRow.prompt_id)
    return _RESULT.all(store, query)


def finish_evaluation(
    store: Store, lease: Lease | None, evaluation_id: int, summary: Mapping[str, Any]
) -> None:
    """Mark the evaluation complete, with its summary."""
    _EVALUATION.complete(store, lease, evaluation_id, summary=dict(summary))
