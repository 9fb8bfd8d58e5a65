"""What an operator sets once: theme, keys, how often the store is looked at. One JSON file, written by the app."""

import json
import os
from pathlib import Path
from typing import Any

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from storage.errors import PersynError

TAKEN = ("ctrl+b", "ctrl+s", "ctrl+j", "ctrl+o", "ctrl+m", "ctrl+i", "ctrl+c", "ctrl+z")
"""Keys that tmux, flow control or the terminal keep for themselves."""


class SettingsError(PersynError):
    """The settings file cannot be used."""

    exit_code = 2


def settings_path() -> Path:
    """Where the settings lie."""
    return user_config_path("persyn") / "settings.json"


class Settings(BaseModel):
    """Settings with their defaults."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    theme: str = "textual-dark"
    interval: float = Field(
        default_factory=lambda: 1.0 if "SSH_CONNECTION" in os.environ else 0.25, ge=0.1, le=10
    )
    """Seconds between two looks at the store: 0.25, over SSH 1."""
    keys: dict[str, str] = Field(default_factory=dict)
    """Binding id → keys, comma-separated; ids are what `?` and the screen 7 list."""

    _faults: list[str] = PrivateAttr(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """A line for each thing in the file that cannot be used; of each the default holds."""
        return self._faults

    @classmethod
    def load(cls) -> "Settings":
        """The settings of the file, as far as it is valid; the defaults where there is none.

        What cannot be used is in `faults`.
        """
        path = settings_path()
        try:
            data = _content(path)
        except SettingsError as problem:
            found = cls()
            found._faults = [str(problem).removeprefix(f"{path}: ")]
            return found
        faults: list[str] = []
        while True:
            try:
                found = cls.model_validate(data)
                break
            except ValidationError as problem:
                for fault in problem.errors():
                    place = fault["loc"]
                    faults.append(f"{'.'.join(map(str, place))}: {_words(fault['type'], fault['msg'])}")
                    within, name = (data["keys"], place[1]) if len(place) > 1 else (data, place[0])
                    within.pop(str(name), None)
        found._faults = faults
        return found

    def save_theme(self) -> None:
        """Writes the theme into the file, whole or not at all; what else it says stays, right or wrong.

        Raises:
            SettingsError: there is a file that cannot be read: what it says would be lost.
        """
        path = settings_path()
        try:
            data = _content(path)
        except SettingsError:
            raise SettingsError(
                f"{path} could not be read and is not overwritten", f"mend or delete {path}"
            ) from None
        data["theme"] = self.theme
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        part.replace(path)


def _content(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where there is none.

    Raises:
        SettingsError: it is no JSON object, or cannot be read.
    """
    hint = f"mend it, or delete {path} for the defaults"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as problem:
        raise SettingsError(f"{path}: {problem}", hint) from None
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: not a JSON object", hint)
    return data


def _words(kind: str, said: str) -> str:
    return "no such setting" if kind == "extra_forbidden" else said.removeprefix("Input ").lower()
