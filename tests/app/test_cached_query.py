"""Results that are kept while nothing they depend on has changed."""

import math

import pytest

from persyn_tui.app.state.cached_query import QueryCache


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class _Query:
    """Counts how often it is asked; each time takes some seconds."""

    def __init__(self, clock: _Clock, takes: float = 0.0) -> None:
        self.asked, self._clock, self._takes = 0, clock, takes

    def __call__(self) -> int:
        self.asked += 1
        self._clock.now += self._takes
        return self.asked


def test_a_result_stays_until_its_key_changes() -> None:
    clock = _Clock()
    cache, query = QueryCache(clock), _Query(clock)
    assert cache.get("sums", ("running", 7), query) == 1
    clock.now += 1e6
    assert cache.get("sums", ("running", 7), query) == 1
    assert cache.get("sums", ("done", 7), query) == 2
    assert cache.get("sums", ("running", 7), query) == 3  # only the newest is kept
    assert cache.get("others", ("running", 7), query) == 4  # each name has its own


def test_a_result_is_read_again_after_its_time() -> None:
    clock = _Clock()
    cache, query = QueryCache(clock), _Query(clock)
    assert cache.get("sums", None, query, lasts=1.0) == 1
    clock.now += 0.9
    assert cache.get("sums", None, query, lasts=1.0) == 1
    clock.now += 0.2
    assert cache.get("sums", None, query, lasts=1.0) == 2
    assert cache.get("sums", None, query, lasts=0.0) == 3


def test_a_slow_query_is_asked_more_rarely() -> None:
    clock = _Clock()
    cache, query = QueryCache(clock), _Query(clock, takes=0.5)
    assert cache.get("sums", None, query, lasts=1.0, times_cost=20) == 1  # began at 100.0
    clock.now = 109.9
    assert cache.get("sums", None, query, lasts=1.0, times_cost=20) == 1
    clock.now = 110.0  # 20 · 0.5 s after it began
    assert cache.get("sums", None, query, lasts=1.0, times_cost=20) == 2


def test_nothing_of_another_source_is_shown() -> None:
    clock = _Clock()
    cache, query = QueryCache(clock), _Query(clock)
    cache.follow(12)
    curve = cache.keep("curve", list[int])
    curve.append(3)
    assert cache.get("sums", None, query) == 1
    cache.follow(12)
    assert cache.keep("curve", list[int]) == [3]
    cache.follow(13)
    assert cache.keep("curve", list[int]) == []
    assert cache.get("sums", None, query) == 2


def test_a_query_that_fails_leaves_what_was_kept() -> None:
    cache = QueryCache(_Clock())

    def fails() -> int:
        raise OSError("gone")

    assert cache.get("sums", 1, lambda: 5, lasts=math.inf) == 5
    with pytest.raises(OSError, match="gone"):
        cache.get("sums", 2, fails)
    assert cache.get("sums", 1, fails) == 5
