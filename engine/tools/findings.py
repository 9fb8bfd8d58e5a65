"""What `persyn doctor` finds: one record per check."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.base.errors import PersynError

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome."""

    about: str
    state: State
    message: str
    remedy: str = ""
    mask: tuple[tuple[str, bool], ...] = ()
    """A training row's tokens with whether each carries loss; only for the check of the mask."""


def attempt(about: str, action: Callable[[], Finding]) -> Finding:
    """The action's finding, or a failed one that says what it raised: the other checks must still be made."""
    try:
        return action()
    except PersynError as error:
        return Finding(about, "failed", error.message, error.remedy)
    except Exception as error:  # a third party's model or driver may raise anything
        first = (str(error).splitlines() or [""])[0]
        return Finding(about, "failed", f"{type(error).__name__}: {first}", "mend what the message names")
