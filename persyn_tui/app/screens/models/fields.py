"""The fields of a model's form: those of its role and kind, what they begin with, and the settings that they make."""

import os
import re
from collections.abc import Container, Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final

from engine.base.plugins import TEACHERS
from engine.config.kinds import TeacherKind, teacher_kind
from engine.config.models import TeacherConfig
from engine.config.setting import Setting
from engine.registry import model_settings
from engine.registry.models import as_entry, sampling
from engine.registry.register import ROLES
from engine.zoo import resolve
from persyn_tui.app.widgets import setting_fields
from persyn_tui.app.widgets.form_fields import Choice, Entry, Paths
from storage.records import Model, Role

USUAL_KIND: Final[str] = TeacherConfig.model_fields["backend"].default
"""The kind of a student, and of a new teacher."""


def kept(model: Model | None) -> dict[str, Any]:
    """The model's entry in a run file; empty for a new one."""
    return {} if model is None else as_entry(model) | {"backend": model.backend, "sampling": sampling(model)}


def known(role: Role, kind: str) -> dict[str, Setting]:
    """The settings that the form shows. Responses of elsewhere are in the files of a run: no form can name both."""
    found = model_settings.of_kind(role, kind if kind in TEACHERS.names() else USUAL_KIND)
    if "backend" in found:
        kinds = tuple(name for name in TEACHERS.usable() if name == kind or teacher_kind(name).generates)
        found["backend"] = replace(found["backend"], choices=kinds)
    return found


def declared(kind: str) -> TeacherKind:
    """What the kind declares; the usual one where its package is not installed here, which saving says."""
    return teacher_kind(kind if kind in TEACHERS.names() else USUAL_KIND)


def entries(model: Model | None) -> list[Entry]:
    """The fields to begin with. Role and name of a model that is edited stay as they are."""
    begun, stays = kept(model), {} if model is None else {"role": "stays; a adds another", "name": "stays"}
    role: Role = "teacher" if model is None else model.role
    made = [Entry("role", "role", Choice(ROLES, role))]
    made += [field(one, begun) for one in known(role, begun.get("backend", USUAL_KIND)).values()]
    if role == "student":  # it may become a teacher
        made.append(field(known("teacher", USUAL_KIND)["backend"], begun))
    for one in made:
        one.hint, one.disabled = stays.get(one.key, one.hint), one.key in stays
        one.say()
    return made


def field(one: Setting, begun: Mapping[str, Any]) -> Entry:
    """The field of a setting of the model whose entry is `begun`."""
    words = [f"zoo:{name}" for name in resolve.names()] if one.key == "model" else []
    paths = Paths(words) if one.key in ("model", "adapter") else None
    return setting_fields.entry(one, setting_fields.at(begun, one.place), paths, tall=one.key == "system")


def entry_of(
    values: Mapping[str, str], shown: Mapping[str, Setting], begun: Mapping[str, Any]
) -> dict[str, Any]:
    """A run file's entry from the values of the shown fields, on top of what the form does not show.

    Settings of another kind than the chosen one are left out: it would refuse them.
    """
    entry = deepcopy(dict(begun))
    before = entry.get("backend", USUAL_KIND)
    if before != values.get("backend", USUAL_KIND):
        for key in (*declared(before).settings.model_fields, "revision"):
            entry.pop(key, None)
    for one in shown.values():
        there = setting_fields.at(entry, one.place)
        # What was not typed over stays as it is: no line shows every stop text exactly.
        if there is None or values.get(one.key, "") != setting_fields.text(there).strip():
            value = setting_fields.at(setting_fields.filled(values, [one]), one.place)
            setting_fields.put(entry, one.place, value)
    return entry


def missing(entry: Mapping[str, Any]) -> list[str]:
    """Fields that may not be empty and are."""
    needed = ["name"] + ([] if entry.get("adapter") else ["model"])
    if declared(entry.get("backend", USUAL_KIND)).openai_api and not entry.get("api_key_env"):
        needed.append("base_url")  # with a key, OpenAI itself is asked
    return [key for key in needed if not entry.get(key)]


def unset(values: Mapping[str, str]) -> str:
    """A doubt about the key's variable, which this process can no longer see set; empty where there is none."""
    name = values.get("api_key_env", "")
    if not name or os.environ.get(name, "").strip():
        return ""
    return f"▲ not set here: export {name}=…, then start persyn again"


def named(message: str, keys: Container[str]) -> str | None:
    """The first field that a message names, in backticks or before a colon; None where it names none."""
    found: Iterable[tuple[str, str]] = re.findall(r"`(\w+)|([\w.]+): ", message)
    return next((word for pair in found for word in pair if word and word in keys), None)
