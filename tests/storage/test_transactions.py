"""Faults of the machine: locks, a full disk, a kill in the middle, a file that is no database."""

import random
import sqlite3
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from storage import jobs, prompts, registry, responses
from storage import store as store_module
from storage.errors import DiskFullError, StoreBusyError, StoreError, StoreLostError, StoreMissingError
from storage.records import Model
from storage.store import LOCK_ATTEMPTS, Store

HOLD = """
    import sqlite3, sys
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    sys.stdin.readline()
    connection.execute("COMMIT")
"""


def pragma(store: Store, name: str) -> object:
    with store.read() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_a_commit_survives_a_power_cut_and_keys_are_enforced(sqlite_path: Path) -> None:
    with Store.open(sqlite_path) as store:
        assert pragma(store, "journal_mode") == "wal"
        assert pragma(store, "synchronous") == 2
        assert pragma(store, "foreign_keys") == 1
        assert pragma(store, "busy_timeout") == 30_000


def rename_and_fail(store: Store) -> None:
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE prompt_sets SET name = 'other'")
        raise RuntimeError("in the middle")


def test_a_block_that_fails_stores_nothing(store, make) -> None:
    made = prompts.open_set(store, "s", "s")
    with pytest.raises(RuntimeError):
        rename_and_fail(store)
    assert prompts.open_set(store, "s", "s") == made


def test_a_number_that_sqlite_cannot_hold_is_refused_with_a_remedy(sqlite_path: Path) -> None:
    with Store.open(sqlite_path) as store, pytest.raises(StoreError) as caught:
        jobs.get(store, 10**20)
    assert caught.value.remedy


def test_errors_never_show_the_values(store) -> None:
    with pytest.raises(StoreError) as caught, store.write() as connection:
        connection.execute(
            store.insert(registry.ModelRow).values(name="a secret", role="teacher", identity_sha="x")
        )
    assert "a secret" not in "".join(traceback.format_exception(caught.value))


def test_a_lock_held_by_another_process_is_waited_for(sqlite_path: Path, script: Callable) -> None:
    with Store.open(sqlite_path) as store:
        holder = script(HOLD, sqlite_path)
        assert holder.stdout.readline() == "locked\n"
        done = threading.Event()

        def write() -> None:
            registry.put(store, Model("m", "teacher", "x", "m"), "i")
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert not done.wait(1.0)
        assert registry.models(store) == []
        holder.stdin.write("go\n")
        holder.stdin.flush()
        writer.join(30)
        assert done.is_set()
        assert [model.name for model in registry.models(store)] == ["m"]


def test_a_lock_that_never_ends_is_reported_after_bounded_retries(
    sqlite_path: Path, script: Callable
) -> None:
    Store.open(sqlite_path).close()
    with Store.open(sqlite_path, busy_timeout_s=0.05) as store:
        holder = script(HOLD, sqlite_path)
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(StoreBusyError, match="locked"):
            registry.put(store, Model("m", "teacher", "x", "m"), "i")
        holder.stdin.write("go\n")
        holder.stdin.flush()
        holder.wait(30)
        registry.put(store, Model("m", "teacher", "x", "m"), "i")
    assert LOCK_ATTEMPTS >= 2


def test_a_full_disk_keeps_what_was_committed_and_goes_on_when_there_is_space(
    sqlite_path: Path, make_for
) -> None:
    with Store.open(sqlite_path) as store:
        make = make_for(store)
        _, ids = make.prompt_set(["synthesis"] * 60)
        teachers = [make.generation(f"t{number}") for number in range(40)]
        job = make.job()
        lease = jobs.claim(store, job.id, "me")
        pages = pragma(store, "page_count")
        assert pragma(store, f"max_page_count={pages + 40}") == pages + 40
        committed = 0
        refused = None
        for who in teachers:
            try:
                committed += responses.add(store, lease, [make.answer(item, who, "x" * 400) for item in ids])
            except DiskFullError as problem:
                refused = problem
                break
        assert "no space is left" in str(refused)
        assert 0 < committed < 60 * 40
        with store.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM responses").scalar() == committed
        assert pragma(store, "integrity_check") == "ok"
        pragma(store, "max_page_count=1000000")
        for who in teachers:
            committed += responses.add(store, lease, [make.answer(item, who, "x" * 400) for item in ids])
        assert committed == 60 * 40
        assert pragma(store, "integrity_check") == "ok"


WRITE = """
    import sys
    from storage import jobs, prompts, responses
    from storage.records import Response, NewResponse
    from storage.store import Store

    store = Store.open(sys.argv[1])
    lease = jobs.claim(store, int(sys.argv[2]), f"writer {sys.argv[3]}")
    ids = [prompt.id for prompt in prompts.iterate(store, 1)]
    print("begun", flush=True)
    sample = int(sys.argv[3]) * 100_000
    while True:
        sample += 1
        rows = [
            NewResponse(prompt_id, 1, "g", Response(0, "text " * 50, "ok", "stop", 1, 1, 0.1), sample=sample)
            for prompt_id in ids
        ]
        assert responses.add(store, lease, rows) == len(ids)
        print("committed", flush=True)
"""


def test_kill_9_in_the_middle_of_writing_keeps_every_committed_batch(
    location: str, script: Callable, make_for
) -> None:
    draw = random.Random(7)
    with Store.open(location) as store:
        make = make_for(store)
        make.prompt_set(["synthesis"] * 50)
        make.generation("t")
        job = make.job()
        told = 0
        for number in range(4):
            writer = script(WRITE, location, job.id, number)
            assert writer.stdout.readline() == "begun\n"
            for _ in range(draw.randint(1, 6)):
                assert writer.stdout.readline() == "committed\n"
                told += 1
            threading.Event().wait(draw.random() * 0.03)
            writer.kill()
            told += writer.communicate()[0].count("committed\n")
            with store.read() as connection:
                rows = connection.exec_driver_sql("SELECT count(*) FROM responses").scalar()
            assert rows is not None
            assert rows % 50 == 0, "a batch was stored in part"
            assert told <= rows // 50 <= told + number + 1
        if store.is_sqlite:
            assert pragma(store, "integrity_check") == "ok"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(b"these are my notes, not a database. " * 100)
    path.chmod(0o600)
    with pytest.raises(StoreError, match="is not a database"):
        Store.open(path)
    assert path.read_bytes().startswith(b"these are my notes")


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (id INTEGER PRIMARY KEY)")
    connection.close()
    with pytest.raises(StoreError, match="another program's tables"):
        Store.open(path)


OPEN = """
    import sys
    from storage import registry
    from storage.records import Model
    from storage.store import Store

    print("ready", flush=True)
    sys.stdin.readline()
    with Store.open(sys.argv[1]) as store:
        registry.put(store, Model("m" + sys.argv[2], "teacher", "x", "m"), "i")
"""


def test_several_programs_may_make_the_store_at_once(location: str, script: Callable) -> None:
    if not location.startswith("postgresql"):
        Path(location).unlink()
    openers = [script(OPEN, location, number) for number in range(4)]
    for opener in openers:
        assert opener.stdout.readline() == "ready\n"
    for opener in openers:
        opener.stdin.write("go\n")
        opener.stdin.flush()
    for opener in openers:
        _, errors = opener.communicate(timeout=60)
        assert opener.returncode == 0, errors
    with Store.open(location) as store:
        assert len(registry.models(store)) == 4


@pytest.mark.parametrize("replaced", [False, True], ids=["moved", "replaced"])
def test_nothing_is_written_into_a_store_that_was_moved(sqlite_path: Path, make_for, replaced: bool) -> None:
    moved, other = sqlite_path.with_name("moved.db"), sqlite_path.with_name("other.db")
    with Store.open(sqlite_path) as store:
        make_for(store).model("a")
        Store.open(other).close()
        sqlite_path.rename(moved)
        if replaced:
            other.rename(sqlite_path)
        with pytest.raises(StoreMissingError, match="replaced" if replaced else "no longer there"):
            make_for(store).model("b")
        store.engine.dispose()  # as a thread that has no connection yet
        with pytest.raises(StoreMissingError):
            make_for(store).model("b")
        with pytest.raises(StoreMissingError):
            registry.models(store, "teacher")
        assert sqlite_path.exists() == replaced
        moved.replace(sqlite_path)
        make_for(store).model("c")
        assert {model.name for model in registry.models(store, "teacher")} == {"a", "c"}


def test_a_database_server_that_is_not_back_in_time_is_said_to_be_lost(location: str, monkeypatch) -> None:
    if not location.startswith("postgresql"):
        return
    monkeypatch.setattr(store_module, "RESTART_S", 0.0)
    with Store.open(location) as store:
        store.engine.dispose()
        nobody = store.engine.url.set(host="127.0.0.1", port=1)
        store.engine = create_engine(nobody)
        with pytest.raises(StoreLostError, match="was lost"):
            jobs.recent(store)


def test_a_database_server_that_ends_its_connections_is_reached_again(location: str) -> None:
    if not location.startswith("postgresql"):
        return
    other = create_engine(location, isolation_level="AUTOCOMMIT")

    def end(pid: int) -> None:
        with other.connect() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    own = text("SELECT pg_backend_pid()")

    def lose(store: Store) -> None:
        with store.write() as connection:
            end(connection.execute(own).scalar_one())
            connection.execute(own)

    with Store.open(location) as store:
        made = prompts.open_set(store, "first", "first")
        with store.read() as connection:
            pid = connection.execute(own).scalar_one()
        end(pid)
        assert prompts.open_set(store, "first", "first") == made  # between two transactions nobody notices
        with pytest.raises(StoreLostError):
            lose(store)
        assert prompts.open_set(store, "first", "first") == made
    other.dispose()
