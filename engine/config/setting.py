"""What the run file's schema says of each setting: for forms, and for the comments of a run file that is written."""

import ast
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.base import plugins
from engine.config.kinds import verifiers

KINDS: Final = {
    "backend": plugins.TEACHERS.names,
    "scorer": plugins.SCORERS.names,
    "strategies": plugins.STRATEGIES.names,
    "source": plugins.SOURCES.names,
    "verifier": verifiers,
}
"""Settings whose words are the names of what can be added."""
_CLAUSE_END = re.compile(r"; |(?<!e\.g)(?<!et al)\. ")
_NOTHING = re.compile(r"\b(?:None|[Ee]mpty): ([^.;]+)")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, which is no section itself."""

    place: tuple[str, ...]
    """The keys that lead to it."""
    title: str
    about: str
    """Its docstring in one line; empty where there is none."""
    type: type
    """`bool`, `int`, `float`, `str`, `tuple` of words, or `object` for anything else."""
    choices: tuple[str, ...]
    """The words that it may have; empty: any."""
    required: bool
    default: Any
    """None where it is required."""
    optional: bool = False
    """It may be null."""
    alone: bool = False
    """Of a `tuple`: one word may stand by itself, without a list around it."""

    @property
    def key(self) -> str:
        """Its place as messages write it: `sampling.top_p`."""
        return ".".join(self.place)

    @property
    def hint(self) -> str:
        """The first clause of what is said of it, that on its absence left out."""
        clauses = (clause for clause in _CLAUSE_END.split(self.about) if not _NOTHING.match(clause))
        first = next(clauses, "").removesuffix(".")
        return first if first[1:2].isupper() else first[:1].lower() + first[1:]

    @property
    def nothing(self) -> str:
        """What leaving it out means: its default, else what its docstring says of None or of an empty one."""
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        if self.default not in (None, "", ()):
            return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
        said = _NOTHING.search(self.about)
        return said[1].replace("`", "") if said else ""


@cache
def settings(section: type[BaseModel]) -> Mapping[str, Setting]:
    """Every setting of a section and of the sections within it, by its dotted key, in the schema's order."""
    found: dict[str, Setting] = {}
    for key, field in section.model_fields.items():
        if (inner := section_of(field)) is None:
            found[key] = _setting(section, key, field)
        else:
            for one in settings(inner).values():
                below = replace(one, place=(key, *one.place))
                found[below.key] = below
    return found


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds; None where it holds something else."""
    kind = field.annotation
    return kind if inspect.isclass(kind) and issubclass(kind, BaseModel) else None


def about(section: type[BaseModel], key: str = "") -> str:
    """The docstring of a section's field in one line, else its description, else the docstring of the section it holds;
    without a key the section's.

    Only the first paragraph; empty where there is none.
    """
    text = section.__doc__ or ""
    if key:
        field = section.model_fields[key]
        owners = [one for one in section.__mro__ if one.__module__ != BaseModel.__module__]
        documented = (_docstrings(one.__module__).get(one.__qualname__, {}) for one in owners)
        text = next((docs[key] for docs in documented if key in docs), "") or field.description or ""
        if not text and (inner := section_of(field)) is not None:
            text = inner.__doc__ or ""
    return " ".join(text.partition("\n\n")[0].split())


def _setting(section: type[BaseModel], key: str, field: FieldInfo) -> Setting:
    kind = field.annotation
    choices: tuple[str, ...] = KINDS[key]() if key in KINDS else ()
    optional = NoneType in _options(kind)
    options = [one for one in _options(kind) if one is not NoneType]
    if options and all(get_origin(one) is Literal for one in options):
        literals = tuple(str(word) for one in options for word in get_args(one))
        # A kind's own key allows its one name, of which a form offers all: `source: imported` of prompts.
        options, choices = [str], literals if len(literals) > 1 else choices or literals
    simple = options[0] if len(options) == 1 and options[0] in (bool, int, float, str) else object
    if set(options) == {int, float}:
        simple = float
    if any(get_origin(one) is tuple and get_args(one)[0] is str for one in options):
        simple = tuple
    return Setting(
        place=(key,),
        title=field.title or key.replace("_", " "),
        about=about(section, key),
        type=simple,
        choices=choices,
        required=field.is_required(),
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        optional=optional,
        alone=simple is tuple and str in options,
    )


def _options(kind: Any) -> tuple[Any, ...]:
    """The types that a union offers, itself where it is none."""
    if get_origin(kind) in (Union, UnionType):
        return tuple(one for option in get_args(kind) for one in _options(option))
    if hasattr(kind, "__metadata__"):  # Annotated
        return _options(get_args(kind)[0])
    return (kind,)


@cache
def _docstrings(module: str) -> Mapping[str, Mapping[str, str]]:
    """Class → field → its docstring. pydantic's own reading of them costs each start of the engine 85 ms."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):  # there is no source to read
        return {}
    return {
        node.name: {
            field.target.id: said.value.value
            for field, said in zip(node.body, node.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant)
            if isinstance(said.value.value, str)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
