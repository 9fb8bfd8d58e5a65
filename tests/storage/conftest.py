"""A store to test on: SQLite in a temporary folder, and PostgreSQL where a server is given."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from storage import jobs, prompts, registry
from storage.job_records import Job
from storage.records import Generation, Model, NewResponse, Prompt, Response, Split, Status
from storage.store import Store

SERVER = os.environ.get("PERSYN_TEST_POSTGRES", "")
"""URL of a PostgreSQL database whose role may create schemas."""


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite store to copy: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "persyn.db"
    Store.open(path).close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def location(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path
) -> Iterator[str]:
    """Where an empty store lies; several processes may open it."""
    if request.param == "sqlite":
        path = tmp_path / "store" / "persyn.db"
        path.parent.mkdir(mode=0o700)
        shutil.copy(empty_store, path)
        yield str(path)
        return
    if not SERVER:
        pytest.skip("no PostgreSQL server: set PERSYN_TEST_POSTGRES to a URL whose role may create schemas")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    url = make_url(SERVER).set(drivername="postgresql+psycopg")
    name = f"persyn_{uuid.uuid4().hex[:12]}"
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        own = url.update_query_dict({"options": f"-csearch_path={name}"})
        yield own.render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        server.dispose()


@pytest.fixture
def store(location: str) -> Iterator[Store]:
    """An empty store."""
    with Store.open(location) as opened:
        yield opened


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    """Where a fresh SQLite store may be made."""
    return tmp_path / "store" / "persyn.db"


class Maker:
    """Puts the small things that tests need into a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def model(self, name: str, **fields: Any) -> Model:
        """A registered model."""
        values = {"role": "teacher", "backend": "x", "model": "m", **fields}
        return registry.put(self.store, Model(name=name, **values), f"id-{name}")

    def generation(self, name: str) -> Generation:
        """A registered teacher's generation."""
        return Generation(self.model(name).id or 0, f"gen-{name}")

    def prompt_set(self, splits: Sequence[Split], spec: str = "set", first: int = 0) -> tuple[int, list[int]]:
        """A complete prompt set with one prompt per entry of `splits`, and the prompts' ids in order."""
        made = prompts.open_set(self.store, spec, spec)
        items = [self.prompt(first + number, split) for number, split in enumerate(splits)]
        prompts.add(self.store, None, made.id, items, 0)
        prompts.finish_set(self.store, None, made.id, prompts.counts(self.store, made.id))
        return made.id, [item.id or 0 for item in prompts.iterate(self.store, made.id)]

    def prompt(self, number: int, split: Split = "synthesis") -> Prompt:
        """A prompt that differs from the others by its number."""
        return Prompt([{"role": "user", "content": f"What is {number}?"}], answer=str(number), split=split)

    def answer(
        self, prompt_id: int, who: Generation, text: str = "yes", status: Status = "ok", cost: float = 0.0
    ) -> NewResponse:
        """A response about to be stored: 5 prompt tokens, 3 completion tokens, half a second."""
        response = Response(
            key=prompt_id,
            text="" if status == "error" else text,
            status=status,
            finish_reason="error" if status == "error" else "stop",
            prompt_tokens=5,
            completion_tokens=3,
            latency_s=0.5,
            error="it broke" if status == "error" else "",
        )
        return NewResponse(prompt_id, who.teacher_id, who.generation_sha, response, cost=cost)

    def job(self, spec: str = "spec") -> Job:
        """An active job."""
        return jobs.submit(self.store, {"spec": spec}, spec, "a job")[0]


@pytest.fixture
def make(store: Store) -> Maker:
    """Fills `store`."""
    return Maker(store)


@pytest.fixture
def make_for() -> Callable[[Store], Maker]:
    """Makes a filler for a store that the test opens itself."""
    return Maker


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Waits for a condition, which must come true in time."""

    def wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "the condition did not come true"
            time.sleep(0.005)

    return wait


@pytest.fixture
def script() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python script as a process of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
