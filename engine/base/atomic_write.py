"""A file that appears whole, under a name that nothing had before."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from engine.base.durable_files import sync
from engine.base.errors import ConfigError


def write(out: Path, fill: Callable[[Path], object]) -> None:
    """Makes the file `out` (0600) of what `fill` writes to the path it is given.

    Raises:
        ConfigError: `out` exists or is a symbolic link, its folder does not exist, or it cannot be written.
    """
    refuse(out)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent)  # 0600
        temporary = Path(name)
        try:
            os.close(handle)
            fill(temporary)
            flush(temporary)
            _publish(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
        flush(out.parent)
    except OSError as error:
        raise failed(out, error) from error


def refuse(out: Path) -> None:
    """Raises ConfigError when something has this name, or its folder does not exist."""
    if out.is_symlink() or out.exists():
        raise _exists(out)
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent}: no such folder", "make it first, or choose another")


def failed(out: Path, error: OSError) -> ConfigError:
    """The error to raise when `out` could not be written."""
    if isinstance(error, FileExistsError):
        return _exists(out)
    return ConfigError(f"{out}: cannot be written: {error.strerror}", "choose another place")


def flush(path: Path) -> None:
    """Puts a file, or a folder's entries, on the disk, as far as it may be opened."""
    with suppress(PermissionError):  # a folder that may be written to but not opened
        sync(path)


def _publish(temporary: Path, out: Path) -> None:
    """Gives the file its name, and fails where something has that name: a plain rename would overwrite it."""
    try:
        os.link(temporary, out)
    except FileExistsError:
        raise
    except OSError:  # a filesystem without hard links
        refuse(out)
        temporary.rename(out)


def _exists(out: Path) -> ConfigError:
    kind = "a symbolic link" if out.is_symlink() else "there already"
    return ConfigError(f"{out} is {kind}", "choose a new name; nothing is overwritten")
