"""How fast a teacher has responded, from its stored responses: when they came, how long each took, their tokens."""

from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import select

from storage.schema import ResponseRow
from storage.store import Store

LOOKED_AT = 2000
"""Newest responses that are looked at."""
WAITS_S = 2.0
"""A response waits at most so long before it is stored with others."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured of a teacher."""

    answers: int
    """How many it is measured on."""
    tokens: int
    """Their generated tokens."""
    seconds: float
    """Wall time in which it worked on them: pauses between jobs are left out."""
    of: str = ""
    """The registered teacher whose responses these are, where that is not the one that is asked about."""
    alike: bool = True
    """Whether they were asked for with the same system prompt and sampling: then they are as long."""

    @property
    def tokens_per_second(self) -> float:
        """Of all its requests together."""
        return self.tokens / self.seconds

    @property
    def answers_per_second(self) -> float:
        """Of all its requests together."""
        return self.answers / self.seconds

    @property
    def tokens_per_answer(self) -> float:
        """Their mean length."""
        return self.tokens / self.answers


def measured(store: Store, teacher_id: int) -> Speed | None:
    """The speed of a registered model's newest responses; None where it has none that took time."""
    query = (
        select(ResponseRow.created_at, ResponseRow.completion_tokens, ResponseRow.latency_s)
        .where(ResponseRow.teacher_id == teacher_id, ResponseRow.status != "error")
        .order_by(ResponseRow.id.desc())
        .limit(LOOKED_AT)
    )
    with store.read() as connection:
        rows = sorted(
            (row.created_at, row.completion_tokens, row.latency_s) for row in connection.execute(query)
        )
    seconds, before = 0.0, None
    for at, together in groupby(rows, lambda row: row[0]):
        took = [latency for _, _, latency in together]
        # When those stored first were begun is not known: one after the other, or many at a time.
        longest = max(max(took), min(sum(took), WAITS_S)) if before is None else max(took) + WAITS_S
        seconds += longest if before is None else min(at - before, longest)
        before = at
    tokens = sum(tokens for _, tokens, _ in rows)
    return Speed(len(rows), tokens, seconds) if seconds > 0 and tokens else None
