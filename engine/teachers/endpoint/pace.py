"""How fast one server is asked: a limit of requests in flight, and a breaker. Pure; time is given, not read."""

import math
from collections import deque
from typing import Literal

_ROUND = 8
"""Replies at least between two looks at the throughput."""
_GAIN = 1.05
_HOLD = 10
_OUTCOMES, _STRAY = 50, 3
"""Of so many requests so many may be turned away without a decrease: servers turn some away whatever is asked."""
_LEAST_KEPT = 0.5
"""Share of the limit that one decrease leaves at least."""
_BEYOND = 1.25
"""So many times the limit at which something stood in the way must be reached before that is history."""
_LONGEST_COOLDOWN_S = 60.0
_CHANCE = 1e-4
"""So improbable by a server's own record must failures in a row be to open its breaker."""
_MOST_IN_A_ROW = 50
_RECORD = 20
"""Replies that make a record."""

Cause = Literal["", "overload", "saturation", "operator"]
"""Why a limit is low: requests were turned away; more brought no more tokens per second; an operator lowered it."""


class Limit:
    """Requests in flight at a server: additive increase, multiplicative decrease (Chiu and Jain 1989).

    It begins with one more per reply, as TCP's slow start. It decreases when more requests are turned away than by
    chance, by the share that is (half at most), and once for all that were sent under the same limit. From there
    each round without such a reply takes it half the way back, to just below where it was (binary increase: Xu,
    Harfoush and Rhee 2004); there it stays for some rounds before it tries more. Where more requests bring no more
    tokens per second the server is saturated: it goes back to the limit before, and looks again some rounds later.

    Args:
        start: requests at first.
        most: requests at most.
        now: seconds on a clock that never goes back.
    """

    def __init__(self, start: int, most: int, now: float) -> None:
        self._value, self._most, self._given = float(start), most, most
        self._slow_start = True
        self._cut_at = -math.inf
        self._turned_away: deque[bool] = deque(maxlen=_OUTCOMES)
        """Of the newest requests that were sent since the last decrease."""
        self._goal: float | None = None
        """Where the way back from a decrease ends; None where there is none to go."""
        self._cause: Cause = ""
        self._low_below = 0.0
        """From this limit on, `_cause` is history."""
        self._since, self._replies, self._tokens, self._clean = now, 0, 0, True
        self._before: tuple[float, float] | None = None
        """(limit, tokens per second) of the round before; None where there is nothing to compare with."""
        self._round = self._value
        self._held = 0

    @property
    def allowed(self) -> int:
        """Requests that may be in flight."""
        return int(self._value)

    @property
    def cause(self) -> Cause:
        """Why it is lower than the run file allows; empty where nothing has stood in its way."""
        if self.allowed < min(self._low_below, self._most):
            return self._cause
        return "operator" if self._most < self._given else ""

    @property
    def refused(self) -> float:
        """Share of the newest requests that were turned away; 1 where nothing is known since the last decrease."""
        return sum(self._turned_away) / len(self._turned_away) if self._turned_away else 1.0

    def turn(self, allowed: int, now: float, *, keep: bool) -> None:
        """An operator sets the limit, within its bounds; with `keep` it does not rise above that any more."""
        self._value = float(max(1, min(allowed, self._given)))
        self._most = int(self._value) if keep else self._given
        self._slow_start, self._held, self._before = False, 0, None
        self._goal, self._low_below = None, 0.0
        self._turned_away.clear()
        self._begin_round(now)

    def success(self, now: float, tokens: int, *, full: bool) -> None:
        """Counts a reply; `full` says that the limit was reached, so that a higher one would be used."""
        self._turned_away.append(False)
        self._replies += 1
        self._tokens += max(tokens, 1)
        if full and not self._held and self._goal is None:
            self._value = min(self._most, self._value + (1 if self._slow_start else 1 / self._value))
        if self._replies >= max(_ROUND, self._round):
            self._end_round(now)

    def overload(self, now: float, sent_at: float) -> None:
        """A request was turned away: decreases the limit when that is no chance any more.

        What was sent before the last decrease says nothing of the limit that holds now.
        """
        if sent_at < self._cut_at:
            return
        self._turned_away.append(True)
        self._clean = self._slow_start = False
        if sum(self._turned_away) <= _STRAY or self._value <= 1:
            return
        self._goal, self._held = max(1.0, self._value - 1), 0
        self._cause, self._low_below = "overload", _BEYOND * self._value
        self._value = max(1.0, self._value * max(_LEAST_KEPT, 1 - self.refused))
        self._turned_away.clear()
        self._cut_at, self._before = now, None
        self._begin_round(now)

    def _end_round(self, now: float) -> None:
        if self._goal is not None:
            self._go_back(self._goal)
            self._begin_round(now)
            return
        rate = self._tokens / max(now - self._since, 1e-9)
        if self._held:
            self._held -= 1
        if self._before is not None and not self._held:
            limit, best = self._before
            if self._round >= _GAIN * limit and rate < _GAIN * best:
                self._cause, self._low_below = "saturation", _BEYOND * self._round
                self._value, self._slow_start, self._held = limit, False, _HOLD
        self._before = (self._round, rate)
        self._begin_round(now)

    def _go_back(self, goal: float) -> None:
        """Half the way to the goal after a round in which nothing was turned away; the goal is held."""
        if not self._clean:
            return
        self._value = (self._value + goal) / 2
        if goal - self._value < 1:
            self._value, self._goal, self._held = max(self._value, min(goal, self._most)), None, _HOLD

    def _begin_round(self, now: float) -> None:
        self._since, self._replies, self._tokens, self._round = now, 0, 0, self._value
        self._clean = True


class Breaker:
    """Whether a server may be asked: closed, open, half open, or given up.

    Failures in a row open it: so many that its replies so far make them no accident, as a server that fails now and
    then is not one that has died. After a cool-down one request goes through as a probe; a reply closes the
    breaker, a failure doubles the cool-down. What the server asks to wait is waited for in any state.

    Args:
        failures: in a row at least, that open it.
        probes: failed ones in a row after which the server is given up.
        cooldown: seconds before the first probe.
        max_wait: seconds of Retry-After beyond which the server is given up.
    """

    def __init__(self, failures: int, probes: int, cooldown: float, max_wait: float) -> None:
        self._failures, self._probes, self._cooldown, self._max_wait = failures, probes, cooldown, max_wait
        self._in_a_row = self._failed_probes = 0
        self._good = self._bad = 0
        """Replies, and failures before the last of them."""
        self._open = self._probing = False
        self._until = self._asked_until = -math.inf
        self.reason = ""
        """What the last failure was."""
        self.given_up = False

    @property
    def proven(self) -> bool:
        """Whether the server has ever replied as it should."""
        return self._good > 0

    @property
    def ready_at(self) -> float:
        """When the server may next be asked; infinity while a probe is out or when it is given up."""
        if self.given_up or self._probing:
            return math.inf
        return max(self._until, self._asked_until)

    def blocked(self, now: float) -> bool:
        """Whether no request but a probe may go out."""
        return self._open or self.given_up or self._asked_until > now

    def begin(self) -> bool:
        """Notes that a request goes out; True when it is a probe."""
        self._probing = self._open
        return self._open

    def success(self) -> None:
        """The server has replied as it should, so it is alive."""
        self._good += 1
        self.alive()

    def alive(self) -> None:
        """The server is well, if it only refuses."""
        self._bad += self._in_a_row
        self._in_a_row = self._failed_probes = 0
        self._open = self._probing = False
        self._until = -math.inf

    def withdraw(self) -> None:
        """The probe was ended before it could tell."""
        self._probing = False

    def failure(
        self, now: float, reason: str, *, probe: bool, wait: float | None, again: bool = False
    ) -> None:
        """The server has failed.

        Args:
            now: seconds.
            reason: for the operator.
            probe: whether the request was one.
            wait: seconds that the server asks to be left alone; None when it does not.
            again: whether this very request had failed before: where the server answers others, it is to blame.
        """
        self.reason = reason
        if not (again and self._good and not self._open):
            self._in_a_row += 1
        if wait is not None:
            self._asked_until = max(self._asked_until, now + wait)
            if wait > self._max_wait:
                self.give_up(f"{reason}; it asks to wait {wait:,.0f} s")
        if probe:
            self._probing = False
            self._failed_probes += 1
            if self._failed_probes >= self._probes:
                self.give_up(reason)
        elif self._open:
            return  # sent before it opened: says nothing new
        if probe or self._in_a_row >= self._needed:
            self._open = True
            self._until = now + min(self._cooldown * 2**self._failed_probes, _LONGEST_COOLDOWN_S)

    @property
    def _needed(self) -> int:
        """Failures in a row that are no accident, by the share of failures so far."""
        replies = self._good + self._bad
        if replies < _RECORD or not self._bad:
            return self._failures
        share = self._bad / replies
        return max(self._failures, min(_MOST_IN_A_ROW, math.ceil(math.log(_CHANCE) / math.log(share))))

    def give_up(self, reason: str) -> None:
        """No more requests to this server in this run."""
        self.given_up, self.reason = True, reason
