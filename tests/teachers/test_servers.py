"""ServerPool that stay between two fills, with the stand-in for vLLM's command."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from teachers.test_gpus import gpus
from teachers.test_vllm import Stand, living, requests, until

from engine.job import server_pool
from engine.job.server_pool import ServerPool
from engine.teachers.teacher_kinds import Lasting
from engine.teachers.traffic import Traffic
from engine.teachers.vllm_server import gpus as _gpus
from engine.teachers.vllm_server import orphans
from storage.records import Model


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    yield (found := Stand(tmp_path))
    assert living(found) == []
    assert not list((tmp_path / orphans.FOLDER).glob("*.json"))


@pytest.fixture
def pool(stand: Stand) -> Iterator[ServerPool]:
    made = ServerPool(stand.folder)
    yield made
    made.close()


def ask(pool: ServerPool, teacher: Model, count: int = 3) -> None:
    """One fill, in a thread of its own as a lane's is."""
    found: list[Any] = []

    def lane() -> None:
        with pool.backend(teacher) as backend:
            found.extend(backend.generate(requests(count)))

    thread = threading.Thread(target=lane)
    thread.start()
    thread.join()
    assert [completion.status for completion in found] == ["ok"] * count


def memory(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    real = psutil.virtual_memory()
    monkeypatch.setattr("psutil.virtual_memory", lambda: real._replace(available=int(free * real.total)))


def test_a_server_outlives_the_thread_that_started_it_and_answers_the_next(
    stand: Stand, pool: ServerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = stand.model("good")
    for _ in range(3):
        ask(pool, teacher)
    assert len(stand.lives) == 1
    assert pool.rank(teacher) == 0
    memory(monkeypatch, server_pool.SPARE + 0.01)
    pool.evict_for("auto")
    assert len(living(stand)) == 2
    memory(monkeypatch, server_pool.SPARE - 0.01)
    pool.evict_for("cpu")
    assert living(stand) == []
    ask(pool, teacher)
    assert len(stand.lives) == 2


def test_two_servers_never_share_the_cpu(stand: Stand, pool: ServerPool) -> None:
    first, second = stand.model("good"), replace(stand.model("good"), name="other")
    for teacher, lives in ((first, 1), (second, 2), (second, 2), (first, 3)):
        ask(pool, teacher)
        assert len(stand.lives) == lives
        assert len({os.getsid(pid) for pid in living(stand)}) == 1
    assert (
        sorted((second, first, replace(first, backend="transformers", name="x")), key=pool.rank)[0] == first
    )


def test_one_that_died_while_nobody_asked_it_is_a_new_one(stand: Stand, pool: ServerPool) -> None:
    teacher = stand.model("good", restarts=0)
    ask(pool, teacher)
    os.kill(stand.lives[0]["pid"], signal.SIGKILL)
    until(lambda: not pool._kept["t"].warm)
    ask(pool, teacher)
    assert len(stand.lives) == 2


def test_one_that_fails_is_not_kept(stand: Stand, pool: ServerPool) -> None:
    teacher = stand.model("good")
    with pytest.raises(ZeroDivisionError), pool.backend(teacher) as backend:
        assert [1 // (completion.key - 1) for completion in backend.generate(requests(2))]
    assert living(stand) == []
    assert pool.rank(teacher) == 2


@dataclass
class Kept:
    """A backend whose server is said to be on these GPUs."""

    gpus: frozenset[int]
    warm: bool = True
    closed: bool = False

    def generate(self, requests: Any) -> Iterator[Any]:
        return iter(())

    def traffic(self) -> Traffic:
        return Traffic()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> tuple[ServerPool, dict[str, Kept]]:
    """Four GPUs; one server on the first, one on the next two, one on the CPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(_gpus, "read", lambda: gpus((5, 80), (5, 80), (5, 80), (80, 80)))
    pool = ServerPool()
    kept = {name: Kept(frozenset(on)) for name, on in (("a", {0}), ("b", {1, 2}), ("c", set[int]()))}
    assert all(isinstance(backend, Lasting) for backend in kept.values())
    pool._kept.update(kept)
    return pool, kept


@pytest.mark.parametrize(
    ("device", "ended"), [("cuda", "a"), ("auto", "a"), ("cuda:0", "a"), ("cuda:2", "b"), ("cuda:3", "")]
)
def test_a_model_on_a_gpu_ends_the_server_there(
    placed: tuple[ServerPool, dict[str, Kept]], device: str, ended: str
) -> None:
    pool, kept = placed
    pool.evict_for(device)
    assert "".join(name for name in kept if kept[name].closed) == ended


def test_gpus_that_this_process_counts_otherwise_are_all_made_free(
    placed: tuple[ServerPool, dict[str, Kept]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, kept = placed
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2,1,0")
    pool.evict_for("cuda:0")
    assert "".join(name for name in kept if kept[name].closed) == "ab"


@pytest.mark.parametrize(
    ("server", "ended"),
    [({}, ""), ({"gpus": [3]}, ""), ({"gpus": [2]}, "bc"), ({"tensor_parallel": 2}, "abc")],
)
def test_a_server_ends_others_only_where_too_few_gpus_are_free(
    placed: tuple[ServerPool, dict[str, Kept]], server: dict[str, Any], ended: str
) -> None:
    pool, kept = placed
    options = {"server": {"command": [sys.executable, "-c", "0"], **server}}
    with pool.backend(Model("new", "teacher", "vllm", "zoo:brief", options=options)):
        pass
    assert "".join(name for name in kept if kept[name].closed) == ended
