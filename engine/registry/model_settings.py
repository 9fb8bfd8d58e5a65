"""The settings that a model may have, by role and kind: one source for the app's form and `persyn models add`.

`of_kind` is what a form of one kind shows; `of_role` is what a command line takes, whose `--backend` is not known yet.
Each `Setting` says its dotted key in a run file's entry, its type, the words that it may have, whether it is required,
and in words what it is and what leaving it out means (`about`, `hint`, `nothing`). Kinds of other packages are there
too. Settings that one line of text cannot hold (lists of sections, mappings) are left out.
"""

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Final

from engine.base.plugins import TEACHERS
from engine.config.kinds import TeacherKind, teacher_kind
from engine.config.models import StudentConfig, TeacherConfig
from engine.config.setting import Setting, settings
from engine.config.stages import GenerationConfig
from storage.records import Role

FIRST: Final[tuple[str, ...]] = ("name", "backend", "model")
_OF_RUNS: Final = ("tokens_per_second", "expected_tokens")
"""Keys of a run file's entry for its dry run; a registered model has none of them."""
_OF_STUDENT: Final = {*StudentConfig.model_fields, "sampling"}
"""Keys of the entry of a student. Its sampling is for trials: what a run evaluates is greedy."""


def of_kind(role: Role, kind: str) -> dict[str, Setting]:
    """Every setting of a model of this role and kind, by dotted key, in the order in which a form shows them.

    What `default` and `nothing` say is what leaving it out means for this kind.

    Raises:
        ConfigError: there is no such kind.
    """
    declared = teacher_kind(kind)
    general = {key: one for key, one in _general(role).items() if _has(declared, one.place[0])}
    own = {
        key: _of_kind(one, general.get(key)) for key, one in settings(declared.settings).items() if _fits(one)
    }
    if role == "student":
        own = {key: one for key, one in own.items() if one.place[0] in _OF_STUDENT}
    general |= {
        key: replace(general[key], about=words) for key, words in declared.about.items() if key in general
    }
    return _ordered(general | own, own)


def of_role(role: Role) -> dict[str, Setting]:
    """Every setting of a model of this role, of all kinds that can be imported, by dotted key."""
    general, own, found = _general(role), set[str](), dict[str, Setting]()
    for kind in TEACHERS.usable():
        own |= settings(teacher_kind(kind).settings).keys()
        found = of_kind(role, kind) | found
    return _ordered({key: general.get(key, one) for key, one in found.items()}, own)


def _ordered(found: Mapping[str, Setting], own: Container[str]) -> dict[str, Setting]:
    """What every model needs first, then what kinds have, what all have, and the sections of kinds."""

    def rank(one: Setting) -> int:
        if one.key in FIRST:
            return FIRST.index(one.key) - len(FIRST)
        return (1 if len(one.place) == 1 else 3) if one.key in own else 2

    return {one.key: one for one in sorted(found.values(), key=rank)}


def _general(role: Role) -> dict[str, Setting]:
    shared = settings(GenerationConfig)
    found = {}
    for key, one in settings(TeacherConfig).items():
        if one.place[0] == "sampling":
            default = (
                0.0 if (role, key) == ("student", "sampling.temperature") else shared[one.place[1]].default
            )
            found[key] = replace(one, default=default)
        elif role == "teacher" or one.place[0] in _OF_STUDENT:
            found[key] = one
    return {key: one for key, one in found.items() if _fits(one)}


def _has(kind: TeacherKind, key: str) -> bool:
    """Whether a model of this kind has the general setting."""
    if key == "revision":
        return kind.local_files
    of_some = any(key in teacher_kind(name).settings.model_fields for name in TEACHERS.usable())
    return not of_some or key in kind.settings.model_fields


def _of_kind(own: Setting, general: Setting | None) -> Setting:
    """A kind's setting: what the general one of this key says of its values, and this kind's default."""
    if general is None or own.about == general.about:
        return general or own
    if not own.nothing:
        return general
    about = "; ".join(filter(None, (general.about.partition(";")[0].removesuffix("."), own.about)))
    return replace(general, default=own.default, about=about)


def _fits(one: Setting) -> bool:
    return one.type is not object and one.key not in _OF_RUNS
