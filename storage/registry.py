"""Registered models: teachers, students and reward models."""

import time
from collections.abc import Iterable
from dataclasses import fields, replace

from sqlalchemy import ColumnElement, func, select, update

from storage.records import Model, Role
from storage.rows import MODEL, chunks
from storage.schema import ModelRow
from storage.store import Store

_FIRST = (ModelRow.archived_at.is_not(None), ModelRow.by_run, ModelRow.put_at.desc(), ModelRow.id.desc())
"""The order of a name's rows: the first is what the name means."""


def put(store: Store, model: Model, identity_sha: str, *, by_run: bool = False) -> Model:
    """The stored model, with its id. Its own `id` and `archived` are ignored.

    A model of the same role, name and identity keeps its row: it becomes visible again, and what is not part
    of its identity (price, context, parameters, device options) is updated. A run changes nothing of a row that was
    registered by hand.

    Args:
        by_run: registered by a run whose file describes it, not by hand.
    """
    clock = time.time()
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    del values["id"], values["archived"]
    values |= {"options": dict(model.options), "archived_at": None, "put_at": clock, "by_run": by_run}
    insert = store.insert(ModelRow).values(identity_sha=identity_sha, created_at=clock, **values)
    insert = insert.on_conflict_do_update(
        index_elements=["role", "name", "identity_sha"],
        set_=values,
        where=ModelRow.by_run.is_(True) if by_run else None,
    )
    with store.write() as connection:
        connection.execute(insert)
        number = connection.execute(
            select(ModelRow.id).where(*_exactly(model.role, model.name, identity_sha))
        )
        return replace(model, id=number.scalar_one(), archived=False)


def models(
    store: Store, role: Role | None = None, archived: bool = False, superseded: bool = False
) -> list[Model]:
    """The registered models by role and name; of one role where given.

    Args:
        archived: archived models too.
        superseded: every row of a name, the one it stands for first, instead of that one.
    """
    query = select(*MODEL).order_by(ModelRow.role, ModelRow.name, *_FIRST)
    if role is not None:
        query = query.where(ModelRow.role == role)
    if not archived:
        query = query.where(ModelRow.archived_at.is_(None))
    found = MODEL.all(store, query)
    if superseded:
        return found
    meant: dict[tuple[str, str], Model] = {}
    for model in found:
        meant.setdefault((model.role, model.name), model)
    return [*meant.values()]


def get(store: Store, name: str, role: Role | None = None) -> Model | None:
    """The model that this name stands for, or None; no archived one."""
    query = (
        select(*MODEL).where(ModelRow.name == name, ModelRow.archived_at.is_(None)).order_by(*_FIRST).limit(1)
    )
    if role is not None:
        query = query.where(ModelRow.role == role)
    return MODEL.first(store, query)


def find(store: Store, role: Role, name: str, identity_sha: str) -> Model | None:
    """The model of exactly these settings, archived or not, or None."""
    return MODEL.first(store, select(*MODEL).where(*_exactly(role, name, identity_sha)))


def by_id(store: Store, ids: Iterable[int]) -> dict[int, Model]:
    """The models of these ids, archived or not; unknown ids are left out."""
    found = (MODEL.all(store, select(*MODEL).where(ModelRow.id.in_(part))) for part in chunks(ids))
    return {model.id or 0: model for part in found for model in part}


def archive(store: Store, model_id: int, archived: bool = True) -> None:
    """Hide a model from listings, or show it again; its responses stay."""
    stamp = func.coalesce(ModelRow.archived_at, time.time()) if archived else None
    store.execute(update(ModelRow).where(ModelRow.id == model_id).values(archived_at=stamp))


def _exactly(role: Role, name: str, identity_sha: str) -> tuple[ColumnElement[bool], ...]:
    return ModelRow.role == role, ModelRow.name == name, ModelRow.identity_sha == identity_sha
