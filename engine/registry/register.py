"""Registering a model by hand: what `persyn models` and the app's form share. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.base.errors import ConfigError
from engine.base.plugins import TEACHERS
from engine.config.kinds import teacher_kind
from engine.config.models import TeacherConfig
from engine.config.paths import RunFolder
from engine.config.stages import GenerationConfig
from engine.models.devices import this_machine
from engine.models.model_info import ModelCheck
from engine.registry import models, run_files
from engine.teachers import teacher_kinds
from storage import registry as stored
from storage.errors import PersynError
from storage.records import Model, Role
from storage.store import Store

ROLES: tuple[Role, ...] = ("teacher", "student")
"""Roles that are registered by hand."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the store already has of a name."""

    before: Model | None
    """Its settings in use until now; None for a new name."""
    same: Model | None
    """The model of exactly the new settings, archived or not, whose responses are used again; None: a new one."""


def is_here(reference: str) -> bool:
    """Whether the reference names a place on this machine, so that looking at it asks no hub."""
    return reference.startswith(("zoo:", "/", ".", "~")) or Path(reference).exists()


def settings(given: Mapping[str, Any], role: str, base: Path) -> TeacherConfig:
    """The settings, validated like a run file's; a folder is taken from `base`, a student is greedy.

    Raises:
        ConfigError: a student with an adapter.
        ValidationError: pydantic's, naming each wrong key.
    """
    entry = dict(given)
    if role == "student":
        if entry.get("adapter"):
            raise ConfigError(
                "a student has no `adapter`", "merge the adapter into its base, and give that folder"
            )
        entry["sampling"] = {"temperature": 0.0, **entry.get("sampling", {})}
    return TeacherConfig.model_validate(entry).located(RunFolder(base))


def fill(wanted: TeacherConfig) -> tuple[TeacherConfig, ModelCheck | None]:
    """(settings with family, size and number format filled in from the model's own files, what those files say).

    None where the backend reads no files here.

    Raises:
        ModelError: the files are not usable.
    """
    found = teacher_kinds.files(models.teacher(wanted, GenerationConfig()))
    if found is None:
        return wanted, None
    update: dict[str, Any] = {}
    if not wanted.family and found.family:
        update["family"] = found.family
    if wanted.parameters is None and found.parameters:
        update["parameters"] = found.parameters
    settled = run_files.teacher(wanted, this_machine())
    if settled.dtype != wanted.dtype:
        update["dtype"] = settled.dtype
    return wanted.model_copy(update=update), found


def described(model: Model) -> Model:
    """The model to be shown: with the family, size and context that its files on this machine say, where it has none.

    The same where nothing can be read. No weights are read, and no hub is asked. Its identity may be another one.
    """
    known = model.backend in TEACHERS.names()  # the package of its kind may be gone
    if not known or not teacher_kind(model.backend).local_files or not is_here(model.model):
        return model
    try:
        found = teacher_kinds.files(model)
    except PersynError:
        return model
    if found is None:
        return model
    return replace(
        model,
        family=model.family or found.family,
        parameters=model.parameters or found.parameters,
        context=model.context or found.context,
    )


def record(wanted: TeacherConfig, role: Role) -> Model:
    """The settings as a model record."""
    made = models.teacher(wanted, GenerationConfig())
    return made if role == "teacher" else replace(made, role=role, price_input=0.0, price_output=0.0)


def known(store: Store, model: Model) -> Known:
    """What the store has of this model's name and settings.

    Raises:
        ConfigError: its backend is not there, or its files are not usable.
    """
    sha = models.identity_sha(model)
    return Known(stored.get(store, model.name, model.role), stored.find(store, model.role, model.name, sha))


def put(store: Store, model: Model) -> Model:
    """The stored model, with its id.

    Raises:
        ConfigError: its backend is not there, or its files are not usable.
    """
    return stored.put(store, model, models.identity_sha(model))


def archive(store: Store, model: Model, archived: bool = True) -> None:
    """Hides a name in its role from listings, or brings it back; its responses stay."""
    # Every setting of the name: an older one must not come forward in place of the archived one.
    for row in stored.models(store, model.role, archived=True, superseded=True):
        if row.name == model.name and row.id is not None:
            stored.archive(store, row.id, archived)
