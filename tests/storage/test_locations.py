import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from storage import locations
from storage.changes import Changes
from storage.errors import StoreError
from storage.store import Store

MOUNTS = {
    "/": "ext4",
    "/home": "nfs4",
    "/home/local": "xfs",
    "/mnt/my share": "fuse.sshfs",
    "/mnt/win": "cifs",
}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/persyn.db", None),
        ("/home/someone/persyn.db", "nfs4"),
        ("/home/local/persyn.db", None),
        ("/homes/persyn.db", None),
        ("/mnt/my share/persyn.db", "fuse.sshfs"),
        ("/mnt/win/a/b/persyn.db", "cifs"),
    ],
)
def test_the_innermost_mount_decides(path: str, kind: str | None, monkeypatch) -> None:
    parts = [SimpleNamespace(mountpoint=place, fstype=fstype) for place, fstype in MOUNTS.items()]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: parts)
    assert locations.network_filesystem(Path(path)) == kind


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_are_private_and_so_are_the_folders_made_for_them(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "my.db"
    with Store.open(path) as store:
        with store.write():
            pass
        assert store.folder == path.with_name("my.files")
        assert [mode(folder) for folder in (path.parent, path.parent.parent, store.folder)] == [0o700] * 3
        assert {mode(file) for file in path.parent.glob("my.db*")} == {0o600}


def test_a_file_that_others_could_read_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "my.db"
    Store.open(path).close()
    path.chmod(0o644)
    Store.open(path).close()
    assert mode(path) == 0o600


def test_what_is_no_store_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    text, foreign, folder, pipe = (tmp_path / name for name in ("notes.txt", "other.db", "folder", "pipe"))
    text.write_text("not a database, but longer than the header of one would be")
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (text, foreign, folder, pipe):
        path.chmod(0o755)
        with pytest.raises(StoreError):
            Store.open(path)
        assert mode(path) == 0o755, path


def test_the_environment_names_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSYN_STORE", str(tmp_path / "named.db"))
    with Store.open() as store:
        assert store.path == tmp_path / "named.db"
    monkeypatch.delenv("PERSYN_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert locations.default_location() == str(tmp_path / "data" / "persyn" / "persyn.db")


def test_a_missing_store_is_not_made_when_only_looking(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "none.db"
    with pytest.raises(StoreError, match="there is no store at"):
        Store.open(path, create=False)
    assert not path.parent.exists()


def test_urls() -> None:
    assert locations.parse("sqlite:////tmp/a.db").database == "/tmp/a.db"
    url = locations.parse("postgres://me:secret@host/db")
    assert url.drivername == "postgresql+psycopg"
    assert url.password == "secret"


@pytest.mark.parametrize(
    "text", ["mysql://u:secret@h/d", "sqlite://", "postgresql://u:secret@h", "x://:secret@["]
)
def test_other_urls_are_refused_without_repeating_a_password(text: str) -> None:
    with pytest.raises(StoreError) as caught:
        locations.parse(text)
    assert "secret" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be created"):
        Store.open(tmp_path / "file" / "my.db")


def test_a_store_that_is_damaged_while_it_is_watched_is_an_error_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "my.db"
    with Store.open(path) as store:
        store.close()  # the next look opens it anew
        path.write_bytes(b"x" * 8192)
        changes = Changes(store)
        with pytest.raises(StoreError, match="not a database"):
            changes.seen()


def test_a_path_that_no_file_can_have_is_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop.db"
    loop.symlink_to(loop)
    for path in (loop, tmp_path / ("n" * 300)):
        with pytest.raises(StoreError, match="cannot be used"):
            Store.open(path)
