"""A finished small run, shared by the tests of this folder."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from support import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    """An undisturbed run, and what it reported; tests read it only."""
    workspace = Workspace(tmp_path_factory.mktemp("finished"), fresh=True)
    workspace.write()
    return workspace, workspace.run()


@pytest.fixture
def copied(tmp_path: Path, finished: tuple[Workspace, dict[str, Any]]) -> Workspace:
    """The finished run with its store, for tests that go on with it."""
    shutil.copytree(finished[0].folder, tmp_path, dirs_exist_ok=True)
    return Workspace(tmp_path)
