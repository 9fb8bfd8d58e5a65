"""The store: one database, its transactions and the folder of its artefacts.

SQLite runs in WAL with synchronous=FULL; writers begin IMMEDIATE, so a transaction that reads and then
writes cannot be overtaken in between. What is asked of the database lives in the function modules
(`registry`, `prompts`, `responses`, `scores`, `routing`, `datasets`, `results`, `jobs`, `search`).

Some words mean the same in all of them. `lease`: the job's, which a write renews; FencedError is raised, and nothing
stored, once another process has the job. `splits`: only prompts of these, None for all. A page is what comes after
`after…`, the key of the last item already seen, and is at most `limit` items long.
"""

import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self
from urllib.parse import quote

from platformdirs import user_data_path
from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Engine,
    Float,
    RootTransaction,
    Row,
    Select,
    cast,
    create_engine,
    event,
    func,
    literal,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ColumnElement

from storage import locations, migrate
from storage.errors import FencedError, StoreError, StoreMissingError
from storage.faults import SQLITE_BUSY, is_lock, lost, translated
from storage.job_records import Lease
from storage.migrations import SHIPPED, Revisions
from storage.schema import Base, JobRow
from storage.text import dump_json, load_json

AnyRow = Row[*tuple[Any, ...]]
Query = Select[*tuple[Any, ...]]

LOCK_ATTEMPTS = 4
"""How many times the wait for another writer is repeated before the store is called busy."""

RESTART_S = 30.0
"""How long a database server that was reached before is waited for."""
_LOOK_S = 0.2

# 3.51.3 mends a race at the reset of the write-ahead log that can corrupt a database with several writers.
_WAL_RESET_FIXED = (3, 51, 3)
_warned = False

_PRAGMAS = (
    "page_size=8192",  # of a new file: a response of a kilobyte fits without overflow pages
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-32000",
    # 32 MB of log between two copies into the file: the pages of the unique key, rewritten by every batch,
    # are then copied once instead of every fourth batch.
    "wal_autocheckpoint=4000",
)


_ENGINE: dict[str, Any] = {
    "hide_parameters": True,
    "json_serializer": dump_json,
    "json_deserializer": load_json,
    # How many rows of a batch were new is counted by the driver, on both databases.
    "execution_options": {"preserve_rowcount": True},
}


def sqlite_driver() -> ModuleType:
    """pysqlite3 where it is installed, else the standard library's; warns once of a faulty SQLite."""
    global _warned
    try:
        from pysqlite3 import dbapi2 as driver
    except ImportError:
        from sqlite3 import dbapi2 as driver
    if not _warned and driver.sqlite_version_info < _WAL_RESET_FIXED:
        _warned = True
        warnings.warn(
            f"SQLite {driver.sqlite_version} has a known fault in its write-ahead log: two writers may, very "
            "rarely, corrupt the store. Install pysqlite3 0.6 or newer.",
            RuntimeWarning,
            stacklevel=2,
        )
    module: ModuleType = driver
    return module


def _set(cursor: Any, pragma: str, patience_s: float) -> None:
    """Set a pragma. Of programs that turn a new file to WAL at once SQLite refuses all but one, without waiting."""
    until = time.monotonic() + patience_s
    while True:
        try:
            cursor.execute(f"PRAGMA {pragma}")
        except sqlite_driver().OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


_READING = ("query_only=ON", "cache_size=-32000")


def _sqlite_engine(path: Path, busy_timeout_s: float, mode: str = "") -> Engine:
    """The engine of a file; `mode` is `ro` or `immutable` for one that may only be read."""
    url = URL.create("sqlite", database=str(path))
    if mode:
        query = {"uri": "true", "mode": "ro"} | ({"immutable": "1"} if mode == "immutable" else {})
        url = URL.create("sqlite", database=f"file:{quote(str(path))}", query=query)
    engine = create_engine(
        url,
        module=sqlite_driver(),
        connect_args={"isolation_level": None, "timeout": busy_timeout_s, "cached_statements": 256},
        **_ENGINE,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        # In a damaged file there may be text that is no UTF-8: it is read with U+FFFD in its place.
        connection.text_factory = methodcaller("decode", "utf-8", "replace")
        cursor = connection.cursor()
        for pragma in _READING if mode else _PRAGMAS:
            _set(cursor, pragma, busy_timeout_s)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("persyn_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


class Store:
    """An open database.

    Attributes:
        engine: the SQLAlchemy engine.
        path: the SQLite file; None for PostgreSQL.
        folder: where adapters, routers and logs go (0700).
        made: whether there was no file before it was opened.
        read_only: whether file or folder may not be written: then nothing is.
    """

    def __init__(self, engine: Engine, path: Path | None, folder: Path) -> None:
        self.engine = engine
        self.path = path
        self.folder = folder
        self.made = self.read_only = False
        self._connected = False
        """Whether a server has been reached: one that cannot be later is waited for."""
        self._still: tuple[int, int] | None = None
        """Size and time of a file that is read as one that nobody writes; None for others."""
        self._file = _identity(path)
        self._waiting: dict[int, float] = {}
        """Thread → since when it waits for the write lock."""

    @classmethod
    def open(
        cls,
        location: str | Path | None = None,
        *,
        create: bool = True,
        read_only: bool = False,
        busy_timeout_s: float = 30.0,
        revisions: Revisions = SHIPPED,
    ) -> Self:
        """The store at a path or URL, brought to the current version; one that may not be written is opened to read.

        Args:
            location: a path, a `postgresql://` URL, or None for `PERSYN_STORE` or the platform's data folder.
            create: whether a missing SQLite file is made.
            read_only: whether nothing is to be written, not even a newer version of the tables.
            busy_timeout_s: seconds that one attempt waits for another writer.
            revisions: the schema's history.

        Raises:
            StoreVersionError: the database is newer than this program.
            StoreMissingError: there is no store here.
            StoreError: it is no store of this program, or it must not lie here.
        """
        url = locations.parse(location)
        made, mode = False, ""
        if url.get_backend_name() == "postgresql":
            path = None
            folder = user_data_path("persyn") / f"{url.database}.files"
            try:
                engine = create_engine(url, pool_pre_ping=True, **_ENGINE)
                if read_only:
                    engine = engine.execution_options(postgresql_readonly=True)
            except ImportError as problem:
                raise StoreError(
                    "a PostgreSQL store needs the psycopg driver",
                    "Install it with: pip install 'persyn[postgres]'",
                ) from problem
        else:
            path = Path(str(url.database))
            folder = path.with_name(path.name.removesuffix(".db") + ".files")
            locations.refuse_impossible(path)
            locations.refuse_network_filesystem(path)
            if not path.exists() and not create:
                raise StoreMissingError(
                    f"there is no store at {path}",
                    "name another file with --store; `persyn run FILE.yaml` and `persyn models add` make one",
                )
            if path.exists() and not path.is_file():
                raise StoreError(
                    f"{path} is {'a folder' if path.is_dir() else 'no file'}",
                    "name a file in it with --store" if path.is_dir() else "name a file with --store",
                )
            writable = not path.exists() or locations.writable(path)
            asked, read_only = read_only, read_only or not writable
            try:
                if not read_only:
                    locations.private_folder(path.parent)
                    made = locations.private_file(path)
            except OSError as problem:
                raise StoreError(
                    f"the store {path} cannot be created: {problem.strerror}",
                    "Choose a folder that you may write to with --store PATH.",
                ) from problem
            # Without a log beside it nobody has it open; SQLite would make one, of an owner who cannot write it.
            mode = "" if not read_only else "ro" if (asked and writable) or _logged(path) else "immutable"
            engine = _sqlite_engine(path, busy_timeout_s, mode)
        store = cls(engine, path, folder)
        store.made, store.read_only = made, read_only
        if path is not None and mode == "immutable":
            store._still = _stamp(path)
        # A connection made later than the file was moved would make an empty one.
        event.listen(engine, "do_connect", lambda *given: store.check_file())
        try:
            store.migrate(revisions)
            if not read_only:
                locations.private_folder(folder)
                if path is not None:
                    locations.tighten(path)
        except BaseException:
            store.close()
            raise
        return store

    def migrate(self, revisions: Revisions = SHIPPED) -> None:
        """Bring the database to the newest revision: the file is copied first, then one transaction runs."""
        with self.read() as connection:
            if migrate.is_current(connection, revisions, self.name):
                return
        if self.read_only:
            raise StoreError(
                f"the store {self.name} is of an older version, and may only be read",
                "`persyn jobs --store PATH` brings it to this version; of one that may not be written, open a copy.",
            )
        with self.write() as connection:
            migrate.upgrade(connection, revisions, self.path, self.name)

    @property
    def name(self) -> str:
        """What to call this store in a message: the path, or the URL without its password."""
        return str(self.path) if self.path else self.engine.url.render_as_string(hide_password=True)

    @property
    def location(self) -> str:
        """What `Store.open` needs to open this store elsewhere, password included: never print it."""
        return str(self.path) if self.path else self.engine.url.render_as_string(hide_password=False)

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite, False for PostgreSQL."""
        return self.path is not None

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def check_file(self) -> None:
        """Looks whether the file that was opened still lies at its path; on PostgreSQL there is none.

        Raises:
            StoreMissingError: it was moved, deleted or replaced. SQLite would make an empty one in its place.
        """
        if self.path is not None and (found := _identity(self.path)) != self._file:
            what = "is no longer there" if found is None else "has been replaced by another file"
            raise StoreMissingError(
                f"the store {self.path} {what}",
                "put it back, or leave and start again with the store that you want (--store PATH)",
            )
        if self.path is not None and self._still and (_logged(self.path) or _stamp(self.path) != self._still):
            raise StoreError(
                f"another program writes to the store {self.path}, which was opened as one that nobody writes to",
                "leave and start again",
            )

    def check_writable(self) -> None:
        """Looks whether something may be written.

        Raises:
            StoreMissingError: as `check_file`.
            StoreError: the store may only be read.
        """
        if self.read_only:
            raise StoreError(
                f"the store {self.name} may only be read",
                "mend owner and mode of the file and of its folder, or open a copy with --store PATH",
            )
        self.check_file()

    @property
    def waiting_s(self) -> float:
        """Seconds that a write of this process has waited for the lock of another one; 0 when none waits."""
        since = list(self._waiting.values())
        return time.monotonic() - min(since) if since else 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> Connection:
        """A connection; a server that restarts is waited for, `RESTART_S` at most."""
        until = time.monotonic() + RESTART_S
        while True:
            try:
                connection = self.engine.connect()
            except OperationalError as problem:
                if not self._connected:
                    raise
                if time.monotonic() > until:
                    raise lost(self.name) from self._shown(problem)
                time.sleep(_LOOK_S)
            else:
                self._connected = not self.is_sqlite
                return connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection inside a read transaction; on SQLite it sees one state of the database. Keep it short.

        Raises:
            StoreLostError: the server went away before the end of the block, or is not back.
        """
        try:
            with self._connect() as connection, connection.begin():
                yield connection
        except (SQLAlchemyError, OverflowError) as problem:
            raise translated(problem, self.name, self.path) from self._shown(problem)

    @contextmanager
    def write(self, lease: Lease | None = None) -> Iterator[Connection]:
        """A connection inside a write transaction: committed at the end of the block, or nothing is.

        Args:
            lease: the job's lease; it is renewed in the same transaction.

        Raises:
            FencedError: another owner has claimed the job, or it was released.
            StoreMissingError: the file was moved, deleted or replaced: what is written would be lost with it.
            StoreBusyError: another writer kept the lock for `LOCK_ATTEMPTS` waits.
            StoreLostError: the server went away before the end of the block, or is not back.
            DiskFullError: no space is left; nothing of this block was stored.
            StoreError: the store may only be read.
        """
        self.check_writable()
        try:
            with self._connect().execution_options(persyn_write=True) as connection:
                transaction = self._begin_write(connection)
                with transaction:
                    self.check_file()
                    if lease is not None:
                        self._renew(connection, lease)
                    yield connection
        except (SQLAlchemyError, OverflowError) as problem:
            raise translated(problem, self.name, self.path) from self._shown(problem)

    def rows(self, query: Query) -> Sequence[AnyRow]:
        """Every row of a query."""
        with self.read() as connection:
            return connection.execute(query).all()

    def scalars(self, query: Query) -> list[Any]:
        """The first column of every row of a query."""
        with self.read() as connection:
            return list(connection.execute(query).scalars())

    def number(self, query: Query) -> int:
        """The one number that a query gives."""
        with self.read() as connection:
            return int(connection.execute(query).scalar_one())

    def execute(self, statement: UpdateBase, lease: Lease | None = None) -> int:
        """How many rows a statement has changed, in a transaction as `write` gives it."""
        with self.write(lease) as connection:
            return connection.execute(statement).rowcount

    def add(self, table: type[Base], rows: Sequence[Mapping[str, Any]], lease: Lease | None) -> int:
        """How many of the rows are new, in one transaction; one that is already there is kept."""
        if not rows:
            return 0
        with self.write(lease) as connection:
            return connection.execute(self.insert(table).on_conflict_do_nothing(), rows).rowcount

    def _shown(self, problem: Exception) -> Exception | None:
        """The driver's exception where it may stand in a traceback: PostgreSQL's quotes the row's values."""
        return problem if self.is_sqlite or isinstance(problem, OverflowError) else None

    def _begin_write(self, connection: Connection) -> RootTransaction:
        self._waiting[threading.get_ident()] = time.monotonic()
        try:
            for _ in range(LOCK_ATTEMPTS - 1):
                try:
                    return connection.begin()
                except DBAPIError as problem:
                    if not is_lock(problem):
                        raise
            return connection.begin()
        finally:
            del self._waiting[threading.get_ident()]

    def _renew(self, connection: Connection, lease: Lease) -> None:
        clock = self.clock()
        renewed = connection.execute(
            update(JobRow)
            .where(JobRow.id == lease.job_id, JobRow.epoch == lease.epoch, JobRow.owner == lease.owner)
            .values(lease_until=clock + lease.seconds)
        )
        if renewed.rowcount == 0:
            raise FencedError(
                f"job {lease.job_id} now belongs to another process",
                "Nothing to do: the other process goes on from the last committed batch.",
            )

    def clock(self) -> ColumnElement[float]:
        """An SQL expression: seconds since the epoch when the statement runs, by the one clock that leases go by.

        It is the database server's where there is one, else this machine's.
        """
        if self.is_sqlite:
            return literal(time.time(), Float)
        return cast(func.extract("epoch", func.clock_timestamp()), Float)

    def insert(self, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
        """An INSERT of this database's dialect, which knows ON CONFLICT."""
        return insert(self.engine.dialect, table)


def _identity(path: Path | None) -> tuple[int, int] | None:
    """(device, inode) of a file; None where there is none."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _stamp(path: Path) -> tuple[int, int]:
    """(bytes, time of the last change in nanoseconds) of a file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _logged(path: Path) -> bool:
    """Whether a write-ahead log lies beside a file: its newest commits may be there alone."""
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def insert(dialect: Dialect, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of this dialect, which knows ON CONFLICT."""
    return sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)
