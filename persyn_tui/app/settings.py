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


def _interval() -> float:
    return 1.0 if "SSH_CONNECTION" in os.environ else 0.25


class Settings(BaseModel):
    """Settings with their defaults."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    theme: str = "textual-dark"
    interval: float = Field(default_factory=_interval, ge=0.1, le=10)
    """Seconds between two looks at the store: 0.25, over SSH 1."""
    keys: dict[str, str] = Field(default_factory=dict)
    """Binding id → keys, comma-separated; ids are what `?` and the screen 7 list."""

    _unread: str = PrivateAttr("")
    """Why the file could not be used, where these are the defaults in its place."""

    @property
    def unread(self) -> str:
        """Why these are the defaults and not what the file says; empty where the file was read, or there is none."""
        return self._unread

    def keymap(self) -> dict[str, str]:
        """The keys that differ from the defaults.

        Raises:
            SettingsError: a key that never reaches the app.
        """
        for binding, keys in self.keys.items():
            for key in keys.split(","):
                if key.strip() in TAKEN:
                    raise SettingsError(
                        f"{settings_path()}: keys.{binding}: {key.strip()} belongs to the terminal or to tmux",
                        f"choose a key other than {', '.join(TAKEN)}",
                    )
        return dict(self.keys)

    @classmethod
    def load(cls) -> "Settings":
        """The settings of the file; the defaults where there is none.

        Raises:
            SettingsError: the file is not valid, or holds a key that never reaches the app.
        """
        path = settings_path()
        try:
            found = cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        except (OSError, ValueError, ValidationError) as problem:
            first: Any = problem.errors()[0] if isinstance(problem, ValidationError) else None
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(problem)
            raise SettingsError(f"{path}: {what}", f"mend it, or delete {path} for the defaults") from None
        found.keymap()
        return found

    @classmethod
    def load_or_default(cls) -> "Settings":
        """As `load`; of a file that cannot be used the defaults, with the reason in `unread`."""
        try:
            return cls.load()
        except SettingsError as problem:
            found = cls()
            found._unread = str(problem)
            return found

    def save(self) -> None:
        """Writes the file, whole or not at all.

        Raises:
            SettingsError: there is a file that could not be used: what it says would be lost.
        """
        path = settings_path()
        if self._unread:
            raise SettingsError(f"{path} could not be read and is not overwritten", f"mend or delete {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        data = self.model_dump(exclude_defaults=True)
        part.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
