"""Runs with teachers that vLLM serves: with a stand-in for its command, and with vLLM itself and SmolLM2."""

import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import suppress

import forked
import psutil
from support import RUN, Workspace, wait_until
from teachers import standin

from engine.teachers.vllm_server import orphans
from storage import jobs, schema
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


def notes(workspace: Workspace) -> list[orphans.Note]:
    folder = workspace.folder / "store.files" / orphans.FOLDER
    found = []
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError):
            found.append(orphans.Note(**json.loads(path.read_text(encoding="utf-8"))))
    return found


def kill_9(process: forked.Process, note: orphans.Note) -> None:
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
        (job,) = jobs.recent(store)
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
