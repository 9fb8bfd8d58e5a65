"""Watching a vLLM server: whether it still runs and still makes tokens, and its own figures."""

import http.client
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread

from engine.teachers.vllm_server.server import Server

READ_S = 2.0
"""Seconds between two looks at its figures."""
_LOOK_S = 0.25

_LINE = re.compile(r"^(vllm:\w+)(?:\{[^}]*\})? ([-+.\deE]+)$", re.MULTILINE)
_GENERATED, _PROMPTS = "vllm:generation_tokens_total", "vllm:prompt_tokens_total"
_CACHE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
"""The second is its name in older versions."""


def figures(text: str) -> dict[str, float]:
    """vLLM's counters and gauges out of a `/metrics` page; those of several engines are added up."""
    found: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        found[name] = found.get(name, 0.0) + float(value)
    return found


@dataclass
class Gauges:
    """Readings of one server, newest only; `take` gives each once."""

    tokens: float = 0.0
    at: float = 0.0
    fresh: dict[str, float] = field(default_factory=dict)

    def read(self, now: float, found: dict[str, float]) -> None:
        """Takes a page's figures; `now` in seconds on a clock that never goes back."""
        tokens = found.get(_GENERATED, 0.0)
        if self.at and now > self.at:
            self.fresh["tokens_per_second"] = max(0.0, tokens - self.tokens) / (now - self.at)
        cache = [found[name] for name in _CACHE if name in found]
        if cache:
            self.fresh["kv_cache"] = cache[0]
        self.tokens, self.at = tokens, now

    def take(self) -> dict[str, float]:
        """Readings since the last call."""
        taken, self.fresh = self.fresh, {}
        return taken


class Watch(Thread):
    """Looks after a server until it is told to stop, or the server is of no more use.

    Args:
        server: a server that has answered.
        in_flight: requests sent to it and not answered.
        stall_s: seconds with requests in flight and no token, after which it is ended.
        lost: called once when the server has ended or was ended here, never after `stop`.
    """

    def __init__(
        self, server: Server, in_flight: Callable[[], int], stall_s: float, lost: Callable[[], None]
    ) -> None:
        super().__init__(name=f"watch {server.name}", daemon=True)
        self._server, self._in_flight, self._stall_s, self._lost = server, in_flight, stall_s, lost
        self._told = Event()
        self.gauges = Gauges()
        self.reason = ""
        """Why the server is of no more use; empty while it is."""

    def run(self) -> None:
        """Watches."""
        moved, seen, read_at = time.monotonic(), -1.0, 0.0
        while not self._told.is_set():
            if self._server.ended(_LOOK_S):
                self.end(self._server.exit_text())
                return
            now = time.monotonic()
            if now - read_at < READ_S:
                continue
            read_at = now
            made = self._read(now)
            if not self._in_flight() or (made is not None and made != seen):
                moved, seen = now, made if made is not None else seen
            elif now - moved > self._stall_s:
                self.end(
                    f"made no token for {self._stall_s:,.0f} s with {self._in_flight():,} requests in flight"
                )
                return

    def stop(self) -> None:
        """Watches no more; what happens to the server from now on is meant."""
        self._told.set()

    def end(self, reason: str) -> None:
        """Ends the server, which is of no more use; does nothing after `stop`."""
        if not self._told.is_set():
            self._told.set()
            self.reason = f"{reason}{self._server.said()}"
            self._server.stop()
            self._lost()

    def _read(self, now: float) -> float | None:
        """Tokens read and written since its start; None when it does not say."""
        try:
            status, text = self._server.get("/metrics")
        except (OSError, http.client.HTTPException):
            return None
        if status != 200:
            return None
        found = figures(text)
        self.gauges.read(now, found)
        return found.get(_GENERATED, 0.0) + found.get(_PROMPTS, 0.0)
