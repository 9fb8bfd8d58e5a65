"""Starting the demo, and how the app says what to do instead of a command that was refused."""

from pathlib import Path

from engine.pipeline import job_commands
from engine.pipeline.job_commands import NextStep, Refused
from engine.registry import run_files
from engine.zoo import resolve
from storage.errors import PersynError
from storage.job_records import Job
from storage.store import Store

BY_KEY: dict[NextStep, str] = {
    "resume": "once it has stopped, the same key goes on with it",
    "new": "{jobs.new:n} makes a new one",
    "exclude": "exclude rows on screen {go.data:5} and {jobs.resume:r} trains anew on what is left, or {jobs.new:n} "
    "makes a new job",
    "stop": "wait for it to end, or stop it with {generation.pause:x}",
    "pause": "{generation.pause:x} pauses the job",
}


def demo(store: Store) -> Job:
    """The demo's job, started. Called in a thread."""
    return job_commands.start(store, run_files.load(Path(resolve.__file__).parent / "demo.yaml"))


def with_keys(problem: PersynError) -> str:
    """The error as text, with the keys that do what it advises."""
    if isinstance(problem, Refused) and problem.next_step:
        return f"{problem.message}\n  → {BY_KEY[problem.next_step]}"
    return str(problem)
