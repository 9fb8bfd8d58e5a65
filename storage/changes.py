"""Whether another connection has changed the database: what lets a screen do nothing while nothing happens."""

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from storage.faults import translated
from storage.store import Store


class Changes:
    """Watches one store through a connection of its own; for one thread at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Connection | None = None
        self._version = -1

    def seen(self) -> bool:
        """Whether anything was committed since the last call; True at the first.

        SQLite counts commits of other connections (`PRAGMA data_version`, no page is read). PostgreSQL has
        nothing as cheap, so there the answer is always True.

        Raises:
            StoreMissingError: the database's file was moved, deleted or replaced.
            StoreError: it cannot be read any more.
        """
        self._store.check_file()
        if not self._store.is_sqlite:
            return True
        try:
            if self._connection is None:
                self._connection = self._store.engine.connect()
            with self._connection.begin():
                version: int = self._connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        except SQLAlchemyError as problem:
            self.close()
            raise translated(problem, self._store.name, self._store.path) from problem
        changed, self._version = version != self._version, version
        return changed

    def close(self) -> None:
        """Gives the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
