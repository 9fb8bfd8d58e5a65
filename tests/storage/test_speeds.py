"""How fast teachers have answered, from rows whose times the test sets."""

import pytest
from sqlalchemy import update

from storage import responses, speeds
from storage.schema import ResponseRow


def put(store, make, who, ids, at, latency, tokens=10):
    """Stores answers as one batch at a time of its own."""
    responses.add(store, None, [make.answer(identifier, who) for identifier in ids])
    with store.write() as connection:
        connection.execute(
            update(ResponseRow)
            .where(ResponseRow.prompt_id.in_(ids), ResponseRow.teacher_id == who.teacher_id)
            .values(created_at=at, latency_s=latency, completion_tokens=tokens)
        )


def test_batches_and_pauses(store, make) -> None:
    who = make.generation("a")
    _, ids = make.prompt_set(["synthesis"] * 40)
    assert speeds.measured(store, who.teacher_id) is None
    put(store, make, who, ids[:10], 1000.0, 5.0)
    put(store, make, who, ids[10:20], 1005.0, 5.0)
    found = speeds.measured(store, who.teacher_id)
    assert (found.answers, found.seconds, found.tokens_per_second) == (20, 10.0, 20.0)
    assert found.tokens_per_answer == 10
    # An hour between two jobs was no work.
    put(store, make, who, ids[20:40], 4605.0, 8.0)
    assert speeds.measured(store, who.teacher_id).seconds == pytest.approx(10 + 8 + speeds.WAITS_S)


def test_many_requests_at_a_time_are_not_their_sum(store, make) -> None:
    who = make.generation("a")
    _, ids = make.prompt_set(["synthesis"] * 30)
    for batch in range(3):
        put(store, make, who, ids[10 * batch : 10 * batch + 10], 100.0 + 2 * batch, 1.5)
    assert speeds.measured(store, who.teacher_id).answers_per_second == pytest.approx(30 / 6)
