"""A run file's content to start from: the models that are chosen, and settings that suit them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.base.errors import ConfigError
from engine.base.plugins import SCORERS
from engine.config.kinds import scorer_kind, teacher_kind
from engine.config.models import StudentConfig, TeacherConfig
from engine.config.run_file import Run
from engine.registry.candidates import Candidate, candidates
from storage import registry
from storage.store import Store

PROMPTS: Final[Mapping[str, Any]] = {"source": "reasoning_gym", "task": "chain_sum", "size": 500, "seed": 0}
"""Prompts to begin with: no file is needed for them, and each has a verifier."""
FROM_FILES: Final = [
    'Of a file with a JSON object on each line, such as {"prompt": "…", "answer": "…"}:',
    "- {source: jsonl, path: prompts.jsonl, verifier: text}  (the answer is compared as words; also math, choice)",
    "- {source: jsonl, path: questions.jsonl, fields: {prompt: question, answer: solution}, verifier: math}",
]
"""Comments on prompts of one's own."""
SETTINGS: Final[Mapping[str, Any]] = {
    "name": Run.model_fields["name"].default,
    "split": {"calibration": 100, "validation": 50, "evaluation": 200},
    "reward": {"alpha": 0.4},
    "distill": {"epochs": 2},
    "strategies": ["persyn", "random"],
}
"""Other settings to begin with: those that a person is most likely to change."""
LEAST: Final = 2
"""Teachers that a router chooses among."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that the registry lacks, or that cannot be used."""

    what: str
    remedy: str


@dataclass(slots=True)
class Start:
    """A run file to go on from, and what was missing for it."""

    data: dict[str, Any]
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Key of the run file → what may stand there instead."""
    missing: list[Missing] = field(default_factory=list)


def from_store(store: Store | None) -> Start:
    """A run of the registered models; where there are none the zoo's stand in for them.

    Raises:
        ConfigError: there is no model at all that can be used.
    """
    teachers, students = candidates(store)
    missing: list[Missing] = []
    for one in teachers:
        if one.unset:
            what, remedy = f"the key of teacher {one.name} is not set", f"export {one.unset}=… before the run"
            missing.append(Missing(what, remedy))
        elif one.trouble:
            what, remedy = f"teacher {one.name} is left out: {one.trouble}", "mend it, and write a new one"
            missing.append(Missing(what, remedy))
    chosen, taught = _chosen("teacher", teachers, missing), _chosen("student", students, missing)
    if len(chosen) < LEAST:
        alone = f"{chosen[0].name} is the only teacher, and a router chooses among {LEAST} or more"
        missing.append(Missing(f"{alone}: the strategy is `strong`", _ADD.format(role="teacher")))
    start = Start(content(chosen, taught[0]), missing=missing)
    if len(taught) > 1 and taught[0].origin == "registered":
        start.notes["student"] = [f"Also registered: {', '.join(one.name for one in taught[1:])}."]
    start.notes["prompts"] = FROM_FILES
    judges = [] if store is None else registry.models(store, "reward_model")
    for kind in [name for name in SCORERS.usable() if scorer_kind(name).local_model is not None][:1]:
        lines = [f"quality: {{scorer: {kind}, model: '{judge.model}'}}" for judge in judges]
        start.notes["quality"] = [f"For prompts without a verifier: {line}" for line in lines]
    return start


_ADD: Final = "`persyn models add --role {role} --name NAME --model MODEL` registers one"


def _chosen(role: str, among: Sequence[Candidate], missing: list[Missing]) -> list[Candidate]:
    """The registered ones that can be used, else those of the zoo, which is then said in `missing`."""
    usable = [one for one in among if one.unset or not one.trouble]
    if mine := [one for one in usable if one.origin == "registered"]:
        return mine
    remedy = _ADD.format(role=role)
    if not usable:
        raise ConfigError(f"there is no {role} that can be used", remedy)
    missing.append(Missing(f"no {role} is registered: the zoo's stand in the run file", remedy))
    return usable


def content(teachers: Sequence[Candidate], student: Candidate) -> dict[str, Any]:
    """A valid run file of these models, which a person goes on from."""
    alone = {} if len(teachers) >= LEAST else {"strategies": ["strong"]}
    # Registered teachers have limits of their own: then it is the student's alone.
    of_student = len(own_limits(teachers)) == len(teachers)
    return {
        **SETTINGS,
        **models(teachers, student),
        "prompts": [PROMPTS],
        "evaluation" if of_student else "generation": {"max_tokens": usual_limit(teachers)},
        **alone,
    }


def models(
    teachers: Sequence[Candidate], student: Candidate, max_tokens: int | str | None = None
) -> dict[str, Any]:
    """The run file's `student` and `teachers`.

    Args:
        teachers: at least one.
        student: a candidate of any role; what only teachers have is left out.
        max_tokens: takes the place of those of `own_limits`; None keeps them.
    """
    replaced = limits_replaced(max_tokens, teachers)
    return {
        "student": {key: value for key, value in student.entry.items() if key in StudentConfig.model_fields},
        "teachers": [
            {**one.entry, "sampling": {**one.entry["sampling"], "max_tokens": max_tokens}}
            if one.name in replaced
            else dict(one.entry)
            for one in teachers
        ],
    }


def own_limits(teachers: Sequence[Candidate]) -> dict[str, int]:
    """Teacher → the `max_tokens` that it was registered with, of those that have one and are asked."""
    default = TeacherConfig.model_fields["backend"].default
    return {
        one.name: one.entry["sampling"]["max_tokens"]
        for one in teachers
        if "max_tokens" in one.entry.get("sampling", {})
        and teacher_kind(one.entry.get("backend", default)).generates
    }


def usual_limit(teachers: Sequence[Candidate]) -> int:
    """The `max_tokens` of teachers without one of their own, and of the student: a short context holds prompt and
    response."""
    smallest = min((one.context for one in teachers if one.context), default=2048)
    return smallest * 5 // 8 if smallest < 2048 else 1024


def limits_replaced(max_tokens: int | str | None, teachers: Sequence[Candidate]) -> Mapping[str, int]:
    """Those of `own_limits` that a `max_tokens` for every teacher of the run takes the place of; text where it is no
    number."""
    if max_tokens is None:
        return {}
    return {name: own for name, own in own_limits(teachers).items() if own != max_tokens}
