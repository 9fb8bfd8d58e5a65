"""Where a store lives, and whether a database may live there."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import psutil
from platformdirs import user_data_path
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from storage.errors import StoreError

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "gpfs"}
    | {"beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs"}
)


def default_location() -> str:
    """`PERSYN_STORE`, else `persyn.db` in the platform's data folder."""
    return os.environ.get("PERSYN_STORE") or str(user_data_path("persyn") / "persyn.db")


def parse(location: str | Path | None) -> URL:
    """The database URL of a path, a `sqlite:///` or `postgresql://` URL, or, for None, the default location.

    Raises:
        StoreError: the URL cannot be read or names another kind of database.
    """
    text = default_location() if location is None else str(location)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as problem:
        # The text may hold a password: it is not repeated.
        raise StoreError(
            "the store's URL cannot be read", "Write postgresql://USER@HOST/DATABASE, or the path of a file."
        ) from problem
    backend = "postgresql" if url.drivername == "postgres" else url.get_backend_name()
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return URL.create("sqlite", database=str(Path(url.database).expanduser().absolute()))
    if backend == "postgresql" and url.database:
        return url.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"the store cannot be kept in {url.render_as_string(hide_password=True)}",
        "Use the path of a SQLite file or a postgresql:// URL with a database name.",
    )


def private_folder(folder: Path) -> None:
    """Create a folder, and the parents it lacks, for this user only (0700)."""
    missing = [folder, *folder.parents]
    for part in reversed([part for part in missing if not part.exists()]):
        part.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path) -> bool:
    """True when the file was created, empty and for this user only (0600); an existing one stays as it is."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return False
    return True


def tighten(path: Path) -> None:
    """Keeps a store's file, and SQLite's log beside it, from other users, where they are this user's own.

    Only of a file that is known to be a store: one that was named by mistake is not ours to change.
    """
    for part in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with suppress(FileNotFoundError):
            state = part.stat()
            if state.st_mode & 0o077 and state.st_uid == os.geteuid():
                part.chmod(0o600)


def writable(path: Path) -> bool:
    """Whether this user may write an existing file and make others beside it, as SQLite does for its log."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)


def network_filesystem(path: Path) -> str | None:
    """The kind of the network filesystem that holds an absolute path, which need not exist; None when it is local."""
    holding = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    # Of two that are mounted at one place the later one is seen.
    kind = max(reversed(holding), key=lambda part: len(part.mountpoint)).fstype if holding else ""
    return kind if kind in _NETWORK else None


def refuse_impossible(path: Path) -> None:
    """Raises StoreError when no file can have this path: a name that is too long, a link that leads to itself."""
    try:
        path.stat()
    except OSError as problem:
        if problem.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise StoreError(
                f"the store {str(path)[:300]} cannot be used: {problem.strerror}",
                "Name another file with --store.",
            ) from None


def refuse_network_filesystem(path: Path) -> None:
    """Raises StoreError when the path lies on a network filesystem: SQLite cannot trust its locks there."""
    with suppress(OSError):  # a machine that does not say what is mounted
        if (kind := network_filesystem(path.resolve())) is not None:
            raise StoreError(
                f"{path} lies on a network filesystem ({kind}), where SQLite can lose data",
                "Put the store on a local disk with --store PATH, or use PostgreSQL with --store postgresql://…",
            )
