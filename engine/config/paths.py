"""Paths of a run file, which are taken from the folder that it lies in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.base.errors import ConfigError
from engine.config.section import Section


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run file, and what of the file its parts refer to."""

    base: Path
    imported: tuple[Section, ...] = ()
    """The run's own `imported` prompts, located."""

    def path(self, path: str) -> str:
        """The path, absolute.

        Raises:
            ConfigError: no file system could hold it.
        """
        return str(self._absolute(path))

    def reference(self, ref: str) -> str:
        """A model or data set: a folder absolute; `zoo:NAME` and hub ids as they are."""
        if ref.startswith("zoo:"):
            return ref
        path = self._absolute(ref)
        return str(path) if ref.startswith((".", "/", "~")) or path.exists() else ref

    def _absolute(self, path: str) -> Path:
        try:
            found = (self.base / Path(path).expanduser()).resolve()
            found.exists()  # a name that is too long is noticed only here
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"{path[:200]}: not a usable path: {error}", "correct it in the run file"
            ) from None
        return found
