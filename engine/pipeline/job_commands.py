"""What an operator does to jobs, for every front end: start, resume, ask again, pace, pause, cancel."""

from typing import Literal

from engine.config.run_file import Run
from engine.job import adapters_of_run, scorer_ids
from engine.job.progress import from_json
from engine.pipeline import launch
from engine.pipeline.run_view import reader, run_of
from storage import datasets, jobs, responses
from storage.errors import StoreError
from storage.job_records import ACTIVE_STATES, Job
from storage.store import Store

LOOKED_AT = 500
"""Jobs among which one that went on from another is looked for, the newest."""
RETRIES = 3
"""Further attempts at a response that ended in an error."""


NextStep = Literal["", "resume", "new", "exclude", "stop", "pause"]


class Refused(StoreError):
    """A command that makes no sense for a job as it is.

    Args:
        message: why.
        remedy: what to do instead, in words that hold for every front end.
        next_step: the same as a name, for a front end that can say how it is done there.
    """

    def __init__(self, message: str, remedy: str = "", next_step: NextStep = "") -> None:
        super().__init__(message, remedy)
        self.next_step = next_step


def start(store: Store, run: Run, until: str | None = None) -> Job:
    """The job of this run, with an engine working on it in the background.

    Raises:
        ConfigError: something in the run cannot work; nothing was stored.
    """
    job, _ = launch.submit(store, run, until=until)
    if not jobs.alive(job):
        launch.detach(store, job)
    return job


def resume(store: Store, job: Job) -> Job:
    """A job that goes on where this one stopped; the same job while it is unfinished.

    Raises:
        Refused: it is running, has gone on as another job, or is done and its datasets are those that it trained on.
    """
    if jobs.alive(job):
        if job.id in jobs.stopping(store):
            raise Refused(f"job {job.id} is stopping", "resume it once it has stopped", "resume")
        raise Refused(f"job {job.id} is running", "there is nothing to go on with")
    if (later := jobs.went_on(jobs.recent(store, limit=LOOKED_AT)).get(job.id)) is not None:
        raise Refused(f"job {job.id} went on as job {later}", "choose that one")
    if job.state == "done":
        _check_outdated(store, job)
    if job.state in ACTIVE_STATES:
        launch.detach(store, job)
        return job
    return start(store, run_of(job), job.until_stage)


def _check_outdated(store: Store, job: Job) -> None:
    """Raises where running a job that is done once more would find everything done."""
    if job.until_stage not in (None, "distill", "evaluate"):
        raise Refused(f"job {job.id} is done: it ends with stage {job.until_stage}", "make a new job", "new")
    if not adapters_of_run.outdated(reader(store, Run.model_validate(job.spec))):
        raise Refused(
            f"job {job.id} is done, and no dataset of it has changed since",
            "exclude rows of a dataset and resume it, to train anew on what is left, or make a new job",
            "exclude",
        )


def retry_failed(store: Store, job: Job) -> Job:
    """A job that asks again for responses and verdicts of this one that ended in an error, `RETRIES` times more each.

    The run is the same but for `generation.max_attempts`, so that everything else is found done.

    Raises:
        Refused: it is running, nothing has failed, or its datasets are built and would not change.
    """
    if jobs.alive(job):
        raise Refused(f"job {job.id} asks again by itself", "wait for it to end, or stop it", "stop")
    run = run_of(job)
    context = reader(store, run)
    failed = responses.counts(store, context.generations, context.prompt_set)
    if not any(row.status == "error" for row in failed) and not scorer_ids.failed(context):
        raise Refused(f"no response and no verdict of job {job.id} ended in an error")
    built = [datasets.find(store, context.identity.dataset_sha(name)) for name in run.strategies]
    if all(dataset is not None and dataset.complete for dataset in built):
        raise Refused(
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
        others = f"; job {', '.join(training)} is: choose that one" if training else ""
        return f"job {job_id} is not training now{others}"
    if job_id in jobs.stopping(store):
        return f"job {job_id} is stopping, at a checkpoint"
    jobs.command(store, job_id, "checkpoint")
    return f"job {job_id} writes a checkpoint after its next step"


def pace(store: Store, job_id: int, teacher: str, *, more: bool) -> str:
    """What happened: the engine was asked to keep twice (else half) as many requests to a teacher in flight.

    Raises:
        Refused: the teacher is not asked through an endpoint now.
    """
    job = jobs.get(store, job_id)
    row = None if job is None else from_json(job.progress).rows.get(teacher)
    if job is None or not jobs.alive(job) or row is None or not row.allowed:
        raise Refused(
            f"no endpoint of `{teacher}` is being asked by job {job_id}",
            "this is for teachers of the kinds openai and vllm, while they answer; the run file's `endpoint: "
            "{concurrency: {start, max}}` is for every time",
        )
    if more and row.allowed >= row.most:
        raise Refused(
            f"`{teacher}` may have {row.allowed:,} requests in flight, as many as the run file allows",
            "raise `endpoint: {concurrency: {max}}` there",
        )
    if not more and row.allowed == 1:
        raise Refused(
            f"`{teacher}` has one request in flight at a time", "pause the job to ask nothing", "pause"
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
