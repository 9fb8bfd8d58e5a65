"""When rows that have come are committed, on a clock of our own."""

import pytest

from engine.job.flush_timer import LOCAL_S, LOOK_S, ROWS, SERVED_S, FlushTimer


def test_an_answer_that_comes_alone_is_committed_at_once_and_many_share_a_commit() -> None:
    now = 100.0
    due = FlushTimer(lambda: now)
    assert (due.now, due.left) == (False, LOOK_S)
    now += 1
    due.came(SERVED_S)
    assert due.now
    due.committed()
    due.came(SERVED_S)
    assert not due.now
    assert due.left == pytest.approx(SERVED_S)
    now += SERVED_S
    assert due.now


def test_one_served_answer_hurries_those_of_local_models_and_so_does_their_number() -> None:
    now = 0.0
    due = FlushTimer(lambda: now)
    due.came(LOCAL_S)
    now = 0.1
    assert not due.now
    due.came(SERVED_S)
    assert due.now
    due.committed()
    for _ in range(ROWS):
        assert not due.now
        due.came(LOCAL_S)
    assert due.now
