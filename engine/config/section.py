"""What every part of the run file has in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.base.suggest import nearest

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What numpy and torch both take."""


class Section(BaseModel):
    """A part of the run file: frozen, and unknown keys are refused with the nearest valid one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        unknown = [str(key) for key in data if key not in cls.model_fields]
        if unknown:
            problems = []
            for key in unknown:
                guess = nearest(key, cls.model_fields)
                hint = f"; did you mean `{guess}`?" if guess else ""
                problems.append(f"unknown key `{key}`{hint} Valid keys: {', '.join(cls.model_fields)}")
            raise ValueError("; ".join(problems))
        return data


def known(what: str, value: str, valid: tuple[str, ...]) -> str:
    """The value, when it is valid.

    Raises:
        ValueError: it is not; the message names the nearest valid one.
    """
    if value not in valid:
        guess = nearest(value, valid)
        hint = f"did you mean `{guess}`? " if guess else ""
        raise ValueError(f"unknown {what} `{value}`; {hint}Valid: {', '.join(valid)}")
    return value
