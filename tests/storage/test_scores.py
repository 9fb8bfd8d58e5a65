import math

import numpy as np
import pytest

from storage import responses, routing, score_matrix, scores
from storage.errors import StoreError
from storage.records import Assignment, NewPlan, Score
from storage.scores import Scored


@pytest.fixture
def filled(store, make):
    """Four prompts, two teachers; b's answer to the second is refused and to the third an error."""
    a, b = make.generation("a"), make.generation("b")
    set_id, ids = make.prompt_set(["calibration", "validation", "calibration", "synthesis"])
    responses.add(store, None, [make.answer(identifier, b, f"b{n}") for n, identifier in enumerate(ids[:1])])
    responses.add(
        store, None, [make.answer(ids[1], b, status="refused"), make.answer(ids[2], b, status="error")]
    )
    responses.add(store, None, [make.answer(identifier, a, f"a{n}") for n, identifier in enumerate(ids)])
    return set_id, ids, a, b


def test_a_scorer_is_its_kind_and_identity_and_model(store, make) -> None:
    model = make.model("m")
    first = scores.put_scorer(store, "judge", {"prompt": "v1", "n": 1}, model.id)
    assert scores.put_scorer(store, "judge", {"n": 1, "prompt": "v1"}, model.id) == first
    others = {
        scores.put_scorer(store, "judge", {"prompt": "v2", "n": 1}, model.id),
        scores.put_scorer(store, "judge", {"prompt": "v1", "n": 1}),
        scores.put_scorer(store, "other", {"prompt": "v1", "n": 1}, model.id),
    }
    assert len(others - {first}) == 3


def test_one_prompts_usable_answers_come_together_in_order_of_teacher(store, filled) -> None:
    set_id, _, a, b = filled
    scorer = scores.put_scorer(store, "s", {})
    found = scores.pending(store, Scored(scorer, [b, a], set_id))
    assert [(item.ordinal, item.teacher_id, item.text) for item in found] == [
        (0, a.teacher_id, "a0"),
        (0, b.teacher_id, "b0"),
        (1, a.teacher_id, "a1"),
        (2, a.teacher_id, "a2"),
        (3, a.teacher_id, "a3"),
    ]
    assert [item.prompt.answer for item in found] == ["0", "0", "1", "2", "3"]
    assert [item.prompt.split for item in found][:3] == ["calibration", "calibration", "validation"]
    assert scores.count_pending(store, Scored(scorer, [a, b], set_id)) == 5
    assert scores.count_pending(store, Scored(scorer, [a], set_id, ("calibration",))) == 2
    assert scores.pending(store, Scored(scorer, [], set_id)) == []
    assert scores.pending(store, Scored(scorer, [a._replace(generation_sha="never used")], set_id)) == []


def test_pages_of_unscored_answers(store, filled) -> None:
    set_id, _, a, b = filled
    scorer = scores.put_scorer(store, "s", {})
    seen, after = [], (-1, 0)
    while page := scores.pending(store, Scored(scorer, [a, b], set_id), after=after, limit=2):
        seen += [(item.ordinal, item.teacher_id) for item in page]
        after = seen[-1]
    assert seen == [(0, 1), (0, 2), (1, 1), (2, 1), (3, 1)]


def test_a_scored_answer_is_not_pending_for_that_scorer_only(store, filled) -> None:
    set_id, _, a, b = filled
    first, second = scores.put_scorer(store, "s", {"v": 1}), scores.put_scorer(store, "s", {"v": 2})
    items = scores.pending(store, Scored(first, [a, b], set_id))
    assert scores.add(store, None, first, [(item.response_id, Score(0.5)) for item in items[:2]]) == 2
    assert scores.count_pending(store, Scored(first, [a, b], set_id)) == 3
    assert scores.pending_characters(store, Scored(first, [a, b], set_id), reasoning=True) == 6
    assert scores.count_pending(store, Scored(second, [a, b], set_id)) == 5
    assert scores.add(store, None, first, [(items[0].response_id, Score(0.9))]) == 0
    assert scores.of_responses(store, [items[0].response_id], [first]) == {(items[0].response_id, first): 0.5}


def test_only_what_a_plan_assigned(store, filled) -> None:
    set_id, ids, a, b = filled
    plan = routing.open_plan(store, None, NewPlan("p", "random", set_id, None, {}))
    rows = [
        Assignment(ids[0], b.teacher_id),
        Assignment(ids[1], b.teacher_id),
        Assignment(ids[1], a.teacher_id, 1),
    ]
    routing.assign(store, None, plan.id, rows)
    scorer = scores.put_scorer(store, "s", {})
    found = scores.pending(store, Scored(scorer, [a, b], set_id, plan_ids=[plan.id]))
    assert [(item.prompt.id, item.teacher_id) for item in found] == [
        (ids[0], b.teacher_id),
        (ids[1], a.teacher_id),
    ]
    assert scores.count_pending(store, Scored(scorer, [a, b], set_id, plan_ids=[plan.id])) == 2
    assert scores.pending(store, Scored(scorer, [a, b], set_id, plan_ids=[])) == []


@pytest.mark.parametrize(
    "score",
    [Score(math.nan), Score(math.inf), Score(1.0, sum=-math.inf), Score(None)],
)
def test_a_score_that_is_no_number_is_refused_with_its_whole_batch(store, filled, score) -> None:
    set_id, _, a, b = filled
    scorer = scores.put_scorer(store, "s", {})
    items = scores.pending(store, Scored(scorer, [a, b], set_id))
    with pytest.raises(StoreError, match=f"score of response {items[1].response_id}"):
        scores.add(store, None, scorer, [(items[0].response_id, Score(1.0)), (items[1].response_id, score)])
    assert scores.count_pending(store, Scored(scorer, [a, b], set_id)) == 5


def test_matrix(store, filled) -> None:
    set_id, ids, a, b = filled
    scorer = scores.put_scorer(store, "s", {})
    items = scores.pending(store, Scored(scorer, [a, b], set_id))
    rows = [(item.response_id, Score(float(number))) for number, item in enumerate(items[:4])]
    rows.append((items[4].response_id, Score(None, status="timeout")))
    scores.add(store, None, scorer, rows)
    found = score_matrix.matrix(store, Scored(scorer, [b, a], set_id))
    assert found.prompt_ids.tolist() == ids
    nan = math.nan
    np.testing.assert_array_equal(found.values, [[1.0, 0.0], [nan, 2.0], [nan, 3.0], [nan, nan]])
    assert found.asked.tolist() == [[True, True], [True, True], [False, True], [False, True]]
    assert found.usable.tolist() == [[True, True], [False, True], [False, True], [False, True]]
    part = score_matrix.matrix(store, Scored(scorer, [a], set_id, ("calibration",)))
    assert part.prompt_ids.tolist() == [ids[0], ids[2]]
    np.testing.assert_array_equal(part.values, [[0.0], [3.0]])
    unknown = score_matrix.matrix(store, Scored(scorer, [a._replace(generation_sha="never used")], set_id))
    assert not unknown.asked.any()
    assert np.isnan(unknown.values).all()


def test_a_matrix_that_is_read_in_pages_is_the_same(store, filled) -> None:
    set_id, _, a, b = filled
    scorer = scores.put_scorer(store, "s", {})
    items = scores.pending(store, Scored(scorer, [a, b], set_id))
    scores.add(store, None, scorer, [(item.response_id, Score(item.response_id)) for item in items])
    whole = score_matrix.matrix(store, Scored(scorer, [a, b], set_id))
    paged = score_matrix.matrix(store, Scored(scorer, [a, b], set_id), page=3)
    assert len(paged.prompt_ids) == 4
    np.testing.assert_array_equal(paged.values, whole.values)


def test_matrix_of_nothing_and_of_one_teacher_twice(store, filled) -> None:
    set_id, _, a, _ = filled
    scorer = scores.put_scorer(store, "s", {})
    empty = score_matrix.matrix(store, Scored(scorer, [a], set_id, ("evaluation",)))
    assert (empty.prompt_ids.shape, empty.values.shape, empty.asked.shape) == ((0,), (0, 1), (0, 1))
    with pytest.raises(StoreError, match="twice"):
        score_matrix.matrix(store, Scored(scorer, [a, a], set_id))
