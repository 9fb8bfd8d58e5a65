"""Where a store lives, and whether a database may live there."""

import os
from contextlib import suppress
from pathlib import Path

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


def network_filesystem(path: Path, mounts: str) -> str | None:
    """The kind of the network filesystem that holds `path`, or None when it is local.

    Args:
        path: an absolute path, which need not exist.
        mounts: text in the form of /proc/mounts.
    """
    best, kind = "", None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].encode().decode("unicode_escape")
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind if kind in _NETWORK else None


def refuse_network_filesystem(path: Path) -> None:
    """Check that SQLite may keep its write-ahead log here.

    Raises:
        StoreError: the path lies on a network filesystem, whose locks and shared memory SQLite cannot trust.
    """
    table = Path("/proc/mounts")
    if not table.exists():
        return
    kind = network_filesystem(path.resolve(), table.read_text(errors="replace"))
    if kind is not None:
        raise StoreError(
            f"{path} lies on a network filesystem ({kind}), where SQLite can lose data",
            "Put the store on a local disk with --store PATH, or use PostgreSQL with --store postgresql://…",
        )
