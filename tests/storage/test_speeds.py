"""How fast teachers have answered, from rows whose times the test sets."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import update

from engine.generation import speeds as known
from storage import registry, responses, speeds
from storage.records import Model
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


def test_a_teacher_is_as_fast_as_its_own_answers_say_then_as_those_of_its_model(store, make) -> None:
    _, ids = make.prompt_set(["synthesis"] * 50)
    own = Model("brief", "teacher", "zoo", "zoo:x")
    odd = Model("mini", "teacher", "zoo", "zoo:x", system="Be odd.")
    for model, asked, at, tokens in ((own, ids[:40], 1000.0, 12), (odd, ids[40:], 2000.0, 7)):
        number = registry.put(store, model, model.name).id
        put(
            store, make, SimpleNamespace(teacher_id=number, generation_sha=model.name), asked, at, 4.0, tokens
        )
    found = known.measured(store, [own])["brief"]
    assert (found.answers, found.of, found.alike, found.tokens_per_second) == (40, "", True, 120.0)
    new = replace(own, name="new", system="Be new.")
    found = known.measured(store, [new])["new"]
    assert (found.answers, found.of, found.alike) == (40, "brief", False)
