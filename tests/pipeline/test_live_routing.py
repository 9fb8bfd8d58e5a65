"""Routing with a backbone whose every pass counts: what a pass decides is stored and shown before the next one."""

import signal
from typing import Any

from sqlalchemy import delete, select, update

from engine.pipeline.stages import route
from engine.router import model as router_model
from storage import schema


def assigned(workspace) -> dict[int, tuple[int, Any]]:
    """Prompt → teacher and strengths, by the plan of the router."""
    with workspace.open() as store, store.read() as connection:
        rows = connection.execute(
            select(
                schema.AssignmentRow.prompt_id,
                schema.AssignmentRow.teacher_id,
                schema.AssignmentRow.strengths,
            )
            .join(schema.PlanRow)
            .where(schema.PlanRow.strategy == "persyn", schema.AssignmentRow.attempt == 0)
        ).all()
    return {prompt: (teacher, strengths) for prompt, teacher, strengths in rows}


def test_each_pass_is_stored_and_counted_and_a_stop_waits_for_no_more_than_one(copied, monkeypatch) -> None:
    undisturbed = assigned(copied)
    with copied.open() as store, store.write(None) as connection:
        (plan,) = connection.execute(
            select(schema.PlanRow.id).where(schema.PlanRow.strategy == "persyn")
        ).scalars()
        connection.execute(delete(schema.AssignmentRow).where(schema.AssignmentRow.plan_id == plan))
        connection.execute(update(schema.PlanRow).where(schema.PlanRow.id == plan).values(complete=False))
    read, real, stored = list[int](), router_model.pool, list[int]()

    def pool(backbone: Any, batch: Any) -> Any:
        stored.append(len(assigned(copied)))
        if len(read) == 3:
            signal.raise_signal(signal.SIGTERM)
        states = real(backbone, batch)
        read.append(len(batch))
        return states

    with monkeypatch.context() as patch:
        patch.setattr(router_model, "pool", pool)
        patch.setattr(router_model, "CPU_TOKENS", 200)
        patch.setattr(route, "LOCAL_S", 0.0)
        code, job, _ = copied.work("route")
    assert (code, job.state) == (130, "cancelled")
    assert len(read) == 3  # the fourth pass was stopped
    assert stored == [0, read[0], sum(read[:2]), sum(read)]
    assert len(assigned(copied)) == job.progress["rows"]["persyn"]["done"] == sum(read)
    copied.finish("route")
    assert {p: teacher for p, (teacher, _) in assigned(copied).items()} == {
        p: teacher for p, (teacher, _) in undisturbed.items()
    }
