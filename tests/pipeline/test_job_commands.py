"""What the operator's commands refuse, in words for every front end; the app says the keys."""

from pathlib import Path

import pytest
from support import RUN

from engine.config import run_file
from engine.pipeline import job_commands
from engine.pipeline.job_commands import Refused
from persyn_tui.app import actions
from storage import jobs
from storage.store import Store


def test_a_job_that_ends_early_and_is_done_is_not_resumed_and_no_key_is_named(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        spec = run_file.parse(RUN).model_dump(mode="json")
        job, _ = jobs.submit(store, spec, "sha", "small", until="score")
        lease = jobs.claim(store, job.id, owner="test", lease_seconds=30)
        jobs.release(store, lease, "done")
        done = jobs.get(store, job.id)
        assert done is not None
        with pytest.raises(Refused, match="is done: it ends with stage score") as caught:
            job_commands.resume(store, done)
    assert "{" not in str(caught.value)
    assert caught.value.remedy == "make a new job"
    assert actions.with_keys(caught.value).endswith("\n  → {jobs.new:n} makes a new one")


def test_every_next_step_has_its_keys() -> None:
    source = Path(job_commands.__file__).read_text()
    assert "{jobs." not in source
    assert set(actions.BY_KEY) == set(job_commands.NextStep.__args__) - {""}
