"""Routers, plans and assignments, and how many generations a plan has used."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import aliased

from storage.job_records import Lease
from storage.records import (
    Assignment,
    Generation,
    NewPlan,
    NewRouter,
    Plan,
    Prompt,
    RouterRecord,
    Share,
    Split,
)
from storage.rows import Columns, chunks, of_generations, prompt_page
from storage.schema import AssignmentRow, MemberRow, PlanRow, ResponseRow, RouterRow
from storage.store import Query, Store

_ROUTER = Columns(RouterRecord, RouterRow)
_PLAN = Columns(Plan, PlanRow)
_ASSIGNMENT = Columns(Assignment, AssignmentRow)


def put_router(store: Store, lease: Lease | None, router: NewRouter) -> RouterRecord:
    """The router's record; one of the same specification that is already there is kept as it is."""
    return _ROUTER.open(store, lease, **asdict(router), created_at=time.time())


def router(store: Store, spec_sha: str) -> RouterRecord | None:
    """The router of this specification, or None."""
    return _ROUTER.find(store, spec_sha)


def newest_router(store: Store) -> RouterRecord | None:
    """The router trained last, or None."""
    return _ROUTER.first(store, select(*_ROUTER).order_by(RouterRow.id.desc()).limit(1))


def routers(store: Store) -> list[RouterRecord]:
    """Every router, newest first."""
    return _ROUTER.all(store)[::-1]


def routed_prompt_set(store: Store, router_id: int) -> int | None:
    """The prompt set that a router was trained for: that of the first plan made with it, or None."""
    query = select(PlanRow.prompt_set_id).where(PlanRow.router_id == router_id).order_by(PlanRow.id).limit(1)
    return next(iter(store.scalars(query)), None)


def open_plan(store: Store, lease: Lease | None, plan: NewPlan) -> Plan:
    """The plan of this specification, made empty and incomplete when there is none."""
    return _PLAN.open(store, lease, **asdict(plan), complete=False)


def plan(store: Store, spec_sha: str) -> Plan | None:
    """The plan of this specification, or None."""
    return _PLAN.find(store, spec_sha)


def plan_teachers(store: Store, plan_id: int) -> list[str]:
    """The names that a plan's strengths belong to, in their order; empty when the plan does not say."""
    manifests = store.scalars(select(PlanRow.manifest).where(PlanRow.id == plan_id))
    return [str(name) for manifest in manifests for name in manifest.get("teachers", [])]


def unassigned(
    store: Store, plan_id: int, splits: Sequence[Split] | None, after: int = -1, limit: int = 500
) -> list[tuple[int, Prompt]]:
    """The next prompts of the plan's set without an assignment, with their ordinals, in order."""
    members = (
        select(MemberRow)
        .join(PlanRow, PlanRow.prompt_set_id == MemberRow.prompt_set_id)
        .outerjoin(
            AssignmentRow,
            and_(
                AssignmentRow.plan_id == PlanRow.id,
                AssignmentRow.prompt_id == MemberRow.prompt_id,
                AssignmentRow.attempt == 0,
            ),
        )
        .where(PlanRow.id == plan_id, AssignmentRow.prompt_id.is_(None))
    )
    return prompt_page(store, members, splits, after, limit)


def assign(store: Store, lease: Lease | None, plan_id: int, rows: Sequence[Assignment]) -> int:
    """How many assignments are new, in one transaction; one that is already there is kept."""
    return store.add(AssignmentRow, [{"plan_id": plan_id, **asdict(row)} for row in rows], lease)


def finish_plan(store: Store, lease: Lease | None, plan_id: int) -> None:
    """Mark the plan complete: every prompt has its first assignment."""
    _PLAN.complete(store, lease, plan_id)


def failed(
    store: Store,
    plan_id: int,
    generations: Sequence[Generation],
    *,
    max_attempt: int,
    after_prompt_id: int = 0,
    limit: int = 500,
) -> list[Assignment]:
    """The last assignment of each prompt whose response is stored and not `ok`, by prompt id.

    Assignments with the attempt `max_attempt` or a higher one are left out.
    """
    later = aliased(AssignmentRow)
    after = select(later.attempt).where(
        later.plan_id == plan_id,
        later.prompt_id == AssignmentRow.prompt_id,
        later.attempt > AssignmentRow.attempt,
    )
    given = and_(
        ResponseRow.prompt_id == AssignmentRow.prompt_id,
        ResponseRow.teacher_id == AssignmentRow.teacher_id,
        of_generations(store, generations),
    )
    query = (
        select(*_ASSIGNMENT)
        .join(ResponseRow, given)
        .where(
            AssignmentRow.plan_id == plan_id,
            AssignmentRow.prompt_id > after_prompt_id,
            AssignmentRow.attempt < max_attempt,
            ResponseRow.status != "ok",
            ~after.exists(),
        )
        .order_by(AssignmentRow.prompt_id)
        .limit(limit)
    )
    return _ASSIGNMENT.all(store, query)


def shares(store: Store, plan_id: int) -> list[Share]:
    """What the plan first gave to each teacher that got anything, most prompts first; reads the whole plan."""
    query = (
        select(
            AssignmentRow.teacher_id,
            func.count().label("prompts"),
            func.avg(AssignmentRow.margin).label("margin"),
        )
        .where(AssignmentRow.plan_id == plan_id, AssignmentRow.attempt == 0)
        .group_by(AssignmentRow.teacher_id)
        .order_by(func.count().desc(), AssignmentRow.teacher_id)
    )
    return [Share(*row) for row in store.rows(query)]


def _first(plan_id: int, teacher_id: int | None = None) -> Query:
    """Selects a plan's first assignments; of one teacher where given."""
    query = select(*_ASSIGNMENT).where(AssignmentRow.plan_id == plan_id, AssignmentRow.attempt == 0)
    return query if teacher_id is None else query.where(AssignmentRow.teacher_id == teacher_id)


def newest(store: Store, plan_id: int, teacher_id: int | None = None, limit: int = 200) -> list[Assignment]:
    """The first assignments of the plan's latest prompts, highest prompt id first; of one teacher where given."""
    query = _first(plan_id, teacher_id).order_by(AssignmentRow.prompt_id.desc())
    return _ASSIGNMENT.all(store, query.limit(limit))


def closest(store: Store, plan_id: int, teacher_id: int | None = None, limit: int = 200) -> list[Assignment]:
    """The first assignments with the smallest margins, smallest first; reads the whole plan."""
    query = _first(plan_id, teacher_id).where(AssignmentRow.margin.is_not(None))
    return _ASSIGNMENT.all(store, query.order_by(AssignmentRow.margin, AssignmentRow.prompt_id).limit(limit))


def choices(store: Store, plan_id: int, prompt_ids: Sequence[int]) -> dict[int, Assignment]:
    """The plan's first assignments of these prompts, by prompt id; prompts without one are left out."""
    found: dict[int, Assignment] = {}
    for part in chunks(prompt_ids):
        rows = _ASSIGNMENT.all(store, _first(plan_id).where(AssignmentRow.prompt_id.in_(part)))
        found.update({assignment.prompt_id: assignment for assignment in rows})
    return found


def assignments(store: Store, plan_id: int, after_prompt_id: int = 0, limit: int = 500) -> list[Assignment]:
    """The assignments of the next `limit` prompts, by (prompt id, attempt): every attempt of each prompt."""
    page = _first(plan_id).where(AssignmentRow.prompt_id > after_prompt_id)
    page = page.order_by(AssignmentRow.prompt_id).limit(limit).with_only_columns(AssignmentRow.prompt_id)
    until = select(func.max(page.subquery().c.prompt_id)).scalar_subquery()
    query = select(*_ASSIGNMENT).where(
        AssignmentRow.plan_id == plan_id,
        AssignmentRow.prompt_id > after_prompt_id,
        AssignmentRow.prompt_id <= until,
    )
    return _ASSIGNMENT.all(store, query.order_by(AssignmentRow.prompt_id, AssignmentRow.attempt))


def generations_used(
    store: Store,
    plan_id: int,
    generations: Sequence[Generation],
    calibration: bool,
    full: bool,
    design_id: int | None = None,
) -> int:
    """How many stored responses the plan rests on, each counted once, whatever their status.

    For a router it is C·M + (N − C) plus one for every fallback: the calibration and validation prompts
    answered by all M teachers, every other prompt by the one it was assigned to.

    Args:
        plan_id: the plan.
        generations: the teachers' generations.
        calibration: whether it needed every teacher's responses to calibration and validation prompts.
        full: whether it needed every teacher's responses to every prompt but the evaluation's.
        design_id: the plan of a partial calibration: which of the responses to those prompts it needed.
    """
    designed = calibration and design_id is not None
    needed: list[ColumnElement[bool]] = [
        select(AssignmentRow.attempt)
        .where(
            AssignmentRow.plan_id.in_([plan_id, design_id] if designed else [plan_id]),
            AssignmentRow.prompt_id == ResponseRow.prompt_id,
            AssignmentRow.teacher_id == ResponseRow.teacher_id,
        )
        .exists()
    ]
    if calibration and not designed:
        needed.append(MemberRow.split.in_(("calibration", "validation")))
    if full:
        needed.append(MemberRow.split != "evaluation")
    given = and_(ResponseRow.prompt_id == MemberRow.prompt_id, of_generations(store, generations))
    return store.number(
        select(func.count(func.distinct(ResponseRow.id)))
        .select_from(PlanRow)
        .join(MemberRow, MemberRow.prompt_set_id == PlanRow.prompt_set_id)
        .join(ResponseRow, given)
        .where(PlanRow.id == plan_id, or_(*needed))
    )


def attempts(store: Store, plan_id: int, prompt_ids: Sequence[int]) -> dict[int, list[int]]:
    """The teachers that a plan has asked for each prompt, by prompt id, in the order they were asked."""
    query = select(AssignmentRow.prompt_id, AssignmentRow.teacher_id).where(AssignmentRow.plan_id == plan_id)
    query = query.order_by(AssignmentRow.prompt_id, AssignmentRow.attempt)
    asked: dict[int, list[int]] = {}
    for part in chunks(prompt_ids):
        for prompt_id, teacher_id in store.rows(query.where(AssignmentRow.prompt_id.in_(part))):
            asked.setdefault(prompt_id, []).append(teacher_id)
    return asked
