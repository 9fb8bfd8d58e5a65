"""What judges said: paid for once, kept until the scores made of it are final."""

import pytest

from storage import responses, scores, verdicts
from storage.records import Response, Score
from storage.scores import Scored
from storage.verdicts import Verdict


@pytest.fixture
def judged(store, make):
    """One prompt with two answers; (the judge and what it is asked about, response ids)."""
    a, b = make.generation("a"), make.generation("b")
    set_id, (prompt,) = make.prompt_set(["calibration"])
    responses.add(store, None, [make.answer(prompt, a), make.answer(prompt, b)])
    scorer = scores.put_scorer(store, "judge", {})
    scored = Scored(scorer, [a, b], set_id)
    return scored, [row.response_id for row in scores.pending(store, scored)]


def said(first: int, second: int, text: str, cost: float = 1.0) -> Verdict:
    return Verdict(first, second, Response(0, text, "ok", "", 10, 5, 0.0), cost)


def spent(store, scored) -> float:
    return scores.cost(store, scored) + verdicts.cost(store, scored)


def test_a_verdict_is_paid_for_once_before_and_after_its_score(store, judged) -> None:
    scored, (first, second) = judged
    scorer = scored.scorer_id
    given = [said(first, second, "hm"), said(first, second, "A"), said(second, first, "B")]
    assert verdicts.add(store, None, scorer, given[:1]) == 0
    verdicts.add(store, None, scorer, given[1:])
    assert spent(store, scored) == 3
    assert [verdict.reply.text for verdict in verdicts.of(store, scorer, [first, second])] == ["hm", "A", "B"]
    assert verdicts.add(store, None, scorer, [], [(first, Score(1.0, detail={"cost": 2.0}))]) == 1
    assert spent(store, scored) == 3
    # The other response's score still needs all of them.
    assert len(verdicts.of(store, scorer, [first, second])) == 3
    verdicts.add(store, None, scorer, [], [(second, Score(0.0, detail={"cost": 1.0}))])
    verdicts.forget(store, None, scorer, [first, second])
    assert (spent(store, scored), verdicts.of(store, scorer, [first, second])) == (3, [])


def test_a_score_that_failed_gives_way_and_its_dollars_and_attempts_stay(store, judged) -> None:
    scored, (first, second) = judged
    scorer = scored.scorer_id
    failed = Score(None, status="error", detail={"cost": 1.0, "attempts": 1})
    refused = Score(None, status="refused", detail={"cost": 1.0})
    assert verdicts.add(store, None, scorer, [], [(first, failed), (second, refused)]) == 2
    assert scores.count_pending(store, scored) == 0
    assert [row.response_id for row in scores.pending(store, scored, max_attempts=2)] == [first]
    assert scores.count_failed(store, scored) == 1
    assert verdicts.add(store, None, scorer, [], [(first, failed)]) == 0
    assert scores.count_pending(store, scored, max_attempts=2) == 0
    assert scores.count_pending(store, scored, max_attempts=3) == 1
    assert verdicts.add(store, None, scorer, [], [(first, Score(7.0, detail={"cost": 1.0}))]) == 0
    assert scores.of_responses(store, [first, second], [scorer]) == {(first, scorer): 7.0}
    assert spent(store, scored) == 4
    assert scores.count_failed(store, scored) == 0
