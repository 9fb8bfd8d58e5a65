"""A store to test on: SQLite in a temporary folder, and PostgreSQL where a server is given."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from storage import prompts, registry, responses
from storage.records import Completion, Generation, Model, NewResponse, Prompt, Split, Status
from storage.store import Store

SERVER = os.environ.get("PERSYN_TEST_POSTGRES", "")
"""URL of a PostgreSQL database whose role may create databases."""


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a fresh store may be made; several processes may open it."""
    if request.param == "sqlite":
        yield str(tmp_path / "store" / "persyn.db")
        return
    if not SERVER:
        pytest.skip("no PostgreSQL server: set PERSYN_TEST_POSTGRES to a URL whose role may create databases")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    url = make_url(SERVER).set(drivername="postgresql+psycopg")
    name = f"persyn_{uuid.uuid4().hex[:12]}"
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
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


def teacher(store: Store, name: str, **fields: object) -> Model:
    """A registered teacher."""
    return registry.put(store, Model(name=name, role="teacher", backend="x", model="m", **fields), f"id-{name}")  # type: ignore[arg-type]


def generation(store: Store, name: str) -> Generation:
    """A teacher's generation."""
    identifier = teacher(store, name).id
    assert identifier is not None
    return Generation(identifier, f"gen-{name}")


def prompt(number: int, split: Split = "synthesis") -> Prompt:
    """A prompt that differs from the others by its number."""
    return Prompt([{"role": "user", "content": f"What is {number}?"}], answer=str(number), split=split)


def prompt_set(store: Store, splits: list[Split], spec: str = "set") -> tuple[int, list[int]]:
    """A complete prompt set with one prompt per entry of `splits`, and the prompts' ids in order."""
    made = prompts.open_set(store, spec, spec)
    prompts.add(store, None, made.id, [prompt(number, split) for number, split in enumerate(splits)], 0)
    prompts.finish_set(store, None, made.id, prompts.counts(store, made.id))
    ids = [item.id for item in prompts.iterate(store, made.id)]
    return made.id, [identifier for identifier in ids if identifier is not None]


def answer(
    prompt_id: int, who: Generation, body: str = "yes", status: Status = "ok", tokens: int = 3, cost: float = 0.0
) -> NewResponse:
    """A response about to be stored."""
    completion = Completion(
        key=prompt_id,
        text=body,
        status=status,
        finish_reason="error" if status == "error" else "stop",
        prompt_tokens=5,
        completion_tokens=tokens,
        latency_s=0.5,
        error="it broke" if status == "error" else "",
    )
    return NewResponse(prompt_id, who.teacher_id, who.generation_sha, completion, cost=cost)


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition, which must come true in time."""
    import time

    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "the condition did not come true"
        time.sleep(0.005)


__all__ = ["answer", "eventually", "generation", "prompt", "prompt_set", "responses", "teacher"]
