"""What judges have said: counted once, kept until the verdicts stand."""

import pytest

from storage import responses, scores, verdicts
from storage.records import Response, Score
from storage.verdicts import Verdict


@pytest.fixture
def judged(store, make):
    """One prompt with two answers; (scorer, where its costs are counted, response ids)."""
    a, b = make.generation("a"), make.generation("b")
    set_id, (prompt,) = make.prompt_set(["calibration"])
    responses.add(store, None, [make.answer(prompt, a), make.answer(prompt, b)])
    scorer = scores.put_scorer(store, "judge", {})
    ids = [row.response_id for row in scores.pending(store, scorer, [a, b], set_id, None)]
    return scorer, ([a, b], set_id, scorer), ids


def said(first: int, second: int, text: str, cost: float = 1.0) -> Verdict:
    return Verdict(first, second, Response(0, text, "ok", "", 10, 5, 0.0), cost)


def spent(store, where) -> float:
    return scores.cost(store, *where) + verdicts.cost(store, *where)


def test_a_reply_is_paid_for_once_before_and_after_its_verdict(store, judged) -> None:
    scorer, where, (first, second) = judged
    given = [said(first, second, "hm"), said(first, second, "A"), said(second, first, "B")]
    assert verdicts.add(store, None, scorer, given[:1]) == 0
    verdicts.add(store, None, scorer, given[1:])
    assert spent(store, where) == 3
    assert [reply.completion.text for reply in verdicts.of(store, scorer, [first, second])] == [
        "hm",
        "A",
        "B",
    ]
    assert verdicts.add(store, None, scorer, [], [(first, Score(1.0, detail={"cost": 2.0}))]) == 1
    assert spent(store, where) == 3
    # The other answer's verdict still needs all of them.
    assert len(verdicts.of(store, scorer, [first, second])) == 3
    verdicts.add(store, None, scorer, [], [(second, Score(0.0, detail={"cost": 1.0}))])
    verdicts.forget(store, None, scorer, [first, second])
    assert (spent(store, where), verdicts.of(store, scorer, [first, second])) == (3, [])


def test_a_verdict_that_failed_gives_way_and_its_dollars_and_attempts_stay(store, judged) -> None:
    scorer, where, (first, second) = judged
    generations, set_id, _ = where
    pending = (store, scorer, generations, set_id, None)
    failed = Score(None, status="error", detail={"cost": 1.0, "attempts": 1})
    refused = Score(None, status="refused", detail={"cost": 1.0})
    assert verdicts.add(store, None, scorer, [], [(first, failed), (second, refused)]) == 2
    assert scores.count_pending(*pending) == 0
    assert [row.response_id for row in scores.pending(*pending, max_attempts=2)] == [first]
    assert scores.count_failed(store, scorer, generations, set_id) == 1
    assert verdicts.add(store, None, scorer, [], [(first, failed)]) == 0
    assert scores.count_pending(*pending, max_attempts=2) == 0
    assert scores.count_pending(*pending, max_attempts=3) == 1
    assert verdicts.add(store, None, scorer, [], [(first, Score(7.0, detail={"cost": 1.0}))]) == 0
    assert scores.of_responses(store, [first, second], [scorer]) == {(first, scorer): 7.0}
    assert spent(store, where) == 4
    assert scores.count_failed(store, scorer, generations, set_id) == 0
