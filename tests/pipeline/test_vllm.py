"""Runs with teachers that vLLM serves: with a stand-in for its command, and with vLLM itself and SmolLM2."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from backends import standin
from support import RUN, Workspace, wait_until

from engine import zoo
from engine.backends import _command, _orphans
from storage import jobs, schema
from storage.errors import PersynError
from storage.store import Store

CALIBRATED = 28
START, END = RUN.index("  - {name: brief"), RUN.index("prompts:")


def write(workspace: Workspace, *teachers: str) -> None:
    workspace.write(RUN[:START] + "".join(f"  - {teacher}\n" for teacher in teachers) + RUN[END:])


def answered(store: Store) -> Counter[tuple[str, str]]:
    """Responses by (teacher, status)."""
    with store.read() as connection:
        models = connection.execute(schema.ModelRow.__table__.select()).mappings().all()
        names = {model["id"]: model["name"] for model in models}
        found = connection.execute(schema.ResponseRow.__table__.select()).mappings().all()
    return Counter((names[row["teacher_id"]], row["status"]) for row in found)


def running(sessions: set[int]) -> list[int]:
    """Living processes of these sessions."""
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def notes(workspace: Workspace) -> list[_orphans.Note]:
    folder = workspace.folder / "store.files" / _orphans.FOLDER
    found = []
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError):
            found.append(_orphans.Note(**json.loads(path.read_text(encoding="utf-8"))))
    return found


def kill_9(process: subprocess.Popen[str], note: _orphans.Note) -> None:
    """The engine and then its server, which has no time to end what it has started: that lives on."""
    psutil.Process(note.pid).suspend()
    process.kill()
    process.communicate()
    os.kill(note.pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while note.pid in running({note.pid}):
        assert time.monotonic() < end
    assert running({note.pid})


def stand(workspace: Workspace, name: str, mode: str, **server: object) -> str:
    """A teacher whose server is the stand-in."""
    command = [sys.executable, str(standin.__file__), mode, str(workspace.folder / "lives" / name)]
    return json.dumps(
        {"name": name, "backend": "vllm", "model": "zoo:brief", "family": "llama", "parameters": 2e5}
        | {"server": {"command": command, **server}, "endpoint": {"retry": {"cooldown": 0.01}}}
    )


def lives(workspace: Workspace, name: str) -> list[int]:
    """Pid of each start of a stand-in."""
    path = workspace.folder / "lives" / name
    return [json.loads(line)["pid"] for line in path.read_text().splitlines()] if path.exists() else []


def test_a_server_that_cannot_start_stops_no_other_teacher_and_is_named(workspace: Workspace) -> None:
    write(workspace, stand(workspace, "sick", "dies"), stand(workspace, "well", "good"))
    done = workspace.call("run", workspace.folder / "run.yaml", "--until", "calibrate")
    assert done.returncode == 3, done.stderr
    assert "teacher `sick`: its server ended with exit code 1" in done.stderr
    assert "no memory for the model" in done.stderr
    with workspace.open() as store:
        (job,) = jobs.list(store)
        assert job.state == "needs_attention"
        assert answered(store) == {("well", "ok"): CALIBRATED}
        assert {point.name for point in jobs.metrics(store, job.id)} <= {
            "well kv_cache",
            "well tokens_per_second",
        }
    assert running({*lives(workspace, "sick"), *lives(workspace, "well")}) == []
    write(workspace, stand(workspace, "sick", "good"), stand(workspace, "well", "good"))
    workspace.run("--until", "calibrate")
    with workspace.open() as store:
        assert answered(store) == {("sick", "ok"): CALIBRATED, ("well", "ok"): CALIBRATED}
    assert len(lives(workspace, "well")) == 1  # all its answers were there


def test_a_cancelled_run_leaves_no_server(workspace: Workspace) -> None:
    write(workspace, stand(workspace, "slow", "hang"), stand(workspace, "well", "good"))
    process = workspace.start("run", workspace.folder / "run.yaml")
    wait_until(process, lambda: bool(lives(workspace, "slow")))
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert running(set(lives(workspace, "slow"))) == []
    assert notes(workspace) == []


def test_the_next_engine_ends_what_a_killed_one_left(workspace: Workspace) -> None:
    write(workspace, stand(workspace, "slow", "hang"), stand(workspace, "well", "good"))
    process = workspace.start("run", workspace.folder / "run.yaml")
    wait_until(process, lambda: any(note.pid for note in notes(workspace)) and bool(lives(workspace, "slow")))
    (note,) = notes(workspace)
    # Its own child outlives it, as vLLM's engine process does.
    wait_until(process, lambda: len(running({note.pid})) == 2)
    kill_9(process, note)
    done = workspace.call("run", workspace.folder / "run.yaml", "--until", "calibrate")
    assert done.returncode == 0, done.stderr
    assert "ended the server of `slow`, left by an engine that was killed" in done.stderr
    assert running({note.pid, *lives(workspace, "slow")}) == []
    with workspace.open() as store:
        assert answered(store) == {("slow", "ok"): CALIBRATED, ("well", "ok"): CALIBRATED}


def test_a_server_stays_from_calibration_to_generation_and_beside_a_small_model(workspace: Workspace) -> None:
    brief = '{name: brief, model: "zoo:brief", family: llama, parameters: 2e5}'
    write(workspace, stand(workspace, "near", "good"), brief)
    with (workspace.folder / "run.yaml").open("a") as file:
        file.write("strategies: [persyn, random]\n")
    workspace.run()
    with workspace.open() as store:
        assert answered(store)["near", "ok"] > CALIBRATED
    assert len(lives(workspace, "near")) == 1
    assert running(set(lives(workspace, "near"))) == []
    assert notes(workspace) == []


def test_of_two_servers_on_the_cpu_the_one_that_runs_is_asked_first(workspace: Workspace) -> None:
    write(workspace, stand(workspace, "one", "good"), stand(workspace, "two", "good"))
    with (workspace.folder / "run.yaml").open("a") as file:
        file.write("strategies: [random, oracle]\n")
    workspace.run("--until", "generate")
    assert (len(lives(workspace, "one")), len(lives(workspace, "two"))) == (1, 1)


# The real ones


@pytest.fixture(scope="module")
def smollm2() -> Path:
    folder = zoo.fetched_folder("smollm2-135m")
    if not (folder / zoo.MANIFEST).is_file():
        pytest.skip(f"{folder} is missing: persyn zoo fetch smollm2")
    if not os.environ.get(_command.PYTHON):
        pytest.skip(f"the environment variable {_command.PYTHON} names no interpreter with vLLM")
    return Path(folder)


VARIABLES = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "2"}


def managed(smollm2: Path, name: str, **more: object) -> str:
    return json.dumps(
        {"name": name, "backend": "vllm", "model": str(smollm2), "family": "llama", "parameters": 1.35e8}
        | {"context": 512, "server": {"env": VARIABLES}, **more}
    )


@pytest.fixture(scope="module")
def replicas(smollm2: Path, tmp_path_factory: pytest.TempPathFactory):
    """Two servers of one model, as somebody else would have started them."""
    from engine.backends._server import Server, free_port

    folder = tmp_path_factory.mktemp("replicas")
    started = []
    for number in range(2):
        port = free_port()
        options = {"served-model-name": "smol", "host": "127.0.0.1", "port": port, "max-model-len": 512}
        command = _command.arguments(_command.find(), str(smollm2), {**options, "enforce-eager": True}, ())
        variables = _command.environment({**VARIABLES, "VLLM_API_KEY": "remote-key"})
        log = folder / f"{number}.log"
        started.append(Server("smol", command, variables, port=port, key="remote-key", log=log, notes=folder))
    try:
        for server in started:
            assert server.wait_ready(600, lambda: False)
        yield started
    finally:
        for server in started:
            server.stop()


@pytest.mark.real
@pytest.mark.timeout(1500)
def test_smollm2_managed_and_remote_with_two_replicas(workspace, smollm2, replicas) -> None:
    urls = [server.url for server in replicas]
    remote = {"name": "far", "backend": "openai", "model": "smol", "base_url": urls, "api_key_env": "FAR_KEY"}
    # One more at a time would never reach the second replica's limit.
    remote |= {"family": "llama", "parameters": 1.35e8, "endpoint": {"concurrency": {"start": 2, "max": 4}}}
    workspace.environment["FAR_KEY"] = "remote-key"
    write(workspace, managed(smollm2, "near", system="Reply with the answer only."), json.dumps(remote))
    workspace.run("--until", "calibrate")
    with workspace.open() as store:
        found = answered(store)
        assert sum(found.values()) == 2 * CALIBRATED
        assert {status for _, status in found} <= {"ok", "truncated"}
        (job,) = jobs.list(store)
        points = {point.name: point.value for point in jobs.metrics(store, job.id)}
    assert points["near kv_cache"] is not None
    assert max(points["near tokens_per_second"] or 0, 0) >= 0
    served = [
        server.log.read_text(encoding="utf-8").count('POST /v1/chat/completions HTTP/1.1" 200')
        for server in replicas
    ]
    assert sum(served) == CALIBRATED
    assert min(served) > 3
    assert notes(workspace) == []


@pytest.mark.real
@pytest.mark.timeout(1500)
def test_kill_9_with_vllm_in_the_middle_leaves_no_orphan_and_asks_only_for_what_is_missing(
    workspace, smollm2
) -> None:
    few = {"concurrency": {"start": 2, "max": 2}}
    near = managed(smollm2, "near", endpoint=few)
    write(workspace, near, '{name: brief, model: "zoo:brief", family: llama, parameters: 2e5}')
    log = workspace.folder / "store.files" / "logs" / "vllm-near.log"

    def stored() -> int:
        with suppress(PersynError), workspace.open() as store:
            return sum(count for (name, _), count in answered(store).items() if name == "near")
        return 0

    def served() -> int:
        return log.read_text(encoding="utf-8").count('POST /v1/chat/completions HTTP/1.1" 200')

    process = workspace.start("run", workspace.folder / "run.yaml", "--until", "calibrate")
    wait_until(process, lambda: workspace.database.exists() and 2 < stored() < CALIBRATED - 6, seconds=600)
    (note,) = notes(workspace)
    kill_9(process, note)
    before, kept = served(), stored()
    assert kept < CALIBRATED
    done = workspace.call("run", workspace.folder / "run.yaml", "--until", "calibrate", timeout=900)
    assert done.returncode == 0, done.stderr
    assert running({note.pid}) == []
    assert "ended the server of `near`, left by an engine that was killed" in done.stderr
    assert stored() == CALIBRATED
    # Never what was stored; asked again is what was in flight, and answers that came since the last commit.
    assert served() - before == CALIBRATED - kept
    said = re.search(r"(\d+) requests were in flight", done.stderr)
    assert said is not None
    assert 1 <= int(said[1]) <= 2
    print(f"{kept} stored, {said[1]} in flight, {before - kept} answered and not yet stored")
    assert notes(workspace) == []
