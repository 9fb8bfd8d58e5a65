"""How a job ends when its disk fills up under a file of weights, or at a second ctrl+c."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
from support import RUN

from engine.base.errors import (
    BudgetSpent,
    Cancelled,
    ConfigError,
    NeedsAttention,
    TrainingError,
    UselessReplies,
)
from engine.config import run_file
from engine.job.context import RunContext
from engine.job.progress import from_json
from engine.pipeline import pipeline, runner
from engine.pipeline.display import Plain, Silent
from storage import jobs
from storage.errors import DiskFullError, FencedError, StoreBusyError, StoreMissingError
from storage.job_records import Job
from storage.store import Store


def ended(folder: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> tuple[int, Job]:
    """(exit code, job) of a run whose pipeline meets this."""

    def meet(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(pipeline, "run", meet)
    with Store.open(folder / "store.db") as store:
        job, _ = jobs.submit(store, run_file.parse(RUN).model_dump(mode="json"), "sha", "small")
        code = runner.work(store, job.id, Silent()).code
        return code, jobs.recent(store)[0]


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["python", "safetensors"],
)
def test_a_file_that_does_not_fit_pauses_the_job(tmp_path, monkeypatch, problem: Exception):
    code, job = ended(tmp_path, monkeypatch, problem)
    assert (code, job.state) == (3, "paused")
    assert job.error.startswith("disk_full: ")
    assert "→ free some space" in job.error


@pytest.mark.parametrize(
    ("problem", "code", "state", "error"),
    [
        (Cancelled("enough"), 130, "cancelled", "enough"),
        (BudgetSpent("$1 spent", "raise it"), 3, "paused", "budget: $1 spent\n  → raise it"),
        (DiskFullError("no space"), 3, "paused", "disk_full: no space"),
        (NeedsAttention("no key"), 3, "needs_attention", "no key"),
        (UselessReplies("a judge"), 3, "failed", "a judge"),
        (TrainingError("NaN"), 3, "failed", "NaN"),
        (ConfigError("no model"), 2, "failed", "no model"),
        (StoreBusyError("busy"), 3, "failed", "busy"),
        (ZeroDivisionError("a defect"), 1, "failed", "ZeroDivisionError: a defect"),
        (FencedError("another process has it"), 3, "running", ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_kind_of_error_ends_the_job_as_the_table_says(
    tmp_path, monkeypatch, problem: Exception, code: int, state: str, error: str
):
    found, job = ended(tmp_path, monkeypatch, problem)
    assert (found, job.state, job.error) == (code, state, error)


def test_a_pause_is_no_error(tmp_path, monkeypatch):
    def stop(context: RunContext, **_: object) -> None:
        context.control.stop(pause=True)
        context.control.check()

    monkeypatch.setattr(pipeline, "run", stop)
    with Store.open(tmp_path / "store.db") as store:
        job, _ = jobs.submit(store, run_file.parse(RUN).model_dump(mode="json"), "sha", "small")
        assert runner.work(store, job.id, Silent()).code == 3
        job = jobs.recent(store)[0]
        assert (job.state, job.error) == ("paused", "")
        assert any("the same command goes on" in event.message for event in jobs.events(store, job.id))


def test_a_second_ctrl_c_cancels_at_once(tmp_path, monkeypatch):
    code, job = ended(tmp_path, monkeypatch, KeyboardInterrupt())
    assert (code, job.state) == (130, "cancelled")


def test_ctrl_c_held_down_still_writes_how_the_job_ended(tmp_path, monkeypatch):
    release = jobs.release

    def meet(*_: object, **__: object) -> None:
        for _ in range(5):
            os.kill(os.getpid(), signal.SIGINT)

    def hit(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        release(*arguments)

    monkeypatch.setattr(jobs, "release", hit)
    monkeypatch.setattr(pipeline, "run", meet)
    with Store.open(tmp_path / "store.db") as store:
        job, _ = jobs.submit(store, run_file.parse(RUN).model_dump(mode="json"), "sha", "small")
        assert runner.work(store, job.id, Silent()).code == 130
        assert jobs.recent(store)[0].state == "cancelled"


def test_the_progress_of_a_cancelled_job_is_where_its_error_says(tmp_path, monkeypatch):
    def train(context: RunContext, **_: object) -> None:
        context.progress.begin("distill")
        context.progress.expect(1000, row="persyn", unit="steps")
        for _step in range(925):
            context.progress.advance(row="persyn")
        raise Cancelled("cancelled at step 925 of 1000", "run the same command again")

    monkeypatch.setattr(pipeline, "run", train)
    with Store.open(tmp_path / "store.db") as store:
        job, _ = jobs.submit(store, run_file.parse(RUN).model_dump(mode="json"), "sha", "small")
        assert runner.work(store, job.id, Silent()).code == 130
        assert from_json(jobs.recent(store)[0].progress).done == 925


@pytest.mark.parametrize("replaced", [False, True], ids=["moved", "replaced"])
def test_a_store_that_is_moved_ends_the_job_before_anything_is_written_elsewhere(
    tmp_path, monkeypatch, capsys, replaced: bool
):
    path, moved = tmp_path / "store.db", tmp_path / "moved.db"
    Store.open(tmp_path / "other.db").close()

    def move(context: RunContext, **_: object) -> None:
        jobs.set_stage(context.store, context.lease, "distill", {})
        path.rename(moved)
        if replaced:
            (tmp_path / "other.db").rename(path)
        until = time.monotonic() + 60
        while time.monotonic() < until:  # as a training does between two reports
            context.control.cancelled()
            time.sleep(0.01)

    monkeypatch.setattr(pipeline, "run", move)
    monkeypatch.setattr(runner, "HEARTBEAT_S", 0.05)
    with Store.open(path) as store:
        job, _ = jobs.submit(store, run_file.parse(RUN).model_dump(mode="json"), "sha", "small")
        outcome = runner.work(store, job.id, Plain())
        assert outcome.code == 2
        said = capsys.readouterr().err
        assert ("has been replaced by another file" if replaced else "is no longer there") in said
        assert path.exists() == replaced, "an empty store was made in its place"
        with pytest.raises(StoreMissingError):
            jobs.command(store, job.id, "cancel")
    moved.replace(path)
    with Store.open(path) as store:
        (job,) = jobs.recent(store)
        assert (job.state, job.stage) == ("running", "distill"), "what was committed is there"
