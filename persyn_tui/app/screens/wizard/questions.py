"""What the new-job form asks: settings of the run file, of its prompts' source, and of the kinds that are chosen."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from textual.suggester import Suggester

from engine.base.plugins import SCORERS, SOURCES, STRATEGIES
from engine.config.kinds import scorer_kind, source_kind
from engine.config.run_file import Run
from engine.config.setting import Setting, settings
from engine.methods import strategy_kinds
from engine.registry import new_run
from engine.registry.candidates import Candidate
from engine.sources.tables import FileSource
from persyn_tui.app.widgets import setting_fields
from persyn_tui.app.widgets.form_fields import Entry, Line, Paths, Place, Words, path_of, words

HEAD: Final = (
    "# Made by the new-job form. Settings behind a # have these values already; take it away to change one.\n"
)
SOURCE, TASK, PATH, SIZE = "prompts.source", "prompts.task", "prompts.path", "prompts.size"
VERIFIER, SCORER, LONGEST = "prompts.verifier", "quality.scorer", "generation.max_tokens"
FILE: Final = "file"
"""The field of the file that the form writes."""
ALWAYS: Final = (
    *("split.calibration", "split.validation", "split.evaluation", "split.synthesis", "strategies"),
    *("reward.alpha", LONGEST, "distill.epochs", "name"),
)
"""Settings of the run file that every job is asked for."""
WORDS: Final = {
    SOURCE: ("prompts from", "← → change it"),
    TASK: ("tasks", "with commas, tab completes"),
    VERIFIER: ("verified as", "chosen by the file's answers, ← → change it"),
}
"""Titles and hints that tell how the form works, and not what the setting is."""
NONE: Final = "none"


def asked(source: str, strategies: Iterable[str], scorers: Iterable[str]) -> dict[str, Setting]:
    """The settings that are asked for, by dotted key, when these are chosen; those of prompts are under `prompts`."""
    run = settings(Run)
    own = [one.key for name in strategies for one in strategy_kinds.load(name).settings]
    of_scorers = {
        f"quality.{key}": replace(one, place=("quality", *one.place))
        for name in scorers
        for key, one in settings(scorer_kind(name).settings).items()
    }
    usable = tuple(name for name in SCORERS.usable() if not scorer_kind(name).of_student)
    found = {
        **_prompts(source),
        **{key: run[key] for key in (*ALWAYS[:5], *own)},
        SCORER: replace(run[SCORER], choices=usable),
        **of_scorers,
        **{key: run[key] for key in ALWAYS[5:]},
    }
    return {key: _worded(one) for key, one in found.items() if one.type is not object}


def _prompts(source: str) -> dict[str, Setting]:
    found = [
        replace(one, place=("prompts", *one.place)) for one in settings(source_kind(source).settings).values()
    ]
    return {one.key: one for one in sorted(found, key=_rank)}


def _rank(one: Setting) -> int:
    """Of the prompts: their source, what it cannot do without, its others, its columns, and where they all go."""
    if one.key in (SOURCE, TASK, PATH):
        return 0 if one.key == SOURCE else 1
    return 4 if one.key == "prompts.split" else len(one.place)


def _worded(one: Setting) -> Setting:
    title, about = WORDS.get(one.key, (one.title, one.about))
    if one.optional and one.choices:
        return replace(
            one, title=title, about=about, choices=(NONE, *one.choices), optional=False, default=NONE
        )
    return replace(one, title=title, about=about)


def chosen(values: Mapping[str, str]) -> dict[str, Setting]:
    """The settings that are asked for when the fields have these values."""
    strategies = [name for name in words(values["strategies"]) if name in STRATEGIES.names()]
    return asked(values[SOURCE], strategies, [values[SCORER]])


def of_file(source: str) -> bool:
    """Whether the prompts are the rows of one file."""
    return issubclass(source_kind(source).settings, FileSource)


def begun(one: Setting) -> Any:
    """What a field begins with; None: nothing."""
    if one.key == TASK:
        return None
    return setting_fields.at({**new_run.SETTINGS, "prompts": new_run.PROMPTS}, one.place)


def needed(one: Setting) -> bool:
    """Whether the field may not be empty: an empty one would take a default that nobody sees."""
    return one.required or (begun(one) is not None and not one.optional)


def entries() -> list[Entry]:
    """The fields to begin with."""
    first = asked(new_run.PROMPTS["source"], new_run.SETTINGS["strategies"], [settings(Run)[SCORER].default])
    yaml = Paths(suffixes=(".yaml", ".yml"))
    made = [field(one) for one in first.values()]
    line = Line(file_of(new_run.SETTINGS["name"]), "", yaml)
    return [*made, Entry(FILE, "write to", line, "the run file this form makes")]


def file_of(name: str) -> str:
    """The run file of a run of this name: `gsm-8k.yaml` of `gsm 8k`."""
    return (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run") + ".yaml"


def field(one: Setting) -> Entry:
    """The field of a setting."""
    suggester: Suggester | None = None
    if one.key in (TASK, "strategies"):
        suggester = Words(one.choices)
    elif one.key == PATH:
        suggester = Paths(suffixes=tuple(f".{name}" for name in SOURCES.usable() if of_file(name)))
    return setting_fields.entry(one, begun(one), suggester)


def run_file(
    values: Mapping[str, str], known: Mapping[str, Setting], teachers: Sequence[Candidate], student: Candidate
) -> dict[str, Any]:
    """The run file's content, of the settings that are asked for.

    Values are taken as typed: whether they are right, `engine.config.run_file` says.
    """
    data = setting_fields.filled(values, known.values())
    prompts, longest = data.pop("prompts"), data.get("generation", {}).get("max_tokens")
    if of_file(values[SOURCE]):
        # Absolute: the run file may lie in another folder than the operator.
        prompts["path"] = str(path_of(values[PATH]).absolute())
    if TASK in known:
        # One without a name, so that the other fields are checked while there is none.
        several = [{**prompts, "task": task} for task in words(values[TASK]) or [""]]
    else:
        several = [{"path": "", **prompts}]
    return {
        **data,
        **new_run.models(teachers, student, longest),
        "prompts": several,
        "generation": {"max_tokens": new_run.usual_limit(teachers) if longest is None else longest},
    }


def places(values: Mapping[str, str], known: Mapping[str, Setting]) -> dict[Place, str]:
    """Where the run file made of these values keeps each field."""
    first = TASK if TASK in known else PATH
    found: dict[Place, str] = {("prompts",): first}
    for number in range(max(1, len(words(values.get(TASK, ""))))):
        at: Place = ("prompts", number, values[SOURCE])
        found |= {(*at, *one.place[1:]): key for key, one in known.items() if one.place[0] == "prompts"}
        found[at] = first
    return found | {one.place: key for key, one in known.items() if one.place[0] != "prompts"}
