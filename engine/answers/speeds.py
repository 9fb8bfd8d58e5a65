"""How fast the teachers of a run have answered before, in whatever run: what a dry run and a first ETA rest on."""

from collections.abc import Sequence

from engine.config import Run
from engine.models import registry as described
from storage import registry, speeds
from storage.records import Model
from storage.speeds import Speed
from storage.store import Store

BESIDE = ("device", "dtype", "batch_tokens", "adapter", "base_url", "server")
"""Options that a model's speed depends on."""


def measured(store: Store, teachers: Sequence[Model]) -> dict[str, Speed]:
    """Teacher → the speed of its model in this store, the newest measured; what has not answered yet is left out.

    Whatever system prompt and sampling it had: how fast a token comes does not depend on them.
    """
    known = sorted(
        registry.list(store, "teacher", archived=True, superseded=True), key=lambda model: -(model.id or 0)
    )
    found: dict[str, Speed] = {}
    for teacher in teachers:
        alike = (model.id for model in known if model.id and _machine(model) == _machine(teacher))
        speed = next((speed for number in alike if (speed := speeds.measured(store, number))), None)
        if speed is not None:
            found[teacher.name] = speed
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
