"""A run file from the new-job form: what can be chosen, and the YAML that the choices make."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persyn_tui.app.widgets.form_fields import Place, path_of, words
from storage import registry
from storage.errors import PersynError
from storage.records import Model
from storage.store import Store

if TYPE_CHECKING:
    from engine.models.model_info import ModelCheck

FILES = ("jsonl", "csv", "parquet")
HEAD = "# Made by the new-job form. Every setting that is not named here has its default.\n"
PLACES: dict[Place, str] = {
    ("name",): "name",
    ("split", "calibration"): "calibration",
    ("split", "validation"): "validation",
    ("split", "evaluation"): "evaluation",
    ("split", "synthesis"): "synthesis",
    ("strategies",): "strategies",
    ("reward", "alpha"): "alpha",
    ("generation", "max_tokens"): "max_tokens",
    ("distill", "epochs"): "epochs",
}
"""Where a run file keeps each field; those of the prompts are in `places`."""


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

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.origin, str(self.entry["name"])

    @property
    def name(self) -> str:
        """What the run will call it."""
        return str(self.entry["name"])


def candidates(store: Store) -> tuple[list[Candidate], list[Candidate]]:
    """(teachers, students): the registered ones, then those of the zoo on this machine; what cannot be used last."""
    from engine.zoo import resolve

    teachers = [_registered(model) for model in registry.models(store, "teacher")]
    students = [_registered(model) for model in registry.models(store, "student")]
    for name in resolve.names():
        found = None if name == "router" else _of_zoo(name)
        if found is None:
            continue
        if name != "student" and not _listed(found, teachers):
            teachers.append(found)
        if not _listed(found, students):
            students.append(found)
    teachers.sort(key=lambda teacher: bool(teacher.trouble))
    # The zoo's own student is the likeliest one of the zoo.
    students.sort(
        key=lambda student: (bool(student.trouble), student.origin == "zoo", student.name != "student")
    )
    return teachers, students


def _registered(model: Model) -> Candidate:
    from engine.config.kinds import teacher_kind
    from engine.models import model_info
    from engine.registry import register
    from engine.registry.models import as_entry

    context, trouble = model.context, ""
    if teacher_kind(model.backend).local_files and register.is_here(model.model):
        try:
            found = model_info.check(model.model)
            context = context or found.context
            trouble = "" if _answers(found) else "it rates answers and gives none"
        except PersynError as problem:
            trouble = f"{problem.message}: {problem.remedy}"
    key = str(as_entry(model).get("api_key_env") or "")
    if key and key not in os.environ:
        trouble = f"export {key}=…, then start persyn again"
    return Candidate(as_entry(model), "registered", model.parameters, context, trouble)


def _answers(found: "ModelCheck") -> bool:
    """Whether a model writes text: a reward model does not."""
    return not found.architecture.endswith(("ForSequenceClassification", "ForTokenClassification"))


def _of_zoo(name: str) -> Candidate | None:
    from engine.models import model_info

    try:
        found = model_info.check(f"zoo:{name}")
    except PersynError:
        return None  # not fetched yet: `persyn zoo list` says how
    if not _answers(found):
        return None
    entry = {"name": name, "model": f"zoo:{name}", "family": found.family, "parameters": found.parameters}
    return Candidate(entry, "zoo", found.parameters, found.context)


def _listed(found: Candidate, others: Sequence[Candidate]) -> bool:
    return any(found.name == other.name and found.entry["model"] == other.entry["model"] for other in others)


def places(values: Mapping[str, str]) -> dict[Place, str]:
    """Where the run file made of these values keeps each field."""
    task = "tasks" if values["source"] == "reasoning_gym" else "path"
    found: dict[Place, str] = {("prompts",): task}
    for number in range(max(1, len(words(values.get("tasks", ""))))):
        for kind in ("reasoning_gym", *FILES):
            at: Place = ("prompts", number, kind)
            found |= {(*at, "size"): "size", (*at, "seed"): "seed", (*at, "verifier"): "verifier", at: task}
    return PLACES | found


def run_file(values: Mapping[str, str], teachers: Sequence[Candidate], student: Candidate) -> dict[str, Any]:
    """The run file's content. Values are taken as typed: whether they are right, `engine.config.run_file` says."""
    longest = _number(values["max_tokens"]) if values["max_tokens"] else usual_limit(teachers)
    replaced = limits_replaced(values["max_tokens"], teachers)
    data: dict[str, Any] = {
        "name": values["name"],
        "student": {key: value for key, value in student.entry.items() if key not in TEACHER_ONLY},
        "teachers": [
            _limited(teacher.entry, longest) if teacher.name in replaced else dict(teacher.entry)
            for teacher in teachers
        ],
        "prompts": _sources(values),
        "split": {
            key: _number(values[key])
            for key in ("calibration", "validation", "evaluation", "synthesis")
            if values[key]
        },
    }
    if values["alpha"]:
        data["reward"] = {"alpha": _number(values["alpha"])}
    data["generation"] = {"max_tokens": longest}
    if values["epochs"]:
        data["distill"] = {"epochs": _number(values["epochs"])}
    data["strategies"] = words(values["strategies"])
    return data


def own_limits(teachers: Sequence[Candidate]) -> dict[str, int]:
    """Teacher → the `max_tokens` that it was registered with, of those that have one and are asked."""
    from engine.config.kinds import teacher_kind

    return {
        teacher.name: teacher.entry["sampling"]["max_tokens"]
        for teacher in teachers
        if "max_tokens" in teacher.entry.get("sampling", {})
        and teacher_kind(teacher.entry.get("backend", "transformers")).generates
    }


def usual_limit(teachers: Sequence[Candidate]) -> int:
    """The `max_tokens` of teachers without one of their own, and of the student: a short context holds prompt and
    answer."""
    smallest = min((one.context for one in teachers if one.context), default=2048)
    return smallest * 5 // 8 if smallest < 2048 else 1024


def limits_replaced(typed: str, teachers: Sequence[Candidate]) -> dict[str, int]:
    """Those of `own_limits` that the field's value takes the place of: it holds for every teacher of the run."""
    if not typed:
        return {}
    return {name: own for name, own in own_limits(teachers).items() if own != _number(typed)}


def _limited(entry: Mapping[str, Any], longest: int | float | str) -> dict[str, Any]:
    return {**entry, "sampling": {**entry["sampling"], "max_tokens": longest}}


TEACHER_ONLY = ("backend", "sampling", "price", "base_url", "api_key_env", "endpoint", "server")


def _sources(values: Mapping[str, str]) -> list[dict[str, Any]]:
    if values["source"] == "reasoning_gym":
        return [
            {"source": "reasoning_gym", "task": task}
            | {key: _number(values[key]) for key in ("size", "seed") if values[key]}
            # One without a name, so that the other fields are checked while there is none.
            for task in words(values["tasks"]) or [""]
        ]
    # Absolute: the run file may lie in another folder than the operator.
    source: dict[str, Any] = {
        "source": values["source"],
        "path": str(path_of(values["path"]).absolute()),
    }
    if values["verifier"] != "none":
        source["verifier"] = values["verifier"]
    return [source | ({"size": _number(values["size"])} if values["size"] else {})]


def _number(text: str) -> int | float | str:
    """The number that YAML is to hold; what is none stays text, for the validation to name."""
    for kind in (int, float):
        try:
            return kind(text.replace(",", ""))
        except ValueError:
            continue
    return text


def to_yaml(data: Mapping[str, Any]) -> str:
    """The run file's text."""
    import yaml

    return HEAD + yaml.safe_dump(
        _plain(data), sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )


def _plain(value: Any) -> Any:
    """Tuples as lists, and whole numbers of weights without a fraction."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and value >= 1e3:
        return int(value)
    return value


def write(path: Path, text: str) -> None:
    """Writes the run file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
