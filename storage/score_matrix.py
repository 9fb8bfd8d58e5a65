"""The matrix of one scorer's values over prompts and teachers, which rewards are made of."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from storage.errors import StoreError
from storage.rows import SPLITS, chunks
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


def matrix(store: Store, scored: Scored, prompt_id: int | None = None, page: int = 5000) -> ScoreMatrix:
    """The score matrix, 10 bytes a cell; of one prompt where it is given and in these splits.

    Args:
        scored: whose scores; its generations are the M columns, in order.
        page: prompts that are read at a time.
    """
    generations = scored.generations
    if len(set(generations)) != len(generations):
        raise StoreError("a teacher is asked for twice in a score matrix", "Name every generation once.")
    query = select(MemberRow.ordinal, MemberRow.prompt_id).where(
        MemberRow.prompt_set_id == scored.prompt_set_id, MemberRow.split.in_(scored.splits or SPLITS)
    )
    if prompt_id is not None:
        query = query.where(MemberRow.prompt_id == prompt_id)
    members = store.rows(query.order_by(MemberRow.ordinal))
    ids = np.asarray([member.prompt_id for member in members], dtype=np.int64)
    made = ScoreMatrix(
        prompt_ids=ids,
        values=np.full((len(ids), len(generations)), np.nan),
        asked=np.zeros((len(ids), len(generations)), dtype=np.bool_),
        usable=np.zeros((len(ids), len(generations)), dtype=np.bool_),
    )
    order = np.argsort(ids)
    for part in chunks(members, page):
        here = MemberRow.ordinal.between(part[0].ordinal, part[-1].ordinal)
        for place, generation in enumerate(generations):
            one = replace(scored, generations=(generation,))
            cells = store.rows(select_responses(store, _CELL, one, usable=False).where(here))
            if not cells:
                continue
            prompt_ids, statuses, values, score_statuses = zip(*cells, strict=True)
            lines = order[np.searchsorted(ids, np.asarray(prompt_ids), sorter=order)]
            status = np.asarray(statuses)
            made.asked[lines, place] = status != "error"
            made.usable[lines, place] = status == "ok"
            has = np.asarray(score_statuses) == "ok"
            made.values[lines[has], place] = np.asarray(values, dtype=np.float64)[has]
    return made
