"""The limit and the breaker of one server, on a clock of our own."""

import math

import pytest

from engine.backends._pace import Breaker, Limit


def replies(limit: Limit, now: float, count: int, seconds: float) -> float:
    """`count` replies of 10 tokens, evenly over the seconds; the clock after them."""
    for _ in range(count):
        now += seconds / count
        limit.success(now, 10, full=True)
    return now


def test_the_limit_grows_while_throughput_does_and_halves_once_per_round_trip() -> None:
    limit = Limit(4, 1000, 0.0)
    now = 0.0
    for _ in range(4):
        count = max(8, limit.allowed)
        now = replies(limit, now, count, 1.0 * count / limit.allowed)
    assert limit.allowed == 96  # one more per reply: 4 + 8 + 12 + 24 + 48
    before = limit.allowed
    limit.overload(now, sent_at=now - 1)
    limit.overload(now + 0.1, sent_at=now - 0.5)  # sent before the halving: says nothing new
    assert limit.allowed == before // 2
    limit.overload(now + 2, sent_at=now + 1)
    assert limit.allowed == before // 4


def test_the_limit_goes_back_where_more_requests_bring_no_more_tokens() -> None:
    limit = Limit(8, 256, 0.0)
    now = 0.0
    for _ in range(60):
        count = max(8, limit.allowed)
        now = replies(limit, now, count, count / 100)  # 100 replies a second, whatever the limit
    assert limit.allowed <= 20


def test_an_unused_limit_does_not_grow_and_a_limit_stays_within_its_bounds() -> None:
    limit = Limit(4, 6, 0.0)
    limit.success(1.0, 10, full=False)
    assert limit.allowed == 4
    replies(limit, 1.0, 7, 0.1)
    assert limit.allowed == 6
    for second in range(20):
        limit.overload(10.0 + second, sent_at=10.0 + second)
    assert limit.allowed == 1


def test_what_an_operator_lowers_stays_the_most_until_it_is_raised() -> None:
    limit = Limit(64, 100, 0.0)
    limit.turn(32, 0.0, keep=True)
    now = replies(limit, 0.0, 200, 1.0)
    assert limit.allowed == 32
    limit.overload(now, sent_at=now)  # an overloaded server is spared all the same
    assert limit.allowed == 16
    limit.turn(64, now, keep=False)
    assert limit.allowed == 64
    replies(limit, now, 200, 1.0)  # and what comes faster with more goes on to grow
    assert limit.allowed > 64
    limit.turn(1000, now, keep=False)
    assert limit.allowed == 100  # what the run file allows
    limit.turn(0, now, keep=True)
    assert limit.allowed == 1


def breaker() -> Breaker:
    return Breaker(failures=3, probes=2, cooldown=1.0, max_wait=100.0)


def test_failures_in_a_row_open_the_breaker_and_a_probe_closes_it() -> None:
    found = breaker()
    for number in range(2):
        assert not found.begin()
        found.failure(float(number), "HTTP 500", probe=False, wait=None)
        assert found.ready_at <= number
    found.success()
    for _ in range(3):
        found.failure(10.0, "HTTP 500", probe=False, wait=None)
    assert found.ready_at == 11.0
    assert found.begin()
    assert found.ready_at == math.inf  # one probe at a time
    found.failure(11.0, "HTTP 500", probe=True, wait=None)
    assert found.ready_at == 13.0  # twice the cool-down
    assert found.begin()
    found.success()
    assert not found.given_up
    assert found.ready_at <= 13.0


def test_a_server_that_fails_now_and_then_needs_a_longer_row_of_failures() -> None:
    flaky = Breaker(failures=5, probes=3, cooldown=1.0, max_wait=100.0)
    for number in range(200):
        if number % 2:
            flaky.success()
        else:
            flaky.failure(0.0, "x", probe=False, wait=None)
    for _ in range(13):  # half of its replies fail: 14 in a row are less probable than 1 in 10,000
        flaky.failure(0.0, "x", probe=False, wait=None)
        assert flaky.ready_at <= 0.0
    flaky.failure(0.0, "x", probe=False, wait=None)
    assert flaky.ready_at == 1.0


def test_a_request_that_fails_again_says_nothing_of_a_server_that_answers_others() -> None:
    breaker = Breaker(failures=2, probes=3, cooldown=1.0, max_wait=100.0)
    breaker.success()
    for _ in range(10):
        breaker.failure(0.0, "x", probe=False, wait=None, again=True)
    assert breaker.ready_at <= 0.0
    never = Breaker(failures=2, probes=3, cooldown=1.0, max_wait=100.0)
    for _ in range(2):
        never.failure(0.0, "x", probe=False, wait=None, again=True)
    assert never.ready_at == 1.0


def test_failed_probes_give_the_server_up() -> None:
    found = breaker()
    for _ in range(3):
        found.failure(0.0, "HTTP 500", probe=False, wait=None)
    for _ in range(2):
        found.begin()
        found.failure(5.0, "HTTP 502", probe=True, wait=None)
    assert found.given_up
    assert found.reason == "HTTP 502"
    assert found.ready_at == math.inf


@pytest.mark.parametrize(("wait", "ready"), [(7.0, 7.0), (0.0, 0.0), (100.0, 100.0)])
def test_what_the_server_asks_to_wait_is_waited_for_even_after_a_success(wait: float, ready: float) -> None:
    found = breaker()
    found.failure(0.0, "HTTP 429", probe=False, wait=wait)
    found.success()
    assert found.ready_at == ready


def test_a_server_that_asks_for_too_long_is_given_up() -> None:
    found = breaker()
    found.failure(0.0, "HTTP 429", probe=False, wait=101.0)
    assert found.given_up
    assert "101 s" in found.reason
