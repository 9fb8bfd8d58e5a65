"""The models that a new run may use: those that are registered, and those of the zoo on this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.base.plugins import TEACHERS
from engine.config.kinds import teacher_kind
from engine.models import model_info
from engine.models.model_info import ModelCheck
from engine.registry import register
from engine.registry.models import as_entry
from engine.zoo import resolve
from storage import registry
from storage.errors import PersynError
from storage.records import Model
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that can be chosen."""

    entry: Mapping[str, Any]
    """Its entry in a run file, as a teacher."""
    origin: str
    """`registered` or `zoo`."""
    parameters: float | None
    context: int | None
    trouble: str = ""
    """Why it cannot be chosen, and what helps; empty where it can."""
    unset: str = ""
    """The variable of its key where that is all the trouble: a run file can name the model, and it cannot run yet."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.origin, str(self.entry["name"])

    @property
    def name(self) -> str:
        """What the run will call it."""
        return str(self.entry["name"])


def candidates(store: Store | None) -> tuple[list[Candidate], list[Candidate]]:
    """(teachers, students): the registered ones, then those of the zoo on this machine; what cannot be used last."""
    teachers = [] if store is None else [_registered(model) for model in registry.models(store, "teacher")]
    students = [] if store is None else [_registered(model) for model in registry.models(store, "student")]
    for name in resolve.names():
        if name == "router" or (found := _of_zoo(name)) is None:
            continue
        for listed in (students,) if name == "student" else (teachers, students):
            if (found.name, found.entry["model"]) not in {(one.name, one.entry["model"]) for one in listed}:
                listed.append(found)
    teachers.sort(key=lambda teacher: bool(teacher.trouble))
    # The zoo's own student is the likeliest one of the zoo.
    students.sort(
        key=lambda student: (bool(student.trouble), student.origin == "zoo", student.name != "student")
    )
    return teachers, students


def _registered(model: Model) -> Candidate:
    entry, context, trouble, unset = as_entry(model), model.context, "", ""
    key = str(entry.get("api_key_env") or "")
    try:
        if model.backend not in TEACHERS.names():
            trouble = f"nothing installed here has the backend `{model.backend}`"
        elif teacher_kind(model.backend).local_files and register.is_here(model.model):
            found = model_info.check(model.model)
            context = context or found.context
            trouble = "" if _generates(found) else "it scores responses and gives none"
    except PersynError as problem:
        trouble = f"{problem.message}: {problem.remedy}"
    if key and key not in os.environ and not trouble:
        unset, trouble = key, f"export {key}=…, then start persyn again"
    return Candidate(entry, "registered", model.parameters, context, trouble, unset)


def _generates(found: ModelCheck) -> bool:
    """Whether a model writes text: a reward model does not."""
    return not found.architecture.endswith(("ForSequenceClassification", "ForTokenClassification"))


def _of_zoo(name: str) -> Candidate | None:
    try:
        found = model_info.check(f"zoo:{name}")
    except PersynError:
        return None  # not fetched yet: `persyn zoo list` says how
    if not _generates(found):
        return None
    entry = {"name": name, "model": f"zoo:{name}", "family": found.family, "parameters": found.parameters}
    return Candidate(entry, "zoo", found.parameters, found.context)
