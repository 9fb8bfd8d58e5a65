"""Submits a job and starts its engine, in the background or in place of this process. No torch."""

import os
import signal
import subprocess
import sys
from threading import Thread

from engine.config.run_file import Run
from engine.pipeline import preflight
from storage import jobs
from storage.hashing import sha
from storage.job_records import Job
from storage.store import Store

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks an engine to stop."""


def submit(store: Store, run: Run, *, until: str | None = None) -> tuple[Job, bool]:
    """(job, created): a job for this run file, or the active one of the same content, whatever its budget and devices.

    One that no process works on takes those given now, so that a paused job goes on when the budget is raised.

    Everything that can be checked without loading a model is checked first.

    Raises:
        ConfigError: something in the run file cannot work; nothing was stored.
        StoreMissingError: the store's file is no longer the one that was opened.
    """
    store.check_writable()
    preflight.check(run)
    spec = run.model_dump(mode="json")
    # Neither changes a result. A job from before there were `devices` has the hash that it has now.
    free = {key: value for key, value in spec.items() if key != "devices"}
    free["generation"] = {key: value for key, value in spec["generation"].items() if key != "budget_usd"}
    job, created = jobs.submit(store, spec, sha({"run": free, "until": until}), run.name, until=until)
    if job.spec != spec and not jobs.alive(job):
        jobs.respecify(store, job.id, spec)
    return job, created


def command(job: Job, *, foreground: bool, as_json: bool = False) -> list[str]:
    """The engine process that works on a job, as an argument list; `environment` tells it the store."""
    # -P: a folder named `engine` where the operator stands must not be taken for ours.
    line = [sys.executable, "-P", "-m", "engine", "work", str(job.id)]
    if foreground:
        line.append("--foreground")
    if as_json:
        line.append("--json")
    return line


def environment(store: Store) -> dict[str, str]:
    """The environment of an engine process. The store goes here: a URL's password must not show in `ps`.

    Raises:
        StoreMissingError: the process would find another store than this one, or none.
    """
    store.check_file()
    return {**os.environ, "PERSYN_STORE": store.location}


def detach(store: Store, job: Job) -> int:
    """Process id of an engine started in its own session, writing to the job's log file.

    The process outlives this one, its terminal and its session.

    Raises:
        StoreMissingError: see `environment`.
        StoreError: the store may only be read.
    """
    store.check_writable()
    variables = environment(store)
    log = jobs.log_path(store, job.id)
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        process = subprocess.Popen(  # the engine is meant to outlive this process
            command(job, foreground=False),
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    # Somebody must ask for its end, or it stays in the list of processes as long as this one lives.
    Thread(target=process.wait, name=f"end of job {job.id}", daemon=True).start()
    return process.pid


def here(store: Store, job: Job, *, as_json: bool) -> None:
    """Replaces this process by the engine, in the foreground; never returns.

    One process rather than two: ctrl+c, kill and exit code mean the engine itself.
    """
    line, variables = command(job, foreground=True, as_json=as_json), environment(store)
    # They wait until the engine hears them: a ctrl+c between the two would end it without a word.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    store.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(line[0], line, variables)
