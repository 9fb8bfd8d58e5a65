"""From a driver's exception to the project's own error with a remedy."""

import errno
import shutil
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from storage.errors import DiskFullError, PersynError, StoreBusyError, StoreError, StoreLostError

SQLITE_BUSY = 5
_LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 6, 8, 10, 11, 13, 14, 26
_SAID: dict[int | None, tuple[str, str]] = {
    _NOTADB: ("is not a database", "Name another file with --store."),
    _CORRUPT: ("is damaged: {}", "Restore a copy, or recover it with: sqlite3 FILE .recover"),
    _CANTOPEN: (
        "cannot be opened: {}",
        "Check the owner and mode of the file, of its folder, and of the -wal and -shm files beside it.",
    ),
    _READONLY: ("cannot be written: {}", "Check the owner and mode of the file and of its folder."),
}
_PG_LOCK = {"55P03", "40001", "40P01"}
_NEARLY_FULL_BYTES = 1 << 20


def _code(problem: Exception) -> int | None:
    code = getattr(getattr(problem, "orig", None), "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _sqlstate(problem: Exception) -> str:
    return getattr(getattr(problem, "orig", None), "sqlstate", None) or ""


def is_lock(problem: Exception) -> bool:
    """True when another writer held a lock."""
    return _code(problem) in (SQLITE_BUSY, _LOCKED) or _sqlstate(problem) in _PG_LOCK


def is_lost(problem: Exception) -> bool:
    """True when the database server has ended the connection, or takes none now."""
    ended = isinstance(problem, DBAPIError) and problem.connection_invalidated
    return ended or _sqlstate(problem).startswith(("08", "57P"))


def lost(name: str) -> StoreLostError:
    """The error of a database server that went away, or is not back."""
    return StoreLostError(
        f"the connection to {name} was lost", "Check the server, then run the same command again."
    )


def _no_space(problem: Exception, path: Path | None) -> bool:
    if _code(problem) == _FULL or _sqlstate(problem) == "53100":
        return True
    if getattr(getattr(problem, "orig", None), "errno", None) == errno.ENOSPC:
        return True
    # Growing the shared-memory file of the log reports a plain I/O error when the disk is full.
    return (
        _code(problem) == _IOERR
        and path is not None
        and shutil.disk_usage(path.parent).free < _NEARLY_FULL_BYTES
    )


def translated(problem: Exception, name: str, path: Path | None) -> PersynError:
    """The error to raise in place of a driver's.

    Args:
        problem: what SQLAlchemy raised, or the OverflowError of SQLite's driver.
        name: the store, as a message may show it.
        path: the SQLite file; None for PostgreSQL.
    """
    if isinstance(problem, OverflowError):
        return StoreError(
            f"{name} holds no number that large: {problem}", "Give a number that a listing shows."
        )
    origin = getattr(problem, "orig", None)
    if isinstance(origin, PersynError):
        return origin
    if _no_space(problem, path):
        return DiskFullError(
            f"no space is left for {name}",
            "Free some space and run the same command again: everything committed is intact.",
        )
    if is_lock(problem):
        return StoreBusyError(
            f"another program has kept {name} locked",
            "Close what holds it (another job, a backup, a database browser), then run again.",
        )
    if (code := _code(problem)) in _SAID:
        what, remedy = _SAID[code]
        return StoreError(f"{name} {what.format(origin)}", remedy)
    if is_lost(problem):
        return lost(name)
    detail = str(origin or problem).strip().splitlines()
    return StoreError(f"{name} refused a statement: {detail[0] if detail else type(problem).__name__}")
