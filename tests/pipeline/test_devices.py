"""A run on two devices, two processes on the CPU: the results of one, and each row once, whatever happens to them.

The processes are made slow (`slow_process`), so that something can happen to them in the middle of a pass.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import psutil
import pytest
from sqlalchemy import delete, select, update
from support import RUN, Workspace, wait_until

from storage import schema

SLOW = Path(__file__).parents[1] / "slow_process"
HEARD_S, SLACK_S = 5.0, 3.0


def on_two(workspace: Workspace) -> Workspace:
    """The finished run without what its stage `score` did last, to be done by two processes in many passes."""
    small = RUN.replace('model: "zoo:student", family', 'model: "zoo:student", batch_tokens: 128, family')
    workspace.write(small + "devices: [cpu, cpu]\n")
    with workspace.open() as store, store.write(None) as connection:
        answered = (
            select(schema.ResponseRow.id)
            .join(schema.MemberRow, schema.MemberRow.prompt_id == schema.ResponseRow.prompt_id)
            .where(schema.MemberRow.split.in_(("calibration", "validation")))
        )
        connection.execute(
            delete(schema.ScoreRow).where(
                schema.ScoreRow.scorer_id.in_(learnability()), schema.ScoreRow.response_id.in_(answered)
            )
        )
    return workspace


def learnability():
    return select(schema.ScorerRow.id).where(schema.ScorerRow.kind == "learnability")


def scores(workspace: Workspace) -> dict[int, float | None]:
    """Response → its learnability."""
    with workspace.open() as store, store.read() as connection:
        rows = connection.execute(
            select(schema.ScoreRow.response_id, schema.ScoreRow.value).where(
                schema.ScoreRow.scorer_id.in_(learnability())
            )
        ).all()
    assert len(rows) == len({response for response, _ in rows})
    return dict(map(tuple, rows))


def processes(pid: int | None = None) -> list[psutil.Process]:
    """The copies' processes of an engine."""
    return [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if child.status() != "zombie" and "engine.models.replica_process" in child.cmdline()
    ]


def none_left() -> bool:
    """Whether all have ended; one that had hardly been started when it was told to takes a moment."""
    until = time.monotonic() + 10
    while processes() and time.monotonic() < until:
        time.sleep(0.05)
    return not processes()


def slow(monkeypatch: pytest.MonkeyPatch, layer_s: float, load_s: float = 0.0) -> None:
    """A process that is started from now on takes so much longer for each layer of a pass, and to load a model."""
    monkeypatch.syspath_prepend(SLOW)
    monkeypatch.setenv("SLOW_LAYER_S", str(layer_s))
    monkeypatch.setenv("SLOW_LOAD_S", str(load_s))


def meanwhile(condition: Callable[[], bool], action: Callable[[], object]) -> Thread:
    """Does something once a condition holds, while the engine works in this thread."""

    def watch() -> None:
        until = time.monotonic() + 60
        while not condition():
            if time.monotonic() > until:
                return
            time.sleep(0.02)
        action()

    thread = Thread(target=watch)
    thread.start()
    return thread


def test_scores_and_routes_are_those_of_one_process(copied) -> None:
    alone, routed = scores(copied), copied.counts()
    on_two(copied)
    with copied.open() as store, store.write(None) as connection:
        plans = select(schema.PlanRow.id).where(schema.PlanRow.strategy == "persyn")
        before = connection.execute(assignments(plans)).all()
        connection.execute(delete(schema.AssignmentRow).where(schema.AssignmentRow.plan_id.in_(plans)))
        connection.execute(update(schema.PlanRow).values(complete=False))
    copied.finish("route")
    found = scores(copied)
    assert found.keys() == alone.keys()
    assert list(found.values()) == pytest.approx([alone[key] for key in found], abs=1e-4)
    with copied.open() as store, store.read() as connection:
        assert connection.execute(assignments(plans)).all() == before
    assert copied.counts() == routed
    assert none_left()


def assignments(plans):
    row = schema.AssignmentRow
    return (
        select(row.prompt_id, row.teacher_id)
        .where(row.plan_id.in_(plans), row.attempt == 0)
        .order_by(row.prompt_id)
    )


def test_a_process_that_is_killed_ends_the_stage_and_loses_nothing(copied, monkeypatch) -> None:
    alone = scores(copied)
    on_two(copied)
    kept = dict[int, float | None]()

    def kill() -> None:
        kept.update(scores(copied))
        processes()[-1].kill()

    with monkeypatch.context() as patch:
        slow(patch, 0.2)
        before = len(scores(copied))
        thread = meanwhile(lambda: len(scores(copied)) > before, kill)
        code, job, _ = copied.work("score")
        thread.join()
    assert (code, job.state) == (3, "needs_attention")
    assert "the process on cpu was killed by SIGKILL" in job.error
    assert "`devices`" in job.error
    assert none_left()
    stored = scores(copied)
    assert before < len(kept)
    assert kept.items() <= stored.items()
    assert len(stored) < len(alone)
    copied.finish("score")
    found = scores(copied)
    assert stored.items() <= found.items()  # none was scored again
    assert list(found.values()) == pytest.approx([alone[key] for key in found], abs=1e-4)


@pytest.mark.parametrize("loads", [True, False])
def test_a_stop_is_heard_while_both_load_or_are_in_a_pass(copied, monkeypatch, loads: bool) -> None:
    on_two(copied)
    asked: list[float] = []

    def stop() -> None:
        asked.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    slow(monkeypatch, 0.5, 60.0 if loads else 0.0)
    before = len(scores(copied))
    thread = meanwhile(
        lambda: len(processes()) == 2 if loads else len(scores(copied)) > before,
        stop,
    )
    code, job, _ = copied.work("score")
    assert time.monotonic() - asked[0] < HEARD_S + SLACK_S
    thread.join()
    assert (code, job.state) == (130, "cancelled")
    assert none_left()


def test_an_engine_that_is_killed_takes_them_along(copied, monkeypatch) -> None:
    on_two(copied)
    slow(monkeypatch, 0.5)
    before = len(scores(copied))
    copied.environment |= {"SLOW_LAYER_S": "0.5", "PYTHONPATH": str(SLOW)}
    engine = copied.start("run", copied.folder / "run.yaml", "--until", "score")
    wait_until(engine, lambda: len(scores(copied)) > before)
    theirs = processes(engine.pid)
    assert len(theirs) == 2
    engine.send_signal(signal.SIGKILL)
    engine.communicate()
    assert not psutil.wait_procs(theirs, timeout=10)[1]
