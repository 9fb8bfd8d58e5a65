"""One run with five real kinds of teacher: vLLM, a server with replicas, a folder, a GGUF file, an adapter."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pipeline.test_vllm import answered, kill_9, notes, running
from sqlalchemy import func, select
from support import Workspace, wait_until
from teachers import gguf_files

from engine.teachers.vllm_server import command as _command
from engine.teachers.vllm_server.server import Server, free_port
from engine.zoo import resolve
from storage import jobs, schema
from storage.errors import PersynError
from storage.records import Model

VARIABLES = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "2"}
CALIBRATED = 8
IN_FLIGHT = 3
"""Requests that may be on their way at once: one to each server."""
ACCESS = "--no-disable-uvicorn-access-log"
RUN = """
name: kinds
student: {name: pupil, model: "zoo:student", family: llama}
teachers:
  - {name: near, backend: vllm, model: %(smollm2)s, context: 512, system: "Reply with the answer only.",
     server: {env: %(env)s, args: ["%(access)s"]}, endpoint: {concurrency: {start: 1, max: 1}}}
  - {name: far, backend: openai, model: smol, base_url: %(urls)s, api_key_env: FAR_KEY,
     endpoint: {concurrency: {start: 1, max: 1}}}
  - {name: folder, model: "zoo:brief", family: llama}
  - {name: packed, model: ./small.gguf}
  - {name: tuned, adapter: ./adapter}
prompts:
  - {source: reasoning_gym, task: spell_backward, size: 20, seed: 9001, options: {min_word_len: 3, max_word_len: 8}}
  - {source: reasoning_gym, task: gcd, size: 20, seed: 9102, options: {min_value: 1, max_value: 40}}
split: {calibration: 6, validation: 2, evaluation: 4}
router: {backbone: "zoo:student", tune: frozen, head_epochs: 20}
generation: {max_tokens: 40, temperature: 0, fallbacks: 0}
distill: {epochs: 1, batch_size: 8, rank: 4}
evaluation: {bootstrap: 200}
strategies: [persyn, random]
"""


@pytest.fixture(scope="module")
def smollm2() -> Path:
    folder = resolve.fetched_folder("smollm2-135m")
    if not (folder / resolve.MANIFEST).is_file():
        pytest.skip(f"{folder} is missing: persyn zoo fetch smollm2")
    if not os.environ.get(_command.PYTHON):
        pytest.skip(f"the environment variable {_command.PYTHON} names no interpreter with vLLM")
    return Path(folder)


@pytest.fixture(scope="module")
def replicas(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two servers of one model, as somebody else would have started them."""
    folder = tmp_path_factory.mktemp("replicas")
    started = []
    for number in range(2):
        port = free_port()
        options = {"served-model-name": "smol", "host": "127.0.0.1", "port": port, "max-model-len": 512}
        command = _command.arguments(_command.find(), str(smollm2), {**options, "enforce-eager": True}, ())
        variables = _command.environment({**VARIABLES, "VLLM_API_KEY": "remote-key"})
        model = Model("smol", "teacher", "vllm", str(smollm2))
        place = folder / str(number)
        started.append(Server(model, command, variables, port=port, key="remote-key", folder=place))
    try:
        for server in started:
            assert server.wait_ready(600, lambda: False)
        yield started
    finally:
        for server in started:
            server.stop()


def served(log: Path) -> int:
    """Requests that a server has answered."""
    return log.read_text(encoding="utf-8").count('POST /v1/chat/completions HTTP/1.1" 200')


@pytest.mark.real
@pytest.mark.timeout(1800)
def test_five_kinds_of_teacher_to_the_end_through_kill_9(
    workspace: Workspace, smollm2: Path, replicas
) -> None:
    gguf_files.convert(gguf_files.folder(workspace.folder / "llama"), workspace.folder / "small.gguf")
    gguf_files.adapted(resolve.resolve("zoo:brief"), workspace.folder / "adapter")
    workspace.environment["FAR_KEY"] = "remote-key"
    urls = json.dumps([server.url for server in replicas])
    filled = {"smollm2": smollm2, "env": json.dumps(VARIABLES), "access": ACCESS, "urls": urls}
    workspace.write(RUN % filled)
    near_log = workspace.folder / "store.files" / "logs" / "vllm-near.log"

    def stored() -> Counter[str]:
        with workspace.open() as store:
            found = answered(store)
        return Counter({name: sum(n for (who, _), n in found.items() if who == name) for name, _ in found})

    def asked() -> dict[str, int]:
        return {"near": served(near_log), "far": sum(served(server.log) for server in replicas)}

    def job() -> Any:
        with workspace.open() as store:
            return jobs.recent(store)[0]

    def in_the_middle() -> bool:
        """Both servers have answered in the stage `generate`, and both are being asked."""
        with suppress(PersynError, LookupError):
            if workspace.database.exists() and (now := job()).stage == "generate":
                rows, kept = now.progress["rows"], stored()
                return all(kept[name] > CALIBRATED and rows[name]["in_flight"] for name in ("near", "far"))
        return False

    process = workspace.start("run", workspace.folder / "run.yaml")
    wait_until(process, in_the_middle, seconds=900)
    (note,) = notes(workspace)
    kill_9(process, note)
    before, kept = asked(), stored()
    done = workspace.call("run", workspace.folder / "run.yaml", "--json", timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert all(row["accuracy_after"] is not None for row in report["strategies"])
    assert "ended the server of `near`, left by an engine that was killed" in done.stderr
    assert running({note.pid}) == []
    assert notes(workspace) == []
    after, whole = asked(), stored()
    assert min(whole[name] for name in ("near", "far", "folder", "packed", "tuned")) >= CALIBRATED
    row = schema.ResponseRow
    with workspace.open() as store, store.read() as connection:
        pairs = connection.execute(select(row.prompt_id, row.teacher_id).distinct()).all()
        assert len(pairs) == connection.execute(select(func.count()).select_from(row)).scalar_one()
        points = {point.name for point in jobs.metrics(store, job().id)}
    assert {"near kv_cache", "near tokens_per_second"} <= points
    assert min(served(server.log) for server in replicas) >= 2
    # One start each before and after the kill: the server stays from calibration to generation.
    assert near_log.read_text(encoding="utf-8").count("\n== ") == 2
    said = re.search(r"(\d+) requests were in flight", done.stderr)
    assert said is not None
    unstored = 0
    for name in ("near", "far"):
        # Asked for again is what was in flight or had come within the moment before the kill, nothing that is stored.
        assert after[name] - before[name] == whole[name] - kept[name]
        unstored += before[name] - kept[name]
    assert 1 <= int(said[1]) <= IN_FLIGHT
    assert unstored <= 1
    print(
        f"{sum(kept.values())} stored at the kill, {said[1]} sent again, {unstored} of them answered before"
    )
