"""Results of a screen's queries, kept until they have to be read again: one mechanism for every live screen.

A running job changes the store many times a second, so "the store has changed" is no reason to sum over all of it
again. Each query names what its result depends on (its key) and how long a result is good while that stays the same::

    cache = QueryCache()
    cache.follow(job.id)  # another job: nothing of the one before is shown
    cache.get("shares", plan.complete, lambda: routing.shares(store, plan.id), lasts=inf if plan.complete else 1.0)
    curves = cache.keep("curves", dict)  # read on, never anew
"""

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    key: object
    result: T
    read_at: float
    took: float
    """Seconds that the query took."""


class QueryCache:
    """The newest result of each query of one screen; for one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._source: Hashable = None
        self._kept: dict[Hashable, _Kept[Any]] = {}

    def follow(self, source: Hashable) -> None:
        """Forgets everything that was read of another source, such as another job."""
        if source != self._source:
            self._source = source
            self._kept.clear()

    def get(
        self,
        name: Hashable,
        key: object,
        query: Callable[[], T],
        *,
        lasts: float = math.inf,
        times_cost: float = 0.0,
    ) -> T:
        """The kept result of a query, or a new one where the kept one has another key or is too old.

        An exception of the query passes, and what was kept stays.

        Args:
            name: of the query.
            key: what the result depends on, compared by equality.
            query: makes the result.
            lasts: seconds for which a result is good.
            times_cost: a result is good at least this many times as long as the query took, which bounds the share
                of the time that goes into it.
        """
        kept: _Kept[T] | None = self._kept.get(name)
        began = self._clock()
        if kept is not None and kept.key == key and began - kept.read_at < max(lasts, times_cost * kept.took):
            return kept.result
        result = query()
        self._kept[name] = _Kept(key, result, began, self._clock() - began)
        return result

    def keep(self, name: Hashable, make: Callable[[], T]) -> T:
        """What is made once per source and added to by its reader, such as curves that are read on."""
        return self.get(name, None, make)
