import numpy as np

from storage import responses, routing
from storage.records import Assignment, NewPlan, NewRouter


def test_a_router_is_stored_once(store, make) -> None:
    student = make.model("s", role="student").id
    put = routing.put_router(
        store, None, NewRouter("spec", student, "routers/1", {"teachers": ["a", "b"]}, {"hit_at_1": 0.5})
    )
    again = routing.put_router(store, None, NewRouter("spec", student, "elsewhere", {}, {}))
    assert again == put == routing.router(store, "spec") == routing.routers(store)[0]
    assert (put.path, put.manifest, put.metrics) == ("routers/1", {"teachers": ["a", "b"]}, {"hit_at_1": 0.5})
    assert routing.router(store, "other") is None


def test_a_plan_fills_up_and_is_finished(store, make) -> None:
    a = make.generation("a")
    splits = ["calibration", "synthesis", "validation", "synthesis", "synthesis"]
    set_id, ids = make.prompt_set(splits)
    plan = routing.open_plan(store, None, NewPlan("p", "random", set_id, None, {"seed": 1}))
    assert routing.open_plan(store, None, NewPlan("p", "other", set_id, None, {})) == plan
    assert [ordinal for ordinal, _ in routing.unassigned(store, plan.id, ("synthesis",))] == [1, 3, 4]
    assert [ordinal for ordinal, _ in routing.unassigned(store, plan.id, None, after=0, limit=2)] == [1, 2]
    assert routing.assign(store, None, plan.id, [Assignment(ids[3], a.teacher_id)]) == 1
    assert routing.assign(store, None, plan.id, [Assignment(ids[3], a.teacher_id)]) == 0
    assert [ordinal for ordinal, _ in routing.unassigned(store, plan.id, ("synthesis",))] == [1, 4]
    routing.finish_plan(store, None, plan.id)
    assert routing.plan(store, "p").complete


def test_strengths_are_kept_as_float32_in_order(store, make) -> None:
    a = make.generation("a")
    set_id, ids = make.prompt_set(["synthesis"] * 3)
    plan = routing.open_plan(store, None, NewPlan("p", "persyn", set_id, None, {}))
    strengths = (0.1, -2.5, 1e-8)
    rows = [Assignment(ids[0], a.teacher_id, 0, strengths, 0.25), Assignment(ids[1], a.teacher_id)]
    routing.assign(store, None, plan.id, rows)
    first, second = routing.assignments(store, plan.id)
    assert first.strengths == tuple(np.asarray(strengths, np.float32).tolist())
    assert (first.margin, second.strengths, second.margin) == (0.25, None, None)


def test_pages_of_assignments_keep_a_prompts_attempts_together(store, make) -> None:
    a, b = make.generation("a"), make.generation("b")
    set_id, ids = make.prompt_set(["synthesis"] * 5)
    plan = routing.open_plan(store, None, NewPlan("p", "random", set_id, None, {}))
    rows = [Assignment(identifier, a.teacher_id) for identifier in ids]
    rows += [Assignment(identifier, b.teacher_id, 1) for identifier in ids[1::2]]
    routing.assign(store, None, plan.id, rows)
    seen, after = [], 0
    while page := routing.assignments(store, plan.id, after, limit=2):
        seen.append([(row.prompt_id, row.attempt) for row in page])
        after = page[-1].prompt_id
    assert seen == [
        [(ids[0], 0), (ids[1], 0), (ids[1], 1)],
        [(ids[2], 0), (ids[3], 0), (ids[3], 1)],
        [(ids[4], 0)],
    ]
    assert [(share.teacher_id, share.prompts) for share in routing.shares(store, plan.id)] == [
        (a.teacher_id, 5)
    ]
    assert routing.attempts(store, plan.id, ids[:2]) == {
        ids[0]: [a.teacher_id],
        ids[1]: [a.teacher_id, b.teacher_id],
    }


def test_failed_gives_the_last_attempt_of_prompts_without_a_usable_answer(store, make) -> None:
    a, b = make.generation("a"), make.generation("b")
    set_id, ids = make.prompt_set(["synthesis"] * 5)
    plan = routing.open_plan(store, None, NewPlan("p", "random", set_id, None, {}))
    routing.assign(store, None, plan.id, [Assignment(identifier, a.teacher_id) for identifier in ids])
    rows = [make.answer(ids[0], a), make.answer(ids[1], a, status="refused")]
    rows += [make.answer(ids[2], a, status="error"), make.answer(ids[3], a, status="truncated")]
    responses.add(store, None, rows)

    def failed(**options):
        found = routing.failed(store, plan.id, [a, b], max_attempt=2, **options)
        return [(row.prompt_id, row.attempt) for row in found]

    assert failed() == [(ids[1], 0), (ids[2], 0), (ids[3], 0)]
    assert failed(after_prompt_id=ids[1], limit=1) == [(ids[2], 0)]
    fallback = [Assignment(ids[1], b.teacher_id, 1), Assignment(ids[2], b.teacher_id, 1)]
    routing.assign(store, None, plan.id, fallback)
    assert failed() == [(ids[3], 0)], "the fallbacks have not answered yet"
    responses.add(store, None, [make.answer(ids[1], b), make.answer(ids[2], b, status="empty")])
    assert failed() == [(ids[2], 1), (ids[3], 0)]
    assert routing.failed(store, plan.id, [a, b], max_attempt=0) == []
    assert [row.prompt_id for row in routing.failed(store, plan.id, [a, b], max_attempt=1)] == [ids[3]]


def test_generations_are_c_m_plus_n_minus_c(store, make) -> None:
    teachers = [make.generation(name) for name in "abc"]
    splits = ["calibration"] * 3 + ["validation"] * 2 + ["synthesis"] * 10 + ["evaluation"] * 4
    set_id, ids = make.prompt_set(splits)
    for who in teachers:
        responses.add(store, None, [make.answer(identifier, who) for identifier in ids[:5]])
    plan = routing.open_plan(store, None, NewPlan("p", "persyn", set_id, None, {}))
    # A calibration prompt already has its answer: assigning it costs nothing.
    rows = [Assignment(identifier, teachers[n % 3].teacher_id) for n, identifier in enumerate(ids[:15])]
    routing.assign(store, None, plan.id, rows)
    responses.add(
        store, None, [make.answer(identifier, teachers[n % 3]) for n, identifier in enumerate(ids[:15])]
    )
    c, m, n = 5, 3, 15
    assert routing.generations_used(store, plan.id, teachers, calibration=True, full=False) == c * m + (n - c)
    assert routing.generations_used(store, plan.id, teachers, calibration=False, full=False) == n
    # One fallback is one more generation, and another plan's answers are none of this plan's.
    routing.assign(store, None, plan.id, [Assignment(ids[7], teachers[0].teacher_id, 1)])
    extra = [make.answer(ids[7], teachers[0], status="refused"), make.answer(ids[8], teachers[0])]
    responses.add(store, None, extra)
    assert (
        routing.generations_used(store, plan.id, teachers, calibration=True, full=False)
        == c * m + (n - c) + 1
    )
    assert (
        routing.generations_used(store, plan.id, teachers, calibration=True, full=True) == c * m + (n - c) + 2
    )


def test_shares_newest_and_closest_look_at_first_assignments_only(store, make) -> None:
    a, b = make.generation("a"), make.generation("b")
    set_id, ids = make.prompt_set(["synthesis"] * 4)
    plan = routing.open_plan(store, None, NewPlan("p", "persyn", set_id, None, {}))
    margins = [0.5, 0.1, 0.9, 0.3]
    who = [a, b, a, a]
    rows = [
        Assignment(identifier, teacher.teacher_id, 0, (0.0, 1.0), margin)
        for identifier, teacher, margin in zip(ids, who, margins, strict=True)
    ]
    routing.assign(store, None, plan.id, [*rows, Assignment(ids[1], a.teacher_id, 1)])
    first, second = routing.shares(store, plan.id)
    assert (first.teacher_id, first.prompts, second.teacher_id, second.prompts) == (
        a.teacher_id,
        3,
        b.teacher_id,
        1,
    )
    assert np.isclose(first.margin, (0.5 + 0.9 + 0.3) / 3)
    assert [row.prompt_id for row in routing.newest(store, plan.id, limit=3)] == [ids[3], ids[2], ids[1]]
    assert [row.prompt_id for row in routing.newest(store, plan.id, b.teacher_id)] == [ids[1]]
    assert [row.margin for row in routing.closest(store, plan.id, limit=2)] == [0.1, 0.3]
    assert [row.margin for row in routing.closest(store, plan.id, a.teacher_id, limit=1)] == [0.3]
    found = routing.choices(store, plan.id, [ids[1], ids[2], 10**9])
    assert {key: (row.teacher_id, row.attempt) for key, row in found.items()} == {
        ids[1]: (b.teacher_id, 0),
        ids[2]: (a.teacher_id, 0),
    }


def test_a_plan_without_a_router_has_shares_but_no_margins(store, make) -> None:
    a = make.generation("a")
    set_id, ids = make.prompt_set(["synthesis"] * 2)
    plan = routing.open_plan(store, None, NewPlan("p", "random", set_id, None, {}))
    assert routing.shares(store, plan.id) == []
    routing.assign(store, None, plan.id, [Assignment(identifier, a.teacher_id) for identifier in ids])
    (only,) = routing.shares(store, plan.id)
    assert (only.prompts, only.margin) == (2, None)
    assert routing.closest(store, plan.id) == []
