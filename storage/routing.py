"""Routers, plans and assignments, and how many generations a plan has used."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import ColumnElement, and_, func, or_, select, update
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
from storage.rows import PROMPT, Columns, by, chunks, prompt_page, stored
from storage.schema import AssignmentRow, MemberRow, PlanRow, PromptRow, ResponseRow, RouterRow
from storage.store import Store

_ROUTER = Columns(RouterRecord, RouterRow)
_PLAN = Columns(Plan, PlanRow)
_ASSIGNMENT = Columns(Assignment, AssignmentRow)


def put_router(store: Store, lease: Lease | None, router: NewRouter) -> RouterRecord:
    """The router's record; one of the same specification that is already there is kept as it is."""
    return _ROUTER.open(store, lease, **asdict(router), created_at=time.time())


def router(store: Store, spec_sha: str) -> RouterRecord | None:
    """The router of this specification, or None."""
    return _ROUTER.find(store, spec_sha)


def router_by_id(store: Store, id: int) -> RouterRecord | None:
    """The router of this id, or None."""
    return _ROUTER.first(store, select(*_ROUTER).where(RouterRow.id == id))


def newest_router(store: Store) -> RouterRecord | None:
    """The router trained last, or None."""
    return _ROUTER.first(store, select(*_ROUTER).order_by(RouterRow.id.desc()).limit(1))


def router_ids(store: Store) -> list[int]:
    """The ids of all routers, newest first."""
    with store.read() as connection:
        return list(connection.execute(select(RouterRow.id).order_by(RouterRow.id.desc())).scalars())


def routed_prompt_set(store: Store, router_id: int) -> int | None:
    """The prompt set that a router was trained for: that of the first plan made with it, or None."""
    query = select(PlanRow.prompt_set_id).where(PlanRow.router_id == router_id).order_by(PlanRow.id).limit(1)
    with store.read() as connection:
        return connection.execute(query).scalar()


def open_plan(store: Store, lease: Lease | None, plan: NewPlan) -> Plan:
    """The plan of this specification, made empty and incomplete when there is none."""
    return _PLAN.open(store, lease, **asdict(plan), complete=False)


def plan(store: Store, spec_sha: str) -> Plan | None:
    """The plan of this specification, or None."""
    return _PLAN.find(store, spec_sha)


def plan_teachers(store: Store, plan_id: int) -> list[str]:
    """The names that a plan's strengths belong to, in their order; empty when the plan does not say."""
    with store.read() as connection:
        manifest = connection.execute(select(PlanRow.manifest).where(PlanRow.id == plan_id)).scalar()
    return [str(name) for name in (manifest or {}).get("teachers", [])]


def unassigned(
    store: Store, plan_id: int, splits: Sequence[Split] | None, after: int = -1, limit: int = 500
) -> list[tuple[int, Prompt]]:
    """The next prompts of the plan's set without an assignment, with their ordinals, in order.

    Args:
        store: an open store.
        plan_id: the plan.
        splits: only these; None for all.
        after: the last ordinal already seen.
        limit: how many at most.
    """
    members = (
        select(MemberRow.ordinal, *PROMPT)
        .select_from(PlanRow)
        .join(MemberRow, MemberRow.prompt_set_id == PlanRow.prompt_set_id)
        .join(PromptRow, PromptRow.id == MemberRow.prompt_id)
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
    if not rows:
        return 0
    values = [{"plan_id": plan_id, **asdict(row)} for row in rows]
    with store.write(lease) as connection:
        return connection.execute(store.insert(AssignmentRow).on_conflict_do_nothing(), values).rowcount


def finish_plan(store: Store, lease: Lease | None, plan_id: int) -> None:
    """Mark the plan complete: every prompt has its first assignment."""
    with store.write(lease) as connection:
        connection.execute(update(PlanRow).where(PlanRow.id == plan_id).values(complete=True))


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

    Args:
        store: an open store.
        plan_id: the plan.
        generations: the teachers' generations.
        max_attempt: assignments with this attempt or a higher one are left out.
        after_prompt_id: the last prompt already seen.
        limit: how many at most.
    """
    later = aliased(AssignmentRow)
    with store.read() as connection:
        known = stored(connection, generations)
        query = (
            select(*_ASSIGNMENT)
            .join(
                ResponseRow,
                and_(
                    ResponseRow.prompt_id == AssignmentRow.prompt_id,
                    ResponseRow.teacher_id == AssignmentRow.teacher_id,
                    by(known),
                ),
            )
            .where(
                AssignmentRow.plan_id == plan_id,
                AssignmentRow.prompt_id > after_prompt_id,
                AssignmentRow.attempt < max_attempt,
                ResponseRow.status != "ok",
                ~select(later.attempt)
                .where(
                    later.plan_id == plan_id,
                    later.prompt_id == AssignmentRow.prompt_id,
                    later.attempt > AssignmentRow.attempt,
                )
                .exists(),
            )
            .order_by(AssignmentRow.prompt_id)
            .limit(limit)
        )
        result = connection.execute(query)
        return list(map(_ASSIGNMENT.reader(result), result))


def allocation(store: Store, plan_id: int) -> dict[int, int]:
    """How many prompts the plan first gave to each teacher, by teacher id; only teachers with any."""
    query = (
        select(AssignmentRow.teacher_id, func.count().label("prompts"))
        .where(AssignmentRow.plan_id == plan_id, AssignmentRow.attempt == 0)
        .group_by(AssignmentRow.teacher_id)
        .order_by(AssignmentRow.teacher_id)
    )
    with store.read() as connection:
        return {row.teacher_id: row.prompts for row in connection.execute(query)}


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
    with store.read() as connection:
        return [Share(row.teacher_id, row.prompts, row.margin) for row in connection.execute(query)]


def newest(store: Store, plan_id: int, teacher_id: int | None = None, limit: int = 200) -> list[Assignment]:
    """The first assignments of the plan's latest prompts, highest prompt id first; of one teacher where given."""
    query = (
        select(*_ASSIGNMENT)
        .where(AssignmentRow.plan_id == plan_id, AssignmentRow.attempt == 0)
        .order_by(AssignmentRow.prompt_id.desc())
        .limit(limit)
    )
    if teacher_id is not None:
        query = query.where(AssignmentRow.teacher_id == teacher_id)
    return _ASSIGNMENT.all(store, query)


def closest(store: Store, plan_id: int, teacher_id: int | None = None, limit: int = 200) -> list[Assignment]:
    """The first assignments with the smallest margins, smallest first; reads the whole plan."""
    query = (
        select(*_ASSIGNMENT)
        .where(
            AssignmentRow.plan_id == plan_id, AssignmentRow.attempt == 0, AssignmentRow.margin.is_not(None)
        )
        .order_by(AssignmentRow.margin, AssignmentRow.prompt_id)
        .limit(limit)
    )
    if teacher_id is not None:
        query = query.where(AssignmentRow.teacher_id == teacher_id)
    return _ASSIGNMENT.all(store, query)


def choices(store: Store, plan_id: int, prompt_ids: Sequence[int]) -> dict[int, Assignment]:
    """The plan's first assignments of these prompts, by prompt id; prompts without one are left out."""
    first = select(*_ASSIGNMENT).where(AssignmentRow.plan_id == plan_id, AssignmentRow.attempt == 0)
    found: dict[int, Assignment] = {}
    for part in chunks(prompt_ids):
        rows = _ASSIGNMENT.all(store, first.where(AssignmentRow.prompt_id.in_(part)))
        found.update({assignment.prompt_id: assignment for assignment in rows})
    return found


def assignments(store: Store, plan_id: int, after_prompt_id: int = 0, limit: int = 500) -> list[Assignment]:
    """The assignments of the next `limit` prompts, every attempt, by (prompt id, attempt).

    Args:
        store: an open store.
        plan_id: the plan.
        after_prompt_id: the last prompt already seen; a prompt's attempts are never split over two pages.
        limit: how many prompts at most.
    """
    last = (
        select(AssignmentRow.prompt_id)
        .where(
            AssignmentRow.plan_id == plan_id,
            AssignmentRow.prompt_id > after_prompt_id,
            AssignmentRow.attempt == 0,
        )
        .order_by(AssignmentRow.prompt_id)
        .limit(limit)
        .subquery()
    )
    with store.read() as connection:
        until = connection.execute(select(func.max(last.c.prompt_id))).scalar()
        if until is None:
            return []
        result = connection.execute(
            select(*_ASSIGNMENT)
            .where(
                AssignmentRow.plan_id == plan_id,
                AssignmentRow.prompt_id > after_prompt_id,
                AssignmentRow.prompt_id <= until,
            )
            .order_by(AssignmentRow.prompt_id, AssignmentRow.attempt)
        )
        return list(map(_ASSIGNMENT.reader(result), result))


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
        store: an open store.
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
    with store.read() as connection:
        known = stored(connection, generations)
        query = (
            select(func.count(func.distinct(ResponseRow.id)))
            .select_from(PlanRow)
            .join(MemberRow, MemberRow.prompt_set_id == PlanRow.prompt_set_id)
            .join(ResponseRow, and_(ResponseRow.prompt_id == MemberRow.prompt_id, by(known)))
            .where(PlanRow.id == plan_id, or_(*needed))
        )
        return int(connection.execute(query).scalar_one())


def attempts(store: Store, plan_id: int, prompt_ids: Sequence[int]) -> dict[int, list[int]]:
    """The teachers that a plan has asked for each prompt, by prompt id, in the order they were asked."""
    asked: dict[int, list[int]] = {}
    with store.read() as connection:
        for part in chunks(prompt_ids):
            rows = connection.execute(
                select(AssignmentRow.prompt_id, AssignmentRow.teacher_id)
                .where(AssignmentRow.plan_id == plan_id, AssignmentRow.prompt_id.in_(part))
                .order_by(AssignmentRow.prompt_id, AssignmentRow.attempt)
            )
            for prompt_id, teacher_id in rows:
                asked.setdefault(prompt_id, []).append(teacher_id)
    return asked
