"""What every part of the run file has in common."""

import operator
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from engine.base import suggest
from engine.base.errors import ConfigError

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What numpy and torch both take."""
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""Number formats of weights; `engine.models.precision` says what `auto` is."""
Ending = Literal["stop", "length", "content_filter", "error"]
"""How a response can have ended."""
_Mark = Annotated[str, Field(min_length=1, max_length=200)]
FinishReasons = Annotated[dict[str, Ending], Field(exclude_if=operator.not_)]
"""More words for how a response ended than are known; in no dump, and so in no hash, where there are none."""
ReasoningMarks = Annotated[tuple[tuple[_Mark, _Mark], ...], Field(exclude_if=operator.not_)]
"""What stands before and after reasoning, beside the marks that are known; in no dump where there are none."""


class Section(BaseModel):
    """A part of the run file: frozen, and unknown keys are refused with the nearest valid one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            refuse_unknown(data, cls.model_fields)
        return data

    @model_validator(mode="after")
    def _storable(self) -> Self:
        for name, value in self:
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(
                    f"`{name}` is a number of {len(str(abs(value)))} digits; no run can be that large"
                )
        return self


Texts = Annotated[
    tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)
]
"""A list of texts, of which one may stand by itself."""

_Section = TypeVar("_Section", bound=Section)


def refuse_unknown(given: Iterable[object], valid: Collection[str], whose: str = "") -> None:
    """Returns when every key is valid.

    Raises:
        ValueError: some are not; the message begins with `whose` and names each with the nearest valid one.
    """
    problems = []
    for key in map(str, given):
        if key not in valid:
            hint = suggest.hint(key, valid)
            problems.append(f"{whose}unknown key `{key}`{hint} Valid keys: {', '.join(valid)}")
    if problems:
        raise ValueError("; ".join(problems))


def known(what: str, value: str, valid: tuple[str, ...]) -> str:
    """The value, when it is valid.

    Raises:
        ValueError: it is not; the message names the nearest valid one.
    """
    if value not in valid:
        raise ValueError(unknown(what, value, valid))
    return value


def unknown(what: str, value: str, valid: tuple[str, ...]) -> str:
    """What is said of a value that is not valid, with the nearest valid one."""
    guess = suggest.nearest(value, valid)
    hint = f"did you mean `{guess}`? " if guess else ""
    return f"unknown {what} `{value}`; {hint}Valid: {', '.join(valid)}"


def checked(
    section: type[_Section], given: Mapping[str, Any], whose: str, word: str, remedy: str
) -> _Section:
    """What is given, as the settings of a kind.

    Args:
        section: the kind's settings.
        given: by key.
        whose: begins the message: "scorer 'judge'".
        word: what a setting is called: "setting", "option".
        remedy: what helps against a wrong value.

    Raises:
        ConfigError: an unknown setting, with the nearest known one, or a wrong one.
    """
    known = section.model_fields
    for key in map(str, given):
        if key not in known:
            raise ConfigError(f"{whose} has no {word} {key!r}", suggest.remedy(key, known))
    try:
        return section.model_validate(dict(given))
    except ValidationError as error:
        raise ConfigError(f"{whose}: {first_problem(error)}", remedy) from None


_SAID: Final[Mapping[str, str]] = {
    "string_pattern_mismatch": "only letters, digits and . : / + - _ may be in it",
    "string_type": "must be text, in quotes where YAML reads something else",
    "tuple_type": "must be a list, e.g. [first, second]",
    "list_type": "must be a list, e.g. [first, second]",
    "dict_type": "must be a mapping of keys, e.g. {key: value}",
    "model_type": "must be a mapping of keys, e.g. {key: value}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number, e.g. 7e9",
}
"""pydantic's type of a problem → what is said of it, where its own words are for programmers."""


def said(problem: Any) -> str:
    """What is wrong with a value, from one of `ValidationError.errors()`."""
    return _SAID.get(problem["type"], str(problem["msg"]).removeprefix("Value error, "))


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a section, after the dotted path of its key where it has one."""
    problem = error.errors(include_url=False)[0]
    where, message = ".".join(map(str, problem["loc"])), said(problem)
    return f"{where}: {message}" if where else message
