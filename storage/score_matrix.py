"""The matrix of one scorer's values over prompts and teachers, which rewards are made of."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from storage.errors import StoreError
from storage.rows import SPLITS
from storage.schema import MemberRow, ResponseRow, ScoreRow
from storage.scores import Scored, select_responses
from storage.store import Store

_CELL = (ResponseRow.prompt_id, ResponseRow.status, ScoreRow.value, ScoreRow.status)


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


def matrix_pages(
    store: Store, scored: Scored, *, page: int = 5000, prompt_id: int | None = None
) -> Iterator[ScoreMatrix]:
    """The score matrix in pages of at most `page` prompts, in the set's order.

    Args:
        store: an open store.
        scored: whose scores; its generations are the M columns, in order.
        page: prompts a page.
        prompt_id: only this prompt, where it is in these splits; None for all.
    """
    generations = scored.generations
    if len(set(generations)) != len(generations):
        raise StoreError("a teacher is asked for twice in a score matrix", "Name every generation once.")
    query = select(MemberRow.ordinal, MemberRow.prompt_id).where(
        MemberRow.prompt_set_id == scored.prompt_set_id, MemberRow.split.in_(scored.splits or SPLITS)
    )
    if prompt_id is not None:
        query = query.where(MemberRow.prompt_id == prompt_id)
    query = query.order_by(MemberRow.ordinal).limit(page)
    after = -1
    while True:
        with store.read() as connection:
            members = connection.execute(query.where(MemberRow.ordinal > after)).all()
            if not members:
                return
            ids = np.asarray([member.prompt_id for member in members], dtype=np.int64)
            made = ScoreMatrix(
                prompt_ids=ids,
                values=np.full((len(ids), len(generations)), np.nan),
                asked=np.zeros((len(ids), len(generations)), dtype=np.bool_),
                usable=np.zeros((len(ids), len(generations)), dtype=np.bool_),
            )
            order = np.argsort(ids)
            here = MemberRow.ordinal.between(members[0].ordinal, members[-1].ordinal)
            for place, generation in enumerate(generations):
                column = select_responses(
                    connection, _CELL, replace(scored, generations=(generation,)), usable=False
                )
                cells = connection.execute(column.where(here)).all()
                if not cells:
                    continue
                prompt_ids, statuses, values, score_statuses = zip(*cells, strict=True)
                lines = order[np.searchsorted(ids, np.asarray(prompt_ids), sorter=order)]
                status = np.asarray(statuses)
                made.asked[lines, place] = status != "error"
                made.usable[lines, place] = status == "ok"
                has = np.asarray(score_statuses) == "ok"
                made.values[lines[has], place] = np.asarray(values, dtype=np.float64)[has]
        yield made
        after = members[-1].ordinal


def matrix(store: Store, scored: Scored, prompt_id: int | None = None) -> ScoreMatrix:
    """The whole score matrix, or a prompt's: 10 bytes a cell. Use `matrix_pages` where a page at a time will do."""
    parts = list(matrix_pages(store, scored, prompt_id=prompt_id))
    empty = (0, len(scored.generations))
    return ScoreMatrix(
        np.concatenate([np.zeros(0, np.int64), *(part.prompt_ids for part in parts)]),
        np.concatenate([np.zeros(empty), *(part.values for part in parts)]),
        np.concatenate([np.zeros(empty, np.bool_), *(part.asked for part in parts)]),
        np.concatenate([np.zeros(empty, np.bool_), *(part.usable for part in parts)]),
    )
