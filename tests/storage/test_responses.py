from dataclasses import replace

import pytest

from storage import browse, responses, routing
from storage.errors import StoreError
from storage.records import Assignment, Coverage, NewPlan, ResponseCount
from storage.responses import Wanted


def pending_ids(store, set_id, who, **options):
    return [prompt.id for _, prompt in responses.pending(store, Wanted(set_id, None, who), **options)]


def test_pending_is_what_has_no_response(store, make) -> None:
    a, b = make.generation("a"), make.generation("b")
    set_id, ids = make.prompt_set(["calibration", "synthesis", "calibration", "evaluation"])
    assert pending_ids(store, set_id, a) == ids
    assert responses.add(store, None, [make.answer(ids[0], a), make.answer(ids[2], a)]) == 2
    assert pending_ids(store, set_id, a) == [ids[1], ids[3]]
    assert pending_ids(store, set_id, b) == ids
    found = responses.pending(store, Wanted(set_id, ("synthesis", "calibration"), a))
    assert [(ordinal, prompt.id, prompt.split) for ordinal, prompt in found] == [(1, ids[1], "synthesis")]
    assert responses.count_pending(store, Wanted(set_id, None, a)) == 2
    assert responses.count_pending(store, Wanted(set_id, ("calibration",), a)) == 0
    assert responses.count_pending(store, Wanted(set_id, ("calibration",), b)) == 2


def test_pending_pages(store, make) -> None:
    a = make.generation("a")
    set_id, ids = make.prompt_set(["calibration", "synthesis", "validation"] * 7)
    responses.add(store, None, [make.answer(identifier, a) for identifier in ids[::2]])
    seen, after = [], -1
    while page := responses.pending(store, Wanted(set_id, None, a), after=after, limit=3):
        seen += [prompt.id for _, prompt in page]
        after = page[-1][0]
    assert seen == ids[1::2]


def test_other_settings_are_another_generation(store, make) -> None:
    a = make.generation("a")
    set_id, ids = make.prompt_set(["synthesis"] * 2)
    responses.add(store, None, [make.answer(ids[0], a)])
    changed = a._replace(generation_sha="other settings")
    assert pending_ids(store, set_id, changed) == ids
    assert responses.add(store, None, [make.answer(ids[0], changed)]) == 1
    assert (
        responses.of_prompts(store, ids, [changed])[ids[0]][a.teacher_id].generation_sha == "other settings"
    )


def test_a_stored_response_is_never_replaced(store, make) -> None:
    a = make.generation("a")
    _, ids = make.prompt_set(["synthesis"] * 2)
    assert responses.add(store, None, [make.answer(ids[0], a, "first")]) == 1
    again = [make.answer(ids[0], a, "second"), make.answer(ids[1], a, "new"), make.answer(ids[1], a, "twice")]
    assert responses.add(store, None, again) == 1
    found = responses.of_prompts(store, ids, [a])
    assert [found[identifier][a.teacher_id].text for identifier in ids] == ["first", "new"]


@pytest.mark.parametrize("status", ["ok", "truncated", "empty", "refused", "too_long"])
def test_only_errors_are_asked_again(store, make, status) -> None:
    a = make.generation("a")
    set_id, ids = make.prompt_set(["synthesis"])
    responses.add(store, None, [make.answer(ids[0], a, status=status)])
    assert pending_ids(store, set_id, a) == []


def test_an_error_gives_way_to_the_next_attempt_until_the_attempts_are_used(store, make) -> None:
    a = make.generation("a")
    set_id, ids = make.prompt_set(["synthesis"] * 2)
    broken = [make.answer(identifier, a, status="error") for identifier in ids]
    for attempt in (1, 2):
        assert responses.add(store, None, broken) == 2
        assert pending_ids(store, set_id, a) == ids, attempt
    assert pending_ids(store, set_id, a, max_attempts=2) == []
    assert responses.count_pending(store, Wanted(set_id, None, a), max_attempts=2) == 0
    assert responses.add(store, None, [make.answer(ids[0], a, "at last"), broken[1]]) == 2
    assert pending_ids(store, set_id, a) == []
    found = responses.of_prompts(store, ids, [a])
    mended, failed = (browse.get(store, found[identifier][a.teacher_id].id) for identifier in ids)
    assert (mended.attempts, mended.line.response.text, mended.line.response.error) == (3, "at last", "")
    assert (failed.attempts, failed.line.response.status, failed.line.response.error) == (
        3,
        "error",
        "it broke",
    )


def test_an_answer_to_an_unknown_prompt_or_teacher_is_refused_whole(store, make) -> None:
    a = make.generation("a")
    set_id, ids = make.prompt_set(["synthesis"])
    with pytest.raises(StoreError):
        responses.add(store, None, [make.answer(ids[0], a), make.answer(999, a)])
    assert pending_ids(store, set_id, a) == ids


def test_every_field_comes_back(store, make) -> None:
    a = make.generation("a")
    _, ids = make.prompt_set(["synthesis"])
    job = make.job()
    new = make.answer(ids[0], a, "text", "truncated", cost=0.25)
    said = replace(new.response, finish_reason="length", reasoning="because")
    new = replace(new, response=said, job_id=job.id)
    responses.add(store, None, [new])
    context = browse.get(store, 1)
    found = context.line.response
    assert (found.prompt_id, found.teacher_id, found.sample, found.generation_sha) == (
        ids[0],
        a.teacher_id,
        0,
        "gen-a",
    )
    assert (found.text, found.status, found.finish_reason, found.reasoning, found.error) == (
        "text",
        "truncated",
        "length",
        "because",
        "",
    )
    assert (found.prompt_tokens, found.completion_tokens, found.latency_s, found.cost) == (5, 3, 0.5, 0.25)
    assert (context.job_id, context.attempts, context.teacher.name) == (job.id, 1, "a")


def test_samples_are_kept_apart_and_only_the_first_counts_as_the_answer(store, make) -> None:
    a = make.generation("a")
    set_id, ids = make.prompt_set(["synthesis"])
    assert responses.add(store, None, [replace(make.answer(ids[0], a), sample=1)]) == 1
    assert pending_ids(store, set_id, a) == ids
    assert responses.of_prompts(store, ids, [a]) == {}


def test_counts_and_sums_by_teacher_and_status(store, make) -> None:
    a, b = make.generation("a"), make.generation("b")
    set_id, ids = make.prompt_set(["calibration", "calibration", "synthesis"])
    rows = [make.answer(ids[0], a, cost=0.5), make.answer(ids[1], a, cost=0.25), make.answer(ids[2], a)]
    rows += [make.answer(ids[0], b, status="refused"), make.answer(ids[1], b, status="error")]
    responses.add(store, None, rows)
    assert responses.counts(store, [b, a], set_id) == [
        ResponseCount(a.teacher_id, "ok", 3, 15, 9, 0.75, 1.5),
        ResponseCount(b.teacher_id, "error", 1, 5, 3, 0.0, 0.5),
        ResponseCount(b.teacher_id, "refused", 1, 5, 3, 0.0, 0.5),
    ]
    assert responses.counts(store, [a], set_id, ("calibration",)) == [
        ResponseCount(a.teacher_id, "ok", 2, 10, 6, 0.75, 1.0)
    ]
    assert responses.counts(store, [a._replace(generation_sha="never used")], set_id) == []


def test_pending_assigned_asks_each_prompt_once_whatever_the_number_of_plans(store, make) -> None:
    a, b = make.generation("a"), make.generation("b")
    set_id, ids = make.prompt_set(["synthesis"] * 9)
    plans = [
        routing.open_plan(store, None, NewPlan(f"p{n}", "random", set_id, None, {})).id for n in range(2)
    ]
    routing.assign(store, None, plans[0], [Assignment(identifier, a.teacher_id) for identifier in ids[:6]])
    routing.assign(store, None, plans[0], [Assignment(identifier, b.teacher_id) for identifier in ids[6:]])
    routing.assign(store, None, plans[1], [Assignment(identifier, a.teacher_id) for identifier in ids[4:8]])
    responses.add(store, None, [make.answer(ids[1], a), make.answer(ids[5], a, status="error")])
    wanted = [ids[0], *ids[2:8]]
    seen, after = [], 0
    while page := responses.pending_assigned(store, plans, a, after_prompt_id=after, limit=3):
        seen += [prompt.id for prompt in page]
        after = page[-1].id
    assert seen == wanted
    assert responses.count_pending_assigned(store, plans, a) == len(wanted)
    assert responses.count_pending_assigned(store, plans, a, max_attempts=1) == len(wanted) - 1
    assert [prompt.id for prompt in responses.pending_assigned(store, plans[:1], b)] == ids[6:]
    assert responses.pending_assigned(store, [], a) == []


def test_coverage_is_what_a_run_asks_for_and_what_is_there(store, make) -> None:
    a, b = make.generation("a"), make.generation("b")
    set_id, ids = make.prompt_set(["calibration", "synthesis", "synthesis", "evaluation"])
    plan = routing.open_plan(store, None, NewPlan("plan", "persyn", set_id, None, {}))
    other = routing.open_plan(store, None, NewPlan("other", "strong", set_id, None, {}))
    # A calibration prompt is in the plan as well, and two plans give one prompt to the same teacher: once each.
    given = [
        Assignment(ids[0], a.teacher_id),
        Assignment(ids[1], a.teacher_id),
        Assignment(ids[2], b.teacher_id),
    ]
    routing.assign(store, None, plan.id, [*given, Assignment(ids[2], a.teacher_id, attempt=1)])
    routing.assign(store, None, other.id, [Assignment(ids[1], a.teacher_id)])
    responses.add(store, None, [make.answer(ids[0], a, cost=0.5), make.answer(ids[1], a, status="error")])
    responses.add(store, None, [make.answer(ids[1], a, status="error"), make.answer(ids[3], a)])
    found = responses.coverage(store, [b, a], set_id, ("calibration",), [plan.id, other.id])
    assert found == [
        Coverage(b.teacher_id, 2, {}, 0, 0, 0),
        Coverage(a.teacher_id, 3, {"ok": 1, "error": 1}, 1, 6, 0.5),
    ]
    assert found[1].done == 2
    first = found[1].last_id
    assert first > 0
    assert responses.since(store, 1, first) == {}
    changed = a._replace(generation_sha="other settings")
    assert responses.coverage(store, [changed], set_id, (), []) == [Coverage(a.teacher_id, 0, {}, 0, 0, 0)]
