"""What `persyn doctor` finds: one record per check."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, ParamSpec

from engine.base.errors import PersynError
from engine.models.model_info import ModelCheck

State = Literal["ok", "warning", "failed"]
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome. What checks gives it without `about`; `check` adds that."""

    about: str
    state: State
    message: str
    remedy: str = ""
    mask: tuple[tuple[str, bool], ...] = ()
    """A training row's tokens with whether each carries loss; only for the check of the mask."""

    @property
    def usable(self) -> bool:
        """Whether what was checked can be worked with, so that checks that need it are worth making."""
        return self.state != "failed"


def ok(message: str) -> Finding:
    """All is well."""
    return Finding("", "ok", message)


def warning(message: str, remedy: str) -> Finding:
    """It works, but not as one may think."""
    return Finding("", "warning", message, remedy)


def failed(message: str, remedy: str) -> Finding:
    """It cannot work."""
    return Finding("", "failed", message, remedy)


def model_files(found: ModelCheck, more: str = "") -> Finding:
    """Where a model's files are; `more` is said of them when they are here."""
    if found.folder is None:
        return warning(
            f"{found.ref} is at the hub and not on this machine", "it is downloaded when it is first used"
        )
    place = Path(found.folder) / found.file
    return ok(f"{found.architecture}, {found.parameters or 0:,} parameters, in {place}{more}")


def check(about: str, action: Callable[P, Finding], *args: P.args, **kwargs: P.kwargs) -> Finding:
    """The action's finding, or a failed one that says what it raised: the other checks must still be made."""
    try:
        found = action(*args, **kwargs)
    except PersynError as error:
        found = failed(error.message, error.remedy)
    except Exception as error:  # a third party's model or driver may raise anything
        first = (str(error).splitlines() or [""])[0]
        found = failed(f"{type(error).__name__}: {first}", "mend what the message names")
    return replace(found, about=about)
