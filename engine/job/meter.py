"""How fast something is done, over the last 20 seconds."""

from collections import deque

WINDOW_S = 20.0
SETTLED, SETTLED_S = 4, 30.0
"""Units, or seconds, after which a speed is one to tell the future by: the first response waits for its model."""
QUIET_S, QUIET_GAPS = 2.0, 3.0
"""Seconds, or usual times between two units, without one, after which nothing seems to come any more."""


class Meter:
    """Units and tokens counted by this process, and how fast over the last 20 s.

    Args:
        now: seconds on a clock that never goes back.
    """

    def __init__(self, now: float) -> None:
        self.made, self.tokens = 0.0, 0
        self.start(now)

    def start(self, now: float) -> None:
        """Counts time from now on only: what was counted until now took time that says nothing of the speed."""
        self._began = self._last = now
        self._made_before = self.made
        self._marks: deque[tuple[float, float, int]] = deque([(now, self.made, self.tokens)])

    def add(self, made: float, tokens: int, now: float) -> None:
        """Counts."""
        self.made += made
        self.tokens += tokens
        self._last = now

    @property
    def overall(self) -> float | None:
        """Units per second from the beginning to the last one; None before there is one."""
        made = self.made - self._made_before
        return made / (self._last - self._began) if self._last > self._began else None

    def settled(self, now: float) -> bool:
        """Whether its speed says something of what is left."""
        return self.made >= SETTLED or now - self._began >= SETTLED_S

    def quiet(self, now: float) -> bool:
        """Whether nothing came for longer than usual."""
        rate = self.speed(now)[0]
        return rate is None or now - self._last > max(QUIET_S, QUIET_GAPS / rate)

    def mark(self, now: float) -> None:
        """Remembers where the counts stand, and forgets what is older than the window."""
        self._marks.append((now, self.made, self.tokens))
        while len(self._marks) > 2 and now - self._marks[1][0] > WINDOW_S:
            self._marks.popleft()

    def speed(self, now: float) -> tuple[float | None, float | None]:
        """(units per second, tokens per second); None where nothing was counted in the window."""
        then, made, tokens = self._marks[0]
        elapsed = now - then
        if elapsed <= 0.2:
            return None, None
        return (self.made - made) / elapsed or None, (self.tokens - tokens) / elapsed or None
