"""When rows that have come must be committed: many at once, none late."""

import time
from collections.abc import Callable

ROWS = 500
LOCAL_S = 2.0
"""Seconds between two commits of what a model in this process answers: a kill loses that much work, and no money."""
SERVED_S = 0.05
"""The same for what a server has answered: one answer is committed at once, many share 20 commits a second."""
LOOK_S = 0.25
"""Seconds after which a writer looks at other things while nothing comes."""


class FlushTimer:
    """Counts rows that wait for a commit.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows, self._window, self._since = 0, LOCAL_S, clock()

    def came(self, window: float) -> None:
        """Counts a row that may wait until `window` seconds after the last commit."""
        self._rows += 1
        self._window = min(self._window, window)

    def committed(self) -> None:
        """Nothing waits any more."""
        self._rows, self._window, self._since = 0, LOCAL_S, self._clock()

    @property
    def left(self) -> float:
        """Seconds that a writer may wait for more, `LOOK_S` at most."""
        if not self._rows:
            return LOOK_S
        return min(LOOK_S, max(0.0, self._since + self._window - self._clock()))

    @property
    def now(self) -> bool:
        """Whether it is time."""
        return self._rows >= ROWS or (self._rows > 0 and self.left == 0)
