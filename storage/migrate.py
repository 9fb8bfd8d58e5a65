"""Bring a database to the revision this program knows; refuse what it does not know."""

import os
import time
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from storage import locations
from storage.errors import StoreError, StoreVersionError
from storage.migrations import Revisions


def _version(connection: Connection, name: str) -> str | None:
    """The database's revision; None when it is empty."""
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" not in tables:
        if tables:
            raise StoreError(
                f"{name} holds another program's tables", "Name another file or database with --store."
            )
        return None
    row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    if row is None and len(tables) > 1:
        raise StoreError(f"{name} does not say which version it is", "Restore a copy of it.")
    return None if row is None else str(row[0])


def is_current(connection: Connection, revisions: Revisions, name: str) -> bool:
    """True when there is nothing to do.

    Raises:
        StoreVersionError: the database was written by a newer version.
        StoreError: it is another program's database.
    """
    version = _version(connection, name)
    if version is not None and version not in revisions.order:
        raise StoreVersionError(
            f"{name} is at revision {version}, newer than this program's {revisions.head}",
            "Upgrade persyn (pip install --upgrade persyn), or name another store with --store.",
        )
    return version == revisions.head


def _backup(connection: Connection, path: Path, version: str) -> Path:
    """A copy of the database beside it, by SQLite's online backup; it is whole before it has its name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    copy = path.with_name(f"{path.name}.{version}-{stamp}.backup")
    partial = copy.with_name(copy.name + ".part")
    partial.unlink(missing_ok=True)
    locations.private_file(partial)
    source = connection.connection.driver_connection
    assert source is not None
    target = type(source)(str(partial))
    try:
        # A second connection: the backup of one that is inside a transaction would wait for itself.
        reader = type(source)(str(path))
        try:
            reader.backup(target)
        finally:
            reader.close()
    finally:
        target.close()
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.rename(copy)
    return copy


def upgrade(connection: Connection, revisions: Revisions, path: Path | None, name: str) -> None:
    """Run every missing revision inside the caller's write transaction.

    Args:
        connection: begun for writing, so that of two programs that open an old store one waits.
        revisions: the history to bring it to.
        path: the SQLite file, copied beforehand when it holds data; None for PostgreSQL, which is backed up
            by its operator.
        name: what to call the store in messages.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    if path is None:
        connection.execute(text("SELECT pg_advisory_xact_lock(723110925)"))
    if is_current(connection, revisions, name):
        return
    version = _version(connection, name)
    if path is not None and version is not None:
        _backup(connection, path, version)
    config = Config()
    config.set_main_option("script_location", str(revisions.folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revisions.head)
    except CommandError as problem:
        raise StoreError(
            f"the revision of {name} makes no sense: {problem}", "Restore a copy of it."
        ) from problem
