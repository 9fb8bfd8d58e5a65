"""What a run has stored before its first stage ends: its models and its prompts."""

from collections.abc import Sequence

from engine.config.run_file import Run
from engine.job.identity import prompt_set_sha
from engine.registry import models
from storage import prompts
from storage import registry as stored_models
from storage.records import Prompt
from storage.store import Store


def store_run(store: Store, run: Run, members: Sequence[Prompt]) -> list[int]:
    """Registers the run's models and stores its prompts; the prompts' ids."""
    for model in [*(models.teacher(config, run.generation) for config in run.teachers), models.student(run)]:
        stored_models.put(store, model, models.identity_sha(model))
    prompt_set = prompts.open_set(store, prompt_set_sha(run), run.name)
    prompts.add(store, None, prompt_set.id, members, 0)
    prompts.finish_set(store, None, prompt_set.id, {})
    return [prompt.id or 0 for _, prompt in prompts.page(store, prompt_set.id)]
