import pytest

from storage import browse, datasets, registry, responses, routing, scores, search
from storage.listing import Listing
from storage.records import Assignment, DatasetRow, Model, NewPlan, Score


@pytest.fixture
def filled(store, make):
    a, b = make.generation("a"), make.generation("b")
    set_id, ids = make.prompt_set(["synthesis"] * 10)
    other, more = make.prompt_set(["synthesis"] * 2 + ["calibration"], "other", first=100)
    rows = [make.answer(identifier, a, f"alpha {number}") for number, identifier in enumerate(ids)]
    responses.add(store, None, rows)
    rows = [make.answer(identifier, b, "beta", status="refused") for identifier in ids[:4]]
    responses.add(store, None, rows)
    responses.add(store, None, [make.answer(identifier, b, "gamma beta") for identifier in more])
    return set_id, other, ids, more, a, b


def walk(store, limit=3, descending=False, **filters):
    seen, after = [], 0
    while page := browse.browse(store, Listing(descending=descending, **filters), after, limit):
        assert len(page) <= limit
        seen += page
        after = page[-1].response.id
    return seen


def test_pages_give_every_response_once_in_both_directions(store, filled) -> None:
    ids = [line.response.id for line in walk(store)]
    assert ids == sorted(ids)
    assert len(ids) == len(set(ids)) == 17
    assert [line.response.id for line in walk(store, descending=True)] == ids[::-1]


def test_filters(store, filled) -> None:
    set_id, other, ids, more, *_ = filled
    assert {line.teacher for line in walk(store, teacher="a")} == {"a"}
    assert len(walk(store, teacher="a")) == 10
    assert [line.response.prompt_id for line in walk(store, status="refused")] == ids[:4]
    assert [line.response.prompt_id for line in walk(store, prompt_set_id=other, status="ok")] == more
    assert len(walk(store, prompt_set_id=set_id)) == 14
    assert [line.response.prompt_id for line in walk(store, split="calibration")] == more[2:]
    assert len(walk(store, split="synthesis", prompt_set_id=other)) == 2
    assert walk(store, split="calibration", prompt_set_id=set_id) == []
    assert walk(store, teacher="nobody") == []
    assert walk(store, words="beta") == [], "nothing is indexed before sync"
    search.sync(store)
    assert len(walk(store, words="beta")) == 7
    assert [line.response.prompt_id for line in walk(store, words="beta", status="ok")] == more
    assert len(walk(store, words="beta", descending=True, prompt_set_id=set_id)) == 4


def test_a_teacher_of_several_identities_is_one_name(store, filled, make) -> None:
    _, _, ids, _, a, _ = filled
    edited = registry.put(store, Model("a", "teacher", "x", "m", system="new"), "other identity")
    responses.add(store, None, [make.answer(ids[0], a._replace(teacher_id=edited.id))])
    assert len(walk(store, teacher="a")) == 11


def test_a_line_shows_prompt_and_teacher(store, filled) -> None:
    ids = filled[2]
    line = browse.browse(store, Listing(descending=False), limit=1)[0]
    assert (line.teacher, line.response.text, line.prompt.answer) == ("a", "alpha 0", "0")
    assert line.prompt.id == ids[0]
    assert line.created_at > 0


def test_one_response_with_all_that_is_known_of_it(store, filled) -> None:
    set_id, _, ids, _, a, _ = filled
    response = responses.of_prompts(store, ids[:1], [a])[ids[0]][a.teacher_id]
    scorer = scores.put_scorer(store, "learnability", {"boundary": 1}, a.teacher_id)
    scores.add(store, None, scorer, [(response.id, Score(-0.5, -5.0, 10, detail={"why": "x"}))])
    plan = routing.open_plan(store, None, NewPlan("p", "persyn", set_id, None, {}))
    routing.assign(store, None, plan.id, [Assignment(ids[0], a.teacher_id, 0, (1.5, -0.25), 1.75)])
    dataset = datasets.open_dataset(store, None, "d", plan.id, "my data", {})
    datasets.add(store, None, dataset.id, [DatasetRow(ids[0], response.id, 1.0, -0.5, 0.25)])
    found = browse.get(store, response.id)
    assert found.line.response == response
    assert found.teacher.name == "a"
    (score,) = found.scores
    assert (score.kind, score.identity, score.score) == (
        "learnability",
        {"boundary": 1},
        Score(-0.5, -5.0, 10, "ok", {"why": "x"}),
    )
    (assigned,) = found.assignments
    assert (assigned.strategy, assigned.assignment) == (
        "persyn",
        Assignment(ids[0], a.teacher_id, 0, (1.5, -0.25), 1.75),
    )
    (member,) = found.datasets
    assert (member.dataset, member.quality, member.reward, member.excluded) == ("my data", 1.0, 0.25, False)
    within = Listing(dataset_id=dataset.id, descending=False)
    assert [line.response for line in browse.browse(store, within)] == [response]
    assert browse.browse(store, within, after_id=response.id) == []
    assert browse.get(store, 10_000) is None
