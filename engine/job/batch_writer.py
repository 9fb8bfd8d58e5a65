"""Rows on their way to the store: many in one transaction, none late."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from storage.errors import StoreLostError

ROWS = 500
LOCAL_S = 2.0
"""Seconds between two commits of what a model in this process gives: a kill loses that much work, and no money."""
SERVED_S = 0.05
"""The same for what a server has sent: one row is committed at once, many share 20 commits a second."""
LOOK_S = 0.25
"""Seconds after which a writer looks at other things while nothing comes."""

TRIES = 3
"""Of a commit whose database server goes away in the middle."""

_Row = TypeVar("_Row")


class BatchWriter(Generic[_Row]):
    """Keeps rows until it is time to commit them.

    Args:
        commit: stores rows in the order in which they came.
        clock: seconds that never go back.
    """

    def __init__(
        self, commit: Callable[[list[_Row]], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._commit, self._clock = commit, clock
        self._rows: list[_Row] = []
        self._window, self._since = LOCAL_S, clock()

    def add(self, row: _Row, window: float) -> None:
        """Takes a row that may wait until `window` seconds after the last commit."""
        self._rows.append(row)
        self._window = min(self._window, window)

    def flush(self) -> None:
        """Commits all that waits."""
        rows, self._rows, self._window, self._since = self._rows, [], LOCAL_S, self._clock()
        for left in reversed(range(TRIES if rows else 0)):
            try:
                self._commit(rows)
                return
            except StoreLostError:  # a row that was stored all the same stays as it is
                if not left:
                    raise

    def flush_if_due(self) -> bool:
        """Whether it was time, and all that waited is committed."""
        due = len(self._rows) >= ROWS or (bool(self._rows) and self.left == 0)
        if due:
            self.flush()
        return due

    @property
    def left(self) -> float:
        """Seconds that may be waited for more, `LOOK_S` at most."""
        if not self._rows:
            return LOOK_S
        return min(LOOK_S, max(0.0, self._since + self._window - self._clock()))
