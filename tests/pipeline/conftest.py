"""A finished small run, shared by the tests of this folder."""

from pathlib import Path
from typing import Any

import pytest
from support import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    """An undisturbed run, and what it reported."""
    workspace = Workspace(tmp_path_factory.mktemp("finished"))
    workspace.write()
    return workspace, workspace.run()
