"""What a screen has read and need not read again: one mechanism for every screen that follows the store.

A running job changes the store many times a second, so "the store has changed" is no reason to sum over all of it.
Each query names what its result depends on (its key) and how long a result is good though the key stays the same.
"""

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    key: Any
    result: T
    at: float
    took: float


class QueryCache:
    """Results of one screen's queries; for one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._source: Hashable = None
        self._kept: dict[Hashable, _Kept[Any]] = {}

    def follow(self, source: Hashable) -> None:
        """Forgets everything where it is of another source, such as a job, than this one."""
        if source != self._source:
            self._source = source
            self._kept.clear()

    def get(
        self,
        name: Hashable,
        key: object,
        query: Callable[[], T],
        *,
        lasts: float | Callable[[T], float] = math.inf,
        part: float = 0.0,
    ) -> T:
        """The result of a query: the one that is kept, or a new one where that is of another key or too old.

        Args:
            name: of the query; each name keeps its newest result.
            key: what the result depends on, compared by equality.
            query: makes the result.
            lasts: seconds that a result is good, or what tells them from the result.
            part: a result is good at least so many times as long as making it took: at most one part in so many of
                the time goes into the query.
        """
        kept: _Kept[T] | None = self._kept.get(name)
        began = self._clock()
        if kept is not None and kept.key == key:
            good = lasts(kept.result) if callable(lasts) else lasts
            if began - kept.at < max(good, part * kept.took):
                return kept.result
        result = query()
        self._kept[name] = _Kept(key, result, began, self._clock() - began)
        return result

    def keep(self, name: Hashable, make: Callable[[], T]) -> T:
        """The object of this name, made once for a source: what is read on, such as a curve, is added to it."""
        return self.get(name, None, make)

    def peek(self, name: Hashable) -> Any:
        """The newest result of this name; None where there is none."""
        return kept.result if (kept := self._kept.get(name)) is not None else None
