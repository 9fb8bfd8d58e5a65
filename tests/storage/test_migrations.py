"""From an older database to this one, and never from a newer one."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Boolean, Float, Integer, LargeBinary, MetaData, inspect, select

from storage import browse, jobs, registry, routing
from storage.errors import StoreError, StoreVersionError
from storage.migrations import SHIPPED, Revisions
from storage.records import Model
from storage.schema import Base
from storage.store import Store

SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("UPDATE models SET family = 'migrated'")
    op.add_column("models", sa.Column("colour", sa.Text(), nullable=True))
    {last}
"""


def later(folder: Path, last: str = "") -> Revisions:
    """This program's history with one more revision."""
    shutil.copytree(SHIPPED.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0006_colour.py").write_text(SECOND.format(last=last))
    return Revisions((*SHIPPED.order, "0006"), folder)


def old_store(location: str) -> None:
    with Store.open(location) as store:
        registry.put(store, Model("m", "teacher", "x", "m", family="before"), "i")


def test_the_migrations_make_exactly_the_tables_of_the_schema(store) -> None:
    # The word index has no table class; on SQLite it brings shadow tables of its own.
    def ours(thing, name, kind, reflected, other) -> bool:
        return not (kind == "table" and str(name).startswith(("response_words", "prompt_words")))

    with store.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": ours, "compare_type": True, "target_metadata": Base.metadata}
        )
        assert compare_metadata(context, Base.metadata) == []
        tables = set(inspect(connection).get_table_names())
    assert set(Base.metadata.tables) <= tables


def test_the_known_history_is_the_one_in_the_folder() -> None:
    scripts = ScriptDirectory(str(SHIPPED.folder))
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(SHIPPED.order)


def test_an_older_database_is_copied_and_then_migrated(sqlite_path: Path, tmp_path: Path) -> None:
    old_store(str(sqlite_path))
    with Store.open(sqlite_path, revisions=later(tmp_path / "later")) as store:
        assert [model.family for model in registry.models(store)] == ["migrated"]
    copies = list(sqlite_path.parent.glob("*.backup"))
    assert len(copies) == 1
    assert copies[0].stat().st_mode & 0o777 == 0o600
    backup = sqlite3.connect(copies[0])
    assert backup.execute("SELECT family FROM models").fetchall() == [("before",)]
    assert backup.execute("SELECT version_num FROM alembic_version").fetchall() == [("0005",)]
    backup.close()
    # Opening it again has nothing to do.
    Store.open(sqlite_path, revisions=Revisions((*SHIPPED.order, "0006"), tmp_path / "later")).close()
    assert list(sqlite_path.parent.glob("*.backup")) == copies


def test_an_older_postgresql_database_is_migrated_too(location: str, tmp_path: Path) -> None:
    old_store(location)
    with Store.open(location, revisions=later(tmp_path / "later")) as store:
        assert [model.family for model in registry.models(store)] == ["migrated"]


def test_a_migration_that_fails_halfway_leaves_the_old_database(location: str, tmp_path: Path) -> None:
    old_store(location)
    broken = later(tmp_path / "later", last='op.execute("INSERT INTO nowhere VALUES (1)")')
    with pytest.raises(StoreError, match="nowhere"):
        Store.open(location, revisions=broken)
    with Store.open(location) as store:
        assert [model.family for model in registry.models(store)] == ["before"]


KILLED = """
    import os, sys
    from pathlib import Path
    from storage.migrations import SHIPPED, Revisions
    from storage.store import Store

    Store.open(sys.argv[1], revisions=Revisions((*SHIPPED.order, "0006"), Path(sys.argv[2])))
"""


def test_a_migration_that_is_killed_halfway_leaves_the_old_database(
    location: str, tmp_path: Path, script
) -> None:
    old_store(location)
    later(tmp_path / "later", last="__import__('os').kill(__import__('os').getpid(), 9)")
    migrating = script(KILLED, location, tmp_path / "later")
    assert migrating.wait(60) == -9
    with Store.open(location) as store:
        assert [model.family for model in registry.models(store)] == ["before"]


def test_a_newer_database_is_refused_and_left_alone(location: str, tmp_path: Path) -> None:
    old_store(location)
    revisions = later(tmp_path / "later")
    Store.open(location, revisions=revisions).close()
    with pytest.raises(StoreVersionError, match="at revision 0006, newer than this program's 0005"):
        Store.open(location)
    with Store.open(location, revisions=revisions) as store:
        assert [model.family for model in registry.models(store)] == ["migrated"]


def test_opening_a_current_store_never_imports_alembic(sqlite_path: Path) -> None:
    Store.open(sqlite_path).close()
    source = (
        "import sys; from storage.store import Store; Store.open(sys.argv[1]).close();"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'alembic', 'torch', 'textual', 'mako'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, str(sqlite_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


INDEX = ("response_words", "prompt_words", "search_marks", "alembic_version")
DROPPED = {
    "jobs": {"log_path", "heartbeat_at"},
    "events": {"stage", "data"},
    "routers": {"complete"},
}


ADDED = {"models": {"by_run": False}}
"""What rows of older releases have in columns that they were written without."""


def a_value(column):
    """One that shows whether it was kept: all ids are 1, so that every row refers to the others."""
    kinds = {JSON: {}, Boolean: True, Integer: 1, Float: 0.5, LargeBinary: b"\x00\x00\x80?"}
    return next((value for kind, value in kinds.items() if isinstance(column.type, kind)), "kept")


def reflected(connection):
    found = MetaData()
    found.reflect(connection, only=lambda name, _: not name.startswith(INDEX))
    return found.sorted_tables


def stored_rows(connection):
    return {
        table.name: [dict(row._mapping) for row in connection.execute(select(table))]
        for table in reflected(connection)
    }


@pytest.mark.parametrize("revision", SHIPPED.order[:-1])
def test_a_store_of_an_older_release_keeps_its_rows(location: str, revision: str) -> None:
    if "://" not in location:
        Path(location).unlink()
    released = Revisions(SHIPPED.order[: SHIPPED.order.index(revision) + 1], SHIPPED.folder)
    with Store.open(location, revisions=released) as store, store.write() as connection:
        for table in reflected(connection):
            connection.execute(table.insert(), {column.name: a_value(column) for column in table.columns})
        before = stored_rows(connection)
    assert len(before) >= 20
    with Store.open(location) as store:
        with store.read() as connection:
            after = stored_rows(connection)
        for name, rows in before.items():
            kept = [
                {key: value for key, value in row.items() if key not in DROPPED.get(name, ())} for row in rows
            ]
            assert len(rows) == 1
            added = {key: value for key, value in ADDED.get(name, {}).items() if key not in rows[0]}
            assert after[name] == [row | added for row in kept]
        assert jobs.get(store, 1).host == "kept"
        assert [event.message for event in jobs.events(store, 1)] == ["kept"]
        (assigned,) = browse.get(store, 1).assignments
        assert assigned.assignment.strengths == (1.0,)
        assert routing.newest_router(store).student_id == 1
