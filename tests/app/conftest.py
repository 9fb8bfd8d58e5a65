"""What every test of the app has: settings, data and reports in folders of its own, never the operator's."""

from pathlib import Path

import pytest
from app.answers import Made, build


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A small store of answers; the test is in its folder."""
    monkeypatch.chdir(tmp_path)
    return build(tmp_path)
