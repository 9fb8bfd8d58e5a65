"""How fast the teachers of a run have answered before, in whatever run: what a dry run and a first ETA rest on."""

from collections.abc import Sequence
from dataclasses import replace

from engine.config.run_file import Run
from engine.registry import models as described
from storage import registry, speeds
from storage.records import Model
from storage.speeds import Speed
from storage.store import Store

BESIDE = ("device", "dtype", "batch_tokens", "adapter", "base_url", "server")
"""Options that a model's speed depends on."""


def measured(store: Store, teachers: Sequence[Model]) -> dict[str, Speed]:
    """Teacher → the speed of its model in this store; what has not answered yet is left out.

    Of its own responses where it has some: those asked for with its system prompt and sampling. Else of those of
    the same model with other settings that has the most, which tell how fast a token comes, not how many there are.
    """
    known = registry.models(store, "teacher", archived=True, superseded=True)
    found: dict[str, Speed] = {}
    for teacher in teachers:
        choice: list[tuple[bool, int, int, Speed]] = []
        for model in known:
            number = model.id or 0
            if _machine(model) == _machine(teacher) and (speed := speeds.measured(store, number)):
                alike = (model.system, model.sampling) == (teacher.system, teacher.sampling)
                speed = replace(speed, of="" if model.name == teacher.name else model.name, alike=alike)
                choice.append((alike, speed.answers, number, speed))
        if choice:
            found[teacher.name] = max(choice, key=lambda one: one[:3])[3]
    return found


def of_run(store: Store, run: Run) -> dict[str, Speed]:
    """The same of the teachers of a run file."""
    return measured(store, [described.teacher(config, run.generation) for config in run.teachers])


def _machine(model: Model) -> tuple[object, ...]:
    return (
        model.backend,
        model.model,
        model.revision,
        *(str(model.options.get(name) or "") for name in BESIDE),
    )
