"""What every test of the app has: settings, data and reports in folders of its own, never the operator's."""

from pathlib import Path

import pytest
from app import full_store
from app.responses import Made, build
from app.support import settle

from storage.job_records import Lease
from storage.store import Store


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A small store of answers; the test is in its folder."""
    monkeypatch.chdir(tmp_path)
    return build(tmp_path)


@pytest.fixture(autouse=True)
def no_idle_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is answered is waited for no longer; see `settle`."""
    monkeypatch.setattr("textual.app.wait_for_idle", settle)
    monkeypatch.setattr("textual.pilot.wait_for_idle", settle)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Lease]:
    """The full store, to be copied, and the lease of its job."""
    folder = tmp_path_factory.mktemp("full")
    with Store.open(folder / "persyn.db") as store:
        lease = full_store.build(store, folder)
    return folder / "persyn.db", lease
