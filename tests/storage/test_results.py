import pytest

from storage import datasets, responses, results, routing
from storage.records import Checkpoint, DatasetRow, NewPlan, Result


@pytest.fixture
def filled(store, make):
    a = make.generation("a")
    set_id, ids = make.prompt_set(["synthesis"] * 4 + ["evaluation"] * 3)
    responses.add(
        store, None, [make.answer(identifier, a, f"text {n}") for n, identifier in enumerate(ids[:4])]
    )
    found = responses.of_prompts(store, ids, [a])
    plan = routing.open_plan(store, None, NewPlan("p", "random", set_id, None, {}))
    dataset = datasets.open_dataset(store, None, "d", plan.id, "my data", {})
    rows = [
        DatasetRow(item, found[item][a.teacher_id].id, 1.0, -0.5 - n, 0.25) for n, item in enumerate(ids[:4])
    ]
    return set_id, ids, a, plan, dataset, rows


def test_a_dataset_fills_up_and_is_finished(store, filled) -> None:
    _, ids, _, plan, dataset, rows = filled
    assert datasets.open_dataset(store, None, "d", plan.id, "other name", {"x": 1}) == dataset
    assert datasets.add(store, None, dataset.id, rows[:3]) == 3
    assert datasets.add(store, None, dataset.id, rows) == 1
    found = datasets.rows(store, dataset.id, limit=3)
    assert [row.prompt.id for row in found] == ids[:3]
    assert [row.prompt.id for row in datasets.rows(store, dataset.id, ids[2])] == ids[3:4]
    assert (found[1].response.text, found[1].teacher, found[1].quality) == ("text 1", "a", 1.0)
    assert (found[1].learnability, found[1].reward, found[1].excluded) == (-1.5, 0.25, False)
    datasets.finish(store, None, dataset.id, {"rows": 4})
    again = datasets.find(store, "d")
    assert (again.complete, again.manifest) == (True, {"rows": 4})
    assert datasets.newest_first(store) == [again]
    assert datasets.means(store, dataset.id) == {"quality": 1.0, "learnability": -2.0, "reward": 0.25}


def test_excluded_rows_stay_and_are_not_trained_on(store, filled) -> None:
    _, ids, _, _, dataset, rows = filled
    datasets.add(store, None, dataset.id, rows)
    assert datasets.exclude(store, dataset.id, ids[:2]) == 2
    assert datasets.exclude(store, dataset.id, ids[:2]) == 0
    assert [row.prompt.id for row in datasets.rows(store, dataset.id)] == ids[2:4]
    flags = [row.excluded for row in datasets.rows(store, dataset.id, include_excluded=True)]
    assert flags == [True, True, False, False]
    assert (datasets.count(store, dataset.id), datasets.count(store, dataset.id, include_excluded=True)) == (
        2,
        4,
    )
    assert datasets.excluded(store, dataset.id) == ids[:2]
    assert datasets.exclude(store, dataset.id, ids[:1], excluded=False) == 1
    assert datasets.count(store, dataset.id) == 3


def test_an_adapter_and_its_checkpoints(store, filled, make) -> None:
    dataset = filled[4]
    student = make.model("s", role="student").id
    made = results.open_adapter(store, None, "spec", dataset.id, student)
    assert results.open_adapter(store, None, "spec", dataset.id, student) == made
    assert (made.complete, made.path) == (False, "")
    results.add_checkpoint(store, None, Checkpoint(made.id, 10, "c/10", "aa", {"loss": 2.0}))
    results.add_checkpoint(store, None, Checkpoint(made.id, 20, "c/20", "bb", {}))
    results.add_checkpoint(store, None, Checkpoint(made.id, 20, "c/20b", "cc", {"loss": 1.0}))
    found = results.checkpoints(store, made.id)
    assert [(item.step, item.path, item.sha256) for item in found] == [
        (20, "c/20b", "cc"),
        (10, "c/10", "aa"),
    ]
    assert isinstance(found[0], Checkpoint)
    results.keep_checkpoints(store, None, made.id, [20, 30])
    assert [item.step for item in results.checkpoints(store, made.id)] == [20]
    results.finish_adapter(store, None, made.id, "adapters/1", {"loss": 0.5})
    done = results.adapter(store, "spec")
    assert (done.complete, done.path, done.metrics) == (True, "adapters/1", {"loss": 0.5})
    assert results.adapters(store) == [done]
    assert results.adapter(store, "other") is None


def test_an_evaluation_asks_what_has_no_result(store, filled, make) -> None:
    set_id, ids, *_ = filled
    student = make.model("s", role="student").id
    made = results.open_evaluation(store, None, "spec", student, None, set_id)
    assert results.open_evaluation(store, None, "spec", student, None, set_id) == made
    pending = results.pending_evaluation(store, made.id)
    assert [(ordinal, prompt.id, prompt.split) for ordinal, prompt in pending] == [
        (place, ids[place], "evaluation") for place in (4, 5, 6)
    ]
    last = Result(ids[6], None, "?", "truncated", 9)
    assert results.add_results(store, None, made.id, [last, Result(ids[4], 1.0, "yes", "ok", 3)]) == 2
    assert results.add_results(store, None, made.id, [Result(ids[4], 0.0, "no", "ok", 3)]) == 0
    assert [prompt.id for _, prompt in results.pending_evaluation(store, made.id)] == [ids[5]]
    assert results.pending_evaluation(store, made.id, after=5) == []
    assert results.results(store, made.id) == [Result(ids[4], 1.0, "yes", "ok", 3), last]
    results.finish_evaluation(store, None, made.id, {"accuracy": 0.5})
    done = results.evaluation(store, "spec")
    assert (done.complete, done.summary, done.adapter_id) == (True, {"accuracy": 0.5}, None)
    assert results.evaluations(store) == [done]
