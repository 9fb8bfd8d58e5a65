"""A full disk pauses a job, whoever meets it first: the database or a file of weights."""

import errno
import os

import pytest
from support import RUN

from engine import config, pipeline, runner
from engine.display import Silent
from storage import jobs
from storage.store import Store


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["python", "safetensors"],
)
def test_a_file_that_does_not_fit_pauses_the_job(tmp_path, monkeypatch, problem: Exception):
    def full(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(pipeline, "run", full)
    with Store.open(tmp_path / "store.db") as store:
        spec = config.parse(RUN).model_dump(mode="json")
        job, _ = jobs.submit(store, spec, "sha", "small")
        assert runner.work(store, job.id, Silent()).code == 3
        (after,) = jobs.list(store)
    assert after.state == "paused"
    assert after.error.startswith("disk_full: ")
    assert "→ free some space" in after.error
