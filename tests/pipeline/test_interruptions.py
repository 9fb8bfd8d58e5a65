"""Killed, cancelled, resumed: nothing committed is lost, nothing is stored twice."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import delete, select
from support import wait_until

from engine.job.stage_names import STAGES
from engine.teachers import teacher_kinds
from storage import jobs, schema
from storage.errors import PersynError


def stage_reached(workspace, stage: str, done: int):
    """A condition: the newest job is in this stage and has done so much of it, or is beyond it."""

    def reached() -> bool:
        if not workspace.database.exists():
            return False
        try:
            with workspace.open() as store:
                found = jobs.recent(store, limit=1)
        except PersynError:
            return False  # the database is being made
        if not found or found[0].stage not in STAGES:
            return False
        here, wanted = STAGES.index(found[0].stage), STAGES.index(stage)
        # A quick stage may pass between two looks; being beyond it is as good.
        return here > wanted or (here == wanted and found[0].progress.get("done", 0) >= done)

    return reached


@pytest.mark.parametrize(("stage", "done"), [("calibrate", 28), ("generate", 0), ("distill", 3)])
def test_kill_9_then_the_same_command_ends_as_if_undisturbed(workspace, finished, stage: str, done: int):
    undisturbed, _ = finished
    path = workspace.write()
    process = workspace.start("run", path)
    wait_until(process, stage_reached(workspace, stage, done))
    process.kill()
    process.communicate()
    kept = workspace.counts()
    workspace.finish()
    assert workspace.counts() == undisturbed.counts()
    assert all(kept[table] <= count for table, count in undisturbed.counts().items())
    assert workspace.adapters() == undisturbed.adapters()
    with workspace.open() as store:
        (job,) = jobs.recent(store)
        assert (job.state, job.epoch) == ("done", 2)


def test_ctrl_c_cancels_at_the_next_batch_and_the_run_resumes(workspace, finished):
    undisturbed, _ = finished
    path = workspace.write()
    process = workspace.start("run", path)
    wait_until(process, stage_reached(workspace, "score", 0))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "run the same command again" in err
    with workspace.open() as store:
        assert jobs.recent(store)[0].state == "cancelled"
    workspace.finish()
    assert workspace.counts() == undisturbed.counts()


@pytest.mark.parametrize("state", ["queued", "running"])
def test_ctrl_c_while_the_engine_starts_says_so_and_leaves_no_queued_job(workspace, state: str) -> None:
    """The signal comes when the job is just stored, and when torch is being imported."""
    workspace.fresh = True
    path = workspace.write()

    def reached() -> bool:
        if not workspace.database.exists():
            return False
        try:
            with workspace.open() as store:
                return any(state in ("queued", job.state) for job in jobs.recent(store, limit=1))
        except PersynError:
            return False  # the database is being made

    process = workspace.start("run", path)
    wait_until(process, reached)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "job 1: starting" in err
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    with workspace.open() as store:
        (job,) = jobs.recent(store)
    assert (job.state, job.stage) == ("cancelled", "")


def test_cancel_from_another_terminal(workspace):
    path = workspace.write()
    process = workspace.start("run", path)
    wait_until(process, stage_reached(workspace, "calibrate", 0))
    assert workspace.call("cancel", 1).returncode == 0
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err


def test_an_evaluation_that_is_cancelled_is_no_accuracy_and_is_gone_on_with(copied, monkeypatch) -> None:
    workspace = copied
    with workspace.open() as store:
        for table in (schema.ResultRow, schema.EvaluationRow):
            assert store.execute(delete(table))
    opened = teacher_kinds.open_backend

    class Cut:
        """A backend in whose second answer the operator stops the job."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def generate(self, requests: Any) -> Iterator[Any]:
            for number, completion in enumerate(self._inner.generate(requests)):
                if number == 1:
                    signal.raise_signal(signal.SIGTERM)
                yield completion

        def close(self) -> None:
            self._inner.close()

    with monkeypatch.context() as patch:
        patch.setattr(teacher_kinds, "open_backend", lambda *given, **more: Cut(opened(*given, **more)))
        code, job, _ = workspace.work()
    assert (code, job.state) == (130, "cancelled")
    with workspace.open() as store, store.read() as connection:
        evaluations = connection.execute(select(schema.EvaluationRow.complete)).scalars().all()
    assert not any(evaluations)
    workspace.finish()
    with workspace.open() as store, store.read() as connection:
        rows = connection.execute(select(schema.EvaluationRow.complete, schema.EvaluationRow.summary)).all()
    assert rows
    assert all(row.complete and row.summary["n"] == 10 for row in rows)
