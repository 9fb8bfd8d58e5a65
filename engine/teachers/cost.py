"""A run's dollars: what is spent, what requests on their way may still cost, and whether one more fits."""

import math
from collections.abc import Callable
from threading import Condition

from storage.records import Model, Request, Response

_TURN_TOKENS = 16
"""Prompt tokens that a chat template adds to a message, generously."""
_LOOK_S = 0.25


def cost(teacher: Model, response: Response) -> float:
    """Dollars of one response, from the teacher's price per million tokens."""
    return (
        response.prompt_tokens * teacher.price_input + response.completion_tokens * teacher.price_output
    ) / 1e6


def at_most(teacher: Model, request: Request) -> float:
    """Dollars that the answer to a request can cost: a token is at least one byte of the prompt."""
    prompt = sum(len(str(turn["content"]).encode("utf-8", "replace")) for turn in request.messages)
    prompt += _TURN_TOKENS * (len(request.messages) + 1)
    return (prompt * teacher.price_input + request.sampling.max_tokens * teacher.price_output) / 1e6


def cents(dollars: float) -> str:
    """The dollars in whole cents, rounded up: what a remedy names must do."""
    return f"${math.ceil(dollars * 100 - 1e-9) / 100:,.2f}"


class Budget:
    """A limit that requests on their way cannot cross, shared by threads.

    Each request reserves what it can cost at most before it is sent; its real cost takes the place of that.

    Args:
        limit: dollars; None for no limit.
        spent: dollars already spent.
    """

    def __init__(self, limit: float | None, spent: float) -> None:
        self.limit = math.inf if limit is None else limit
        self.spent = spent
        self._reserved = 0.0
        self._requests = 0
        self._changed = Condition()

    def reserve(self, dollars: float) -> bool:
        """Whether a request of this cost fits; it is reserved then. What costs nothing always fits."""
        with self._changed:
            if not self._fits(dollars):
                return False
            self._reserved += dollars
            self._requests += 1
            return True

    def settle(self, reserved: float, spent: float) -> None:
        """Puts what a request has cost in the place of what it had reserved."""
        with self._changed:
            self._reserved -= reserved
            self._requests -= 1
            self.spent += spent
            if not self._requests:
                self._reserved = 0.0  # a sum of floats need not come back to it
            self._changed.notify_all()

    def wait(self, dollars: float, stopped: Callable[[], bool]) -> bool:
        """Whether a request of this cost fits, once that is decided: others on their way may cost less yet."""
        with self._changed:
            while not self._fits(dollars) and self._requests and not stopped():
                self._changed.wait(_LOOK_S)
            return self._fits(dollars)

    def _fits(self, dollars: float) -> bool:
        return not dollars or self.spent + self._reserved + dollars <= self.limit
