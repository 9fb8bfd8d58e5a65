"""A stored run, and its context for looking at what is stored of it: no lease, nothing written, no torch."""

from pydantic import ValidationError

from engine.base.errors import ConfigError
from engine.config.run_file import Run
from engine.job.context import RunContext
from engine.job.progress import Nowhere, Progress
from engine.registry import models
from storage import prompts, registry
from storage.job_records import Job, Lease
from storage.records import Model
from storage.store import Store

NO_LEASE = Lease(job_id=0, epoch=0, owner="")
"""No job has this number, so a write with it is refused."""


def reader(store: Store, run: Run) -> RunContext:
    """The context of a run that has gone at least through its stage `prompts` in this store.

    Raises:
        ConfigError: this store holds nothing of the run, or nothing of it with these settings.
    """
    wanted = [models.teacher(config, run.generation) for config in run.teachers] + [models.student(run)]
    found: list[Model] = []
    for model in wanted:
        stored = registry.find(store, model.role, model.name, models.identity_sha(model))
        if stored is None:
            raise _nothing(store, f"the {model.role} `{model.name}` with these settings")
        found.append(stored)
    context = RunContext(
        run=run,
        store=store,
        lease=NO_LEASE,
        teachers=tuple(found[:-1]),
        student=found[-1],
        progress=Progress(Nowhere()),
    )
    prompt_set = prompts.find_set(store, context.identity.prompt_set_sha)
    if prompt_set is None or not prompt_set.complete:
        raise _nothing(store, "these prompts and splits")
    context.prompt_set = prompt_set.id
    return context


def run_of(job: Job) -> Run:
    """The run of a stored job.

    Raises:
        ConfigError: it is not valid here, as one that another version of this program stored may be.
    """
    try:
        return Run.model_validate(job.spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "its settings"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(
            f"job {job.id} ({job.name}) is of no run that this version knows: "
            f"{where}: {first['msg'].removeprefix('Value error, ')}{more}",
            "make a new job from its run file, mended; what is stored stays and is used again",
        ) from None


def _nothing(store: Store, what: str) -> ConfigError:
    return ConfigError(
        f"{store.name} holds no responses of {what}",
        "run `persyn run FILE --until score` first, or name the store of that run with --store",
    )
