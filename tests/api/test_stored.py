"""Reading a store from Python changes nothing in it."""

from pathlib import Path

import pytest

import persyn
from storage.errors import StoreError, StoreMissingError
from storage.records import Model
from storage.registry import put
from storage.store import Store


def test_a_store_that_is_read_can_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    Store.open(path).close()
    with Store.open(path, read_only=True) as store, pytest.raises(StoreError):
        put(store, Model("a", "teacher", "transformers", "zoo:brief"), "sha")


def test_another_process_may_write_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store.open(path) as writer, persyn.open_store(path) as reader:
        assert reader.models() == []
        put(writer, Model("a", "teacher", "transformers", "zoo:brief"), "sha")
        assert [model.name for model in reader.models()] == ["a"]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError):
        persyn.open_store(tmp_path / "none.db")
    Store.open(tmp_path / "s.db").close()
    with persyn.open_store(tmp_path / "s.db") as reader:
        assert reader.datasets() == []
        with pytest.raises(persyn.PersynError, match="no dataset `persyn`"):
            list(reader.rows("persyn"))
        with pytest.raises(persyn.PersynError, match="no router"):
            reader.router()


def test_a_teacher_that_the_store_does_not_know_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.db") as writer:
        put(writer, Model("brief", "teacher", "transformers", "zoo:brief"), "sha")
    with persyn.open_store(tmp_path / "s.db") as reader:
        assert list(reader.responses(teacher="brief")) == []
        with pytest.raises(persyn.PersynError, match="no teacher `breif`; did you mean `brief`"):
            list(reader.responses(teacher="breif"))
