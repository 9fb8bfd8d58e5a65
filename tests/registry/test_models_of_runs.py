"""What a run file calls its models changes nothing that was registered by hand."""

from pathlib import Path
from uuid import uuid4

from engine.config import run_file
from engine.job.control import JobControl
from engine.pipeline import runner
from engine.pipeline.display import choose
from engine.registry import register, run_files
from storage import jobs, registry
from storage.store import Store

RUN = """
student: {{name: pupil, model: "zoo:student"}}
teachers: [{{name: br, model: "zoo:brief", sampling: {{max_tokens: {longest}}}}}]
prompts: [{{source: reasoning_gym, task: gcd, size: 40}}]
strategies: [strong]
"""


def started(store: Store, longest: int) -> None:
    """A job has come as far as its first stage."""
    run = run_file.parse(RUN.format(longest=longest))
    job, _ = jobs.submit(store, run.model_dump(mode="json"), uuid4().hex, run.name)
    lease = jobs.claim(store, job.id, owner="test", lease_seconds=60)
    log = runner.JobLog(store, lease, choose(quiet=True))
    context = runner.prepare(job, log, JobControl())
    context.servers.close()


def by_hand(store: Store, name: str, role: str, **given) -> None:
    wanted, _ = register.fill(register.settings({"name": name, **given}, role, Path.cwd()))
    register.put(store, register.record(wanted, role))


def test_a_run_of_the_same_name_leaves_the_registered_model_to_others(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        by_hand(store, "br", "teacher", model="zoo:brief")
        by_hand(store, "pupil", "student", model="zoo:student")
        before = registry.models(store)
        assert {model.family for model in before} == {"llama"}
        started(store, 33)
        assert registry.models(store) == before
        assert len(registry.models(store, superseded=True)) > len(before)
    assert run_files.saved(str(tmp_path / "store.db"))("teacher", "br")["sampling"]["max_tokens"] == 1024


def test_a_model_that_only_run_files_describe_is_that_of_the_newest_run(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        for longest in (33, 44, 33):
            started(store, longest)
            (teacher,) = registry.models(store, "teacher")
            assert (teacher.name, teacher.sampling.max_tokens) == ("br", longest)
