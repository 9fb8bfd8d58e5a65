"""What the app does to jobs: the same functions as the commands use. Called in a thread, never in the event loop."""

from pathlib import Path

from engine.config import run_file
from engine.config.run_file import Run
from engine.job import scorer_ids
from engine.job.progress import from_json
from engine.pipeline import launch
from engine.pipeline.run_view import reader, run_of
from engine.zoo import resolve
from storage import datasets, jobs, responses
from storage.errors import StoreError
from storage.job_records import ACTIVE_STATES, Job
from storage.store import Store

LOOKED_AT = 500
"""Jobs among which one that went on from another is looked for, the newest."""
RETRIES = 3
"""Further attempts at a response that ended in an error."""


def start(store: Store, run: Run, until: str | None = None) -> Job:
    """The job of this run, with an engine working on it in the background.

    Raises:
        ConfigError: something in the run cannot work; nothing was stored.
    """
    job, _ = launch.submit(store, run, until=until)
    if not jobs.alive(job):
        launch.detach(store, job)
    return job


def demo(store: Store) -> Job:
    """The demo's job, started."""
    return start(store, run_file.load(Path(resolve.__file__).parent / "demo.yaml"))


def resume(store: Store, job: Job) -> Job:
    """A job that goes on where this one stopped; the same job while it is unfinished.

    Raises:
        StoreError: it is running, has gone on as another job, or is done and its datasets are those that it trained on.
    """
    if jobs.alive(job):
        if job.id in jobs.stopping(store):
            raise StoreError(f"job {job.id} is stopping", "once it has stopped, the same key goes on with it")
        raise StoreError(f"job {job.id} is running", "there is nothing to go on with")
    if (later := jobs.went_on(jobs.recent(store, limit=LOOKED_AT)).get(job.id)) is not None:
        raise StoreError(f"job {job.id} went on as job {later}", "choose that one")
    if job.state == "done":
        _check_outdated(store, job)
    if job.state in ACTIVE_STATES:
        launch.detach(store, job)
        return job
    return start(store, run_of(job), job.until_stage)


def _check_outdated(store: Store, job: Job) -> None:
    """Raises where running a job that is done once more would find everything done."""
    from engine.job import adapters_of_run
    from engine.pipeline.run_view import reader

    if job.until_stage not in (None, "distill", "evaluate"):
        raise StoreError(
            f"job {job.id} is done: it ends with stage {job.until_stage}", "{jobs.new:n} makes a new one"
        )
    if not adapters_of_run.outdated(reader(store, Run.model_validate(job.spec))):
        raise StoreError(
            f"job {job.id} is done, and no dataset of it has changed since",
            "exclude rows on screen {go.data:5} and {jobs.resume:r} trains anew on what is left, or {jobs.new:n} "
            "makes a new job",
        )


def retry_failed(store: Store, job: Job) -> Job:
    """A job that asks again for responses and verdicts of this one that ended in an error, `RETRIES` times more each.

    The run is the same but for `generation.max_attempts`, so that everything else is found done.

    Raises:
        StoreError: it is running, nothing has failed, or its datasets are built and would not change.
    """
    if jobs.alive(job):
        raise StoreError(f"job {job.id} asks again by itself", "wait for it to end, or stop it with x")
    run = run_of(job)
    context = reader(store, run)
    failed = responses.counts(store, context.generations, context.prompt_set)
    if not any(row.status == "error" for row in failed) and not scorer_ids.failed(context):
        raise StoreError(f"no response and no verdict of job {job.id} ended in an error")
    built = [datasets.find(store, context.identity.dataset_sha(name)) for name in run.strategies]
    if all(dataset is not None and dataset.complete for dataset in built):
        raise StoreError(
            f"the datasets of job {job.id} are built; a response that comes now would not be in them",
            "change the run file (a prompt more is enough) for datasets of their own",
        )
    more = {"max_attempts": run.generation.max_attempts + RETRIES}
    changed = run.model_copy(update={"generation": run.generation.model_copy(update=more)})
    return start(store, changed, job.until_stage)


def checkpoint(store: Store, job_id: int) -> str:
    """What happened: the training was asked for a checkpoint, or there is none to ask."""
    job = jobs.get(store, job_id)
    if job is None or not jobs.alive(job) or job.stage != "distill":
        training = [
            str(other.id) for other in jobs.recent(store) if jobs.alive(other) and other.stage == "distill"
        ]
        others = f"; job {', '.join(training)} is: choose it on screen 1" if training else ""
        return f"job {job_id} is not training now{others}"
    if job_id in jobs.stopping(store):
        return f"job {job_id} is stopping, at a checkpoint"
    jobs.command(store, job_id, "checkpoint")
    return f"job {job_id} writes a checkpoint after its next step"


def pace(store: Store, job_id: int, teacher: str, *, more: bool) -> str:
    """What happened: the engine was asked to keep twice (else half) as many requests to a teacher in flight.

    Raises:
        StoreError: the teacher is not asked through an endpoint now.
    """
    job = jobs.get(store, job_id)
    row = None if job is None else from_json(job.progress).rows.get(teacher)
    if job is None or not jobs.alive(job) or row is None or not row.allowed:
        raise StoreError(
            f"no endpoint of `{teacher}` is being asked by job {job_id}",
            "this is for teachers of the kinds openai and vllm, while they answer; the run file's `endpoint: "
            "{concurrency: {start, max}}` is for every time",
        )
    if more and row.allowed >= row.most:
        raise StoreError(
            f"`{teacher}` may have {row.allowed:,} requests in flight, as many as the run file allows",
            "raise `endpoint: {concurrency: {max}}` there",
        )
    if not more and row.allowed == 1:
        raise StoreError(
            f"`{teacher}` has one request in flight at a time", "{generation.pause:x} pauses the job"
        )
    jobs.command(store, job_id, "concurrency", {"teacher": teacher, "more": more})
    # Not how many it will be: what was asked before may not be done yet.
    part = "twice" if more else "half"
    return f"`{teacher}` may soon have {part} as many requests in flight ({row.allowed:,} as last reported)"


def pause(store: Store, job_id: int) -> str:
    """What happened: the engine was asked to pause, at once where it was asked before, or nobody works on the job."""
    job = jobs.get(store, job_id)
    if job is None or not jobs.alive(job):
        return f"nobody works on job {job_id} now"
    again = job_id in jobs.stopping(store)
    jobs.command(store, job_id, "pause")
    if again:
        return f"job {job_id} pauses at once"
    waits = any(row.in_flight for row in from_json(job.progress).rows.values())
    when = "once what is in flight is answered" if waits else "at the next point where nothing is lost"
    return f"job {job_id} pauses {when}"


def cancel(store: Store, job_id: int) -> str:
    """What happened: the engine was asked to stop, at once where it was asked before, or the job is cancelled."""
    job = jobs.get(store, job_id)
    if job is None:
        return f"there is no job {job_id}"
    if jobs.alive(job):
        again = job_id in jobs.stopping(store)
        jobs.command(store, job_id, "cancel")
        return f"job {job_id} stops " + ("at once" if again else "at its next batch")
    if jobs.end_unowned(store, job_id, "cancelled"):
        return f"job {job_id} was not running; it is cancelled"
    return f"job {job_id} has already ended ({job.effective_state})"
