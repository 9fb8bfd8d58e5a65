"""The limit and the breaker of one server, on a clock of our own."""

import heapq
import math
import random
from collections.abc import Callable

import pytest

from engine.teachers.endpoint.pace import Breaker, Limit


def replies(limit: Limit, now: float, count: int, seconds: float) -> float:
    """`count` replies of 10 tokens, evenly over the seconds; the clock after them."""
    for _ in range(count):
        now += seconds / count
        limit.success(now, 10, full=True)
    return now


def turned_away(limit: Limit, now: float, count: int, sent_at: float) -> None:
    """So many requests that were sent at one time are turned away."""
    for _ in range(count):
        limit.overload(now, sent_at=sent_at)


def test_the_limit_grows_while_throughput_does_and_decreases_once_per_round_trip() -> None:
    limit = Limit(4, 1000, 0.0)
    now = 0.0
    for _ in range(4):
        count = max(8, limit.allowed)
        now = replies(limit, now, count, 1.0 * count / limit.allowed)
    assert limit.allowed == 96  # one more per reply: 4 + 8 + 12 + 24 + 48
    turned_away(limit, now, 3, sent_at=now - 1)
    assert limit.allowed == 96  # 3 of 50: a server may turn so many away by chance
    turned_away(limit, now, 40, sent_at=now - 1)
    assert limit.allowed == 88  # by the 4 of 50, once; what was sent before says nothing new
    turned_away(limit, now + 2, 40, sent_at=now + 1)
    assert limit.allowed == 44  # nothing but refusals: half, the most at a time


def test_after_a_burst_of_refusals_the_limit_is_back_within_a_few_rounds() -> None:
    limit = Limit(64, 64, 0.0)
    turned_away(limit, 1.0, 60, sent_at=0.0)
    assert (limit.allowed, limit.cause) == (32, "overload")
    now, rounds = 1.0, 0
    while limit.allowed < 63:
        now = replies(limit, now, limit.allowed, 1.0)
        rounds += 1
    assert rounds <= 6
    now = replies(limit, now, 12 * 64, 12.0)  # it holds there before it tries more
    assert (limit.allowed, limit.cause) == (64, "")


def simulated(
    start: int,
    turns_away: Callable[[int, random.Random], bool],
    *,
    answers: int = 4000,
    seed: int = 0,
) -> tuple[float, float, int]:
    """(mean limit, mean in flight, requests turned away) of a server on a clock of its own.

    An answer takes about a second, a refusal 50 ms; after one the server is left alone as the endpoint's client does.

    Args:
        start: the first limit, of 64 at most.
        turns_away: whether a request is, by how many the server is at.
        answers: how many are asked for.
        seed: of the server's chance.
    """
    chance, limit, now = random.Random(seed), Limit(start, 64, 0.0), 0.0
    ends: list[tuple[float, float, bool, bool]] = []
    in_flight = at_work = done = refused = 0
    ready, allowed_s, in_flight_s = 0.0, 0.0, 0.0
    while done < answers:
        while in_flight < limit.allowed and ready <= now:
            in_flight += 1
            refusal = turns_away(at_work, chance)
            at_work += not refusal
            lasts = 0.05 if refusal else 0.2 + chance.expovariate(1.25)
            heapq.heappush(ends, (now + lasts, now, refusal, in_flight >= limit.allowed))
        until = ends[0][0] if ends else ready
        if in_flight < limit.allowed and now < ready < until:
            until = ready
        allowed_s += limit.allowed * (until - now)
        in_flight_s += in_flight * (until - now)
        now = until
        if ends and ends[0][0] <= now:
            _, sent_at, refusal, full = heapq.heappop(ends)
            in_flight -= 1
            if refusal:
                refused += 1
                limit.overload(now, sent_at)
                ready = max(ready, now + 1.0 * limit.refused)
            else:
                at_work -= 1
                done += 1
                limit.success(now, 100, full=full)
    return allowed_s / now, in_flight_s / now, refused


@pytest.mark.parametrize("seed", range(3))
def test_random_refusals_leave_a_limit_of_use(seed: int) -> None:
    """2 % of 429s at random with 64 in flight: once it fell to 2 and stayed there."""
    allowed, in_flight, refused = simulated(
        64, lambda at_work, chance: chance.random() < 0.02, answers=6000, seed=seed
    )
    assert 80 < refused < 180
    assert allowed > 32
    assert in_flight > 32


@pytest.mark.parametrize("start", [8, 64])
def test_a_server_that_takes_four_at_a_time_gets_four_and_few_more(start: int) -> None:
    allowed, in_flight, refused = simulated(start, lambda at_work, chance: at_work >= 4)
    assert 3.5 < allowed < 4.6
    assert 3.5 < in_flight < 4.6
    finding_out = 104 if start == 64 else 8  # what is sent beyond four under 64, 32, 16 and 8
    assert refused < finding_out + 0.06 * 4000


def test_a_server_that_takes_one_at_a_time_is_asked_one_at_a_time() -> None:
    allowed, _, _ = simulated(8, lambda at_work, chance: at_work >= 1, answers=600)
    assert 1 <= allowed < 1.3


def test_the_limit_goes_back_where_more_requests_bring_no_more_tokens() -> None:
    limit = Limit(8, 256, 0.0)
    now = 0.0
    for _ in range(60):
        count = max(8, limit.allowed)
        now = replies(limit, now, count, count / 100)  # 100 replies a second, whatever the limit
    assert limit.allowed <= 20
    assert limit.cause == "saturation"


def test_an_unused_limit_does_not_grow_and_a_limit_stays_within_its_bounds() -> None:
    limit = Limit(4, 6, 0.0)
    limit.success(1.0, 10, full=False)
    assert limit.allowed == 4
    replies(limit, 1.0, 7, 0.1)
    assert limit.allowed == 6
    for second in range(20):
        turned_away(limit, 10.0 + second, 4, sent_at=10.0 + second)
    assert limit.allowed == 1


def test_what_an_operator_lowers_stays_the_most_until_it_is_raised() -> None:
    limit = Limit(64, 100, 0.0)
    limit.turn(32, 0.0, keep=True)
    now = replies(limit, 0.0, 200, 1.0)
    assert (limit.allowed, limit.cause) == (32, "operator")
    turned_away(limit, now, 50, sent_at=now - 0.1)  # an overloaded server is spared all the same
    assert (limit.allowed, limit.cause) == (29, "overload")
    now = replies(limit, now, 1000, 10.0)
    assert (limit.allowed, limit.cause) == (
        32,
        "operator",
    )  # and it does not come back beyond what was lowered
    limit.turn(64, now, keep=False)
    assert (limit.allowed, limit.cause) == (64, "")
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
