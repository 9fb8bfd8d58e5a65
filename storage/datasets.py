"""Datasets: training rows that point at the responses they are made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import func, select, update

from storage.job_records import Lease
from storage.records import Dataset, DatasetRow, TrainingRow
from storage.rows import PROMPT, RESPONSE, Columns, chunks
from storage.schema import DatasetRowRow, DatasetTable, ModelRow, PromptRow, ResponseRow
from storage.store import Store

_DATASET = Columns(Dataset, DatasetTable)


def find(store: Store, spec_sha: str) -> Dataset | None:
    """The dataset of this specification, or None."""
    return _DATASET.find(store, spec_sha)


def open_dataset(
    store: Store, lease: Lease | None, spec_sha: str, plan_id: int, name: str, manifest: Mapping[str, Any]
) -> Dataset:
    """The dataset of this specification, made empty and incomplete when there is none."""
    values = {"plan_id": plan_id, "name": name, "manifest": dict(manifest), "complete": False}
    return _DATASET.open(store, lease, spec_sha, **values)


def add(store: Store, lease: Lease | None, dataset_id: int, rows: Sequence[DatasetRow]) -> int:
    """How many rows are new, in one transaction; a prompt that has a row keeps it."""
    values = [{"dataset_id": dataset_id, **asdict(row), "excluded": False} for row in rows]
    return store.add(DatasetRowRow, values, lease)


def finish(store: Store, lease: Lease | None, dataset_id: int, manifest: Mapping[str, Any]) -> None:
    """Mark the dataset complete, with its manifest."""
    _DATASET.complete(store, lease, dataset_id, manifest=dict(manifest))


def rows(
    store: Store, dataset_id: int, after_prompt_id: int = 0, limit: int = 500, include_excluded: bool = False
) -> list[TrainingRow]:
    """The next rows of the dataset, by prompt id; those that an operator took out only where they are asked for."""
    query = (
        select(
            ModelRow.name.label("teacher"),
            DatasetRowRow.quality,
            DatasetRowRow.learnability,
            DatasetRowRow.reward,
            DatasetRowRow.excluded,
            *PROMPT,
            *RESPONSE,
        )
        .select_from(DatasetRowRow)
        .join(PromptRow, PromptRow.id == DatasetRowRow.prompt_id)
        .join(ResponseRow, ResponseRow.id == DatasetRowRow.response_id)
        .join(ModelRow, ModelRow.id == ResponseRow.teacher_id)
        .where(DatasetRowRow.dataset_id == dataset_id, DatasetRowRow.prompt_id > after_prompt_id)
        .order_by(DatasetRowRow.prompt_id)
        .limit(limit)
    )
    if not include_excluded:
        query = query.where(DatasetRowRow.excluded.is_(False))
    with store.read() as connection:
        result = connection.execute(query)
        prompt, response = PROMPT.reader(result), RESPONSE.reader(result)
        return [
            TrainingRow(
                prompt=prompt(row),
                response=response(row),
                teacher=row.teacher,
                quality=row.quality,
                learnability=row.learnability,
                reward=row.reward,
                excluded=row.excluded,
            )
            for row in result
        ]


def newest_first(store: Store) -> list[Dataset]:
    """Every dataset, newest first."""
    return _DATASET.all(store)[::-1]


def exclude(store: Store, dataset_id: int, prompt_ids: Iterable[int], excluded: bool = True) -> int:
    """How many rows were taken out of training, or put back in."""
    changed = 0
    with store.write() as connection:
        for part in chunks(prompt_ids):
            changed += connection.execute(
                update(DatasetRowRow)
                .where(
                    DatasetRowRow.dataset_id == dataset_id,
                    DatasetRowRow.prompt_id.in_(part),
                    DatasetRowRow.excluded.is_not(excluded),
                )
                .values(excluded=excluded)
            ).rowcount
    return changed


def count(store: Store, dataset_id: int, include_excluded: bool = False) -> int:
    """How many rows the dataset has."""
    query = select(func.count()).select_from(DatasetRowRow).where(DatasetRowRow.dataset_id == dataset_id)
    if not include_excluded:
        query = query.where(DatasetRowRow.excluded.is_(False))
    return store.number(query)


def means(store: Store, dataset_id: int) -> dict[str, float | None]:
    """Mean quality, learnability (nats per token) and reward of the rows that have them, or None."""
    names = ("quality", "learnability", "reward")
    query = select(*(func.avg(getattr(DatasetRowRow, name)).label(name) for name in names)).where(
        DatasetRowRow.dataset_id == dataset_id, DatasetRowRow.excluded.is_(False)
    )
    (means,) = store.rows(query)
    return {name: None if mean is None else float(mean) for name, mean in zip(names, means, strict=True)}


def excluded(store: Store, dataset_id: int) -> list[int]:
    """The prompt ids of the rows that an operator took out, in order."""
    query = (
        select(DatasetRowRow.prompt_id)
        .where(DatasetRowRow.dataset_id == dataset_id, DatasetRowRow.excluded.is_(True))
        .order_by(DatasetRowRow.prompt_id)
    )
    return store.scalars(query)


def prompts_in(store: Store, dataset_id: int, prompt_ids: Sequence[int]) -> set[int]:
    """Which of these prompts have a row in the dataset."""
    query = select(DatasetRowRow.prompt_id).where(
        DatasetRowRow.dataset_id == dataset_id, DatasetRowRow.prompt_id.in_(prompt_ids)
    )
    return set(store.scalars(query))
