"""A store that may only be read: shown, never written, and nothing is made beside it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import jobs, locations, registry, responses, search
from storage.changes import Changes
from storage.errors import StoreError, StoreMissingError
from storage.migrations import SHIPPED, Revisions
from storage.store import Store


@pytest.fixture(params=[True], ids=["indexed"])
def closed(
    request: pytest.FixtureRequest, sqlite_path: Path, make_for, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A store with a model and an answer: a file 0444 in a folder 0555.

    Root may write there nevertheless, so it is told that it may not.
    """
    with Store.open(sqlite_path) as store:
        make_for(store).model("a")
        make_for(store).job()
        _, ids = make_for(store).prompt_set(["synthesis"])
        responses.add(store, None, [make_for(store).answer(ids[0], make_for(store).generation("a"))])
        if request.param:
            while search.sync(store):
                pass
    sqlite_path.chmod(0o444)
    sqlite_path.parent.chmod(0o555)
    monkeypatch.setattr(locations, "writable", lambda path: not path.is_relative_to(sqlite_path.parent))
    yield sqlite_path
    sqlite_path.parent.chmod(0o755)


def beside(path: Path) -> list[tuple[str, int]]:
    return sorted((file.name, file.stat().st_mode) for file in path.parent.iterdir())


def test_it_is_read_and_nothing_is_made(closed: Path) -> None:
    before = beside(closed), closed.read_bytes()
    with Store.open(closed) as store:
        assert store.read_only
        assert [model.name for model in registry.models(store, "teacher")] == ["a"]
        assert search.sync(store) == 0
        changes = Changes(store)
        assert changes.seen()
        assert not changes.seen()
        changes.close()
        with pytest.raises(StoreError, match="may only be read") as caught:
            jobs.command(store, 1, "cancel")
        assert "--store" in caught.value.remedy
    assert (beside(closed), closed.read_bytes()) == before


@pytest.mark.parametrize("closed", [False], indirect=True, ids=["not indexed"])
def test_words_that_cannot_be_indexed_are_not_said_to_be_nowhere(closed: Path) -> None:
    with Store.open(closed) as store, pytest.raises(StoreError, match="ends at answer 0 of 1"):
        search.sync(store)


def test_a_path_of_odd_characters_is_opened(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a %41?b#c&d" / "e?mode=rwc.db"
    odd.parent.mkdir()
    shutil.copy(closed, odd)
    monkeypatch.setattr(locations, "writable", lambda path: False)
    with Store.open(odd) as store:
        assert [model.name for model in registry.models(store, "teacher")] == ["a"]


def test_what_a_running_program_has_only_in_its_log_is_read(
    sqlite_path: Path, make_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(sqlite_path) as writer:
        make_for(writer).model("a")
        monkeypatch.setattr(locations, "writable", lambda path: False)
        with Store.open(sqlite_path) as store:
            make_for(writer).model("b")
            assert {model.name for model in registry.models(store, "teacher")} == {"a", "b"}


def test_a_program_that_begins_to_write_is_noticed(closed: Path, make_for) -> None:
    with Store.open(closed) as store:
        changes = Changes(store)
        assert changes.seen()
        os.utime(closed)
        with pytest.raises(StoreError, match="another program writes"):
            changes.seen()
        changes.close()


def test_one_that_must_be_migrated_says_so(closed: Path, tmp_path: Path) -> None:
    newer = Revisions((*SHIPPED.order, "later"), SHIPPED.folder)
    with pytest.raises(StoreError, match="of an older version, and may only be read"):
        Store.open(closed, revisions=newer)


def test_one_that_vanishes_is_missed(closed: Path) -> None:
    with Store.open(closed) as store:
        closed.parent.chmod(0o755)
        closed.rename(closed.with_name("moved.db"))
        with pytest.raises(StoreMissingError):
            store.check_file()
