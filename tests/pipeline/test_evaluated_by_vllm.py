"""The student on a vLLM server: with a stand-in for its command, and with vLLM itself and SmolLM2."""

import json
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pipeline.test_vllm import lives, notes, running
from support import RUN, Workspace, wait_until
from teachers import standin

from engine.config.vllm import ServerConfig
from engine.generation.student_server import StudentServer
from engine.teachers import teacher_kinds
from engine.teachers.kinds import transformers
from engine.teachers.local.decode import Row
from engine.teachers.local.encoding import Encoder
from engine.teachers.vllm_server import command as _command
from engine.zoo import resolve
from storage import jobs, prompts, results
from storage.records import Evaluation, Model, Request, Sampling

BEFORE, AFTER = "pupil-before", "pupil-persyn"
HEARD_S = 5.0


def write(workspace: Workspace, mode: str, more: str = "", **server: object) -> None:
    """The small run whose student is served by the stand-in."""
    command = [sys.executable, str(standin.__file__), mode, str(workspace.folder / "lives" / "pupil")]
    given = json.dumps({"backend": "vllm", "bootstrap": 200, "server": {"command": command, **server}})
    workspace.write(RUN.replace("evaluation: {bootstrap: 200}", f"evaluation: {given}") + more)


def evaluations(workspace: Workspace) -> list[Evaluation]:
    with workspace.open() as store:
        return results.evaluations(store)


def started(workspace: Workspace) -> list[dict[str, Any]]:
    """Each start of the stand-in."""
    path = workspace.folder / "lives" / "pupil"
    return [json.loads(line) for line in path.read_text().splitlines()]


def option(life: dict[str, Any], name: str) -> str:
    return str(life["arguments"][life["arguments"].index(name) + 1])


def test_each_student_has_a_server_that_is_given_the_token_ids_of_transformers(
    copied: Workspace,
) -> None:
    (measured, trained) = evaluations(copied)
    write(copied, "good")
    report = copied.finish()
    assert [option(life, "--served-model-name") for life in started(copied)] == [BEFORE, AFTER]
    assert option(started(copied)[0], "--dtype") == "float32"
    assert option(started(copied)[1], "--model").endswith("/merged")
    assert running({life["pid"] for life in started(copied)}) == []
    assert notes(copied) == []
    # What transformers measured stands beside it: neither is taken for the other.
    old, older, before, after = evaluations(copied)
    assert [old, older] == [measured, trained]
    assert {one.summary["backend"] for one in (before, after)} == {"vllm"}
    assert {one.summary["backend"] for one in (old, older)} == {"transformers"}
    (row,) = report["strategies"]
    assert row["accuracy_before"] == before.summary["accuracy"]

    asked = [json.loads(line) for line in (copied.folder / "lives/pupil.asked").read_text().splitlines()]
    student = Model("pupil", "student", "transformers", "zoo:student")
    tokenizer = transformers.tokenizer(student)
    encoder = Encoder(tokenizer, None, None)
    with copied.open() as store:
        found = results.results(store, before.id)
        rows = [
            encoder.row(Request(prompt.id or 0, prompt.messages, Sampling(max_tokens=40)))
            for prompt in prompts.iterate(store, before.prompt_set_id, ("evaluation",))
        ]
    wanted = sorted(list(row.prompt) for row in rows if isinstance(row, Row))
    assert sorted(body["prompt"] for body in asked[:10]) == wanted
    assert sorted(body["prompt"] for body in asked[10:]) == wanted
    assert sorted(int(row.text) for row in found) == sorted(map(len, wanted))
    assert len(asked) == 20
    assert {body["temperature"] for body in asked} == {0}
    assert all(tokenizer.eos_token_id in body["stop_token_ids"] for body in asked)

    copied.finish()  # all is measured: no server is started
    assert len(started(copied)) == 2


def test_an_adapter_that_is_not_merged_is_served_beside_its_base(workspace: Workspace) -> None:
    write(workspace, "good")
    path = workspace.folder / "run.yaml"
    path.write_text(path.read_text().replace("rank: 4}", "rank: 4, merge: false}"))
    workspace.finish()
    before, after = started(workspace)
    assert "--enable-lora" not in before["arguments"]
    assert option(after, "--max-lora-rank") == "8"
    module = json.loads(option(after, "--lora-modules"))
    assert module["name"] == f"{AFTER}-adapter"
    assert (Path(module["path"]) / "adapter_config.json").is_file()
    asked = [json.loads(line) for line in (workspace.folder / "lives/pupil.asked").read_text().splitlines()]
    assert {body["model"] for body in asked} == {BEFORE, module["name"]}


def test_a_stop_is_heard_while_the_server_starts(copied: Workspace) -> None:
    write(copied, "silent")
    process = copied.start("run", copied.folder / "run.yaml")
    wait_until(process, lambda: bool(lives(copied, "pupil")))
    shown = []

    def seen() -> bool:
        with copied.open() as store:
            rows = jobs.recent(store, limit=1)[0].progress.get("rows", {})
        note = rows.get("before", {}).get("note", "")
        if note and note not in shown:
            shown.append(note)
        return len(shown) > 1

    wait_until(process, seen)  # seconds that move
    assert all(note.startswith("vLLM starts") for note in shown)
    began = time.monotonic()
    assert copied.call("cancel", jobs_id(copied)).returncode == 0
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < HEARD_S + 2  # the command's own start
    assert running(set(lives(copied, "pupil"))) == []
    assert notes(copied) == []


def jobs_id(workspace: Workspace) -> int:
    with workspace.open() as store:
        return jobs.recent(store, limit=1)[0].id


def test_a_server_that_refuses_is_no_wrong_answer(copied: Workspace) -> None:
    write(copied, "refuses")
    code, job, _ = copied.work()
    assert code == 3
    assert "gave no answer" in job.error
    assert "stop_token_ids are out of range" in job.error
    with copied.open() as store:
        unmeasured = [one for one in results.evaluations(store) if not one.complete]
        assert [results.count_results(store, one.id) for one in unmeasured] == [0]
    assert running(set(lives(copied, "pupil"))) == []
    write(copied, "good")
    copied.finish()
    assert all(one.complete for one in evaluations(copied))


@pytest.mark.real
@pytest.mark.timeout(900)
def test_vllm_gives_the_answers_of_transformers(tmp_path: Path) -> None:
    folder = resolve.fetched_folder("smollm2-135m")
    if not (folder / resolve.MANIFEST).is_file():
        pytest.skip(f"{folder} is missing: persyn zoo fetch smollm2")
    if not os.environ.get(_command.PYTHON):
        pytest.skip(f"the environment variable {_command.PYTHON} names no interpreter with vLLM")
    student = Model("pupil", "student", "transformers", str(folder), context=1024, options={"device": "cpu"})
    asked = [
        Request(
            number,
            ({"role": "user", "content": f"What is {number} + {number + 3}? Explain it in a sentence."},),
            Sampling(temperature=0, max_tokens=32),
        )
        for number in range(1, 13)
    ]
    server = ServerConfig(env={"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "2"})
    with closing(StudentServer(student, "pupil-before", server, tmp_path)) as served:
        found = {response.key: response for response in served.generate(asked)}
    with closing(teacher_kinds.open_backend(student)) as local:
        expected = {response.key: response for response in local.generate(asked)}
    assert {key: one.prompt_tokens for key, one in found.items()} == {
        key: one.prompt_tokens for key, one in expected.items()
    }
    same = [key for key, one in found.items() if one.text == expected[key].text]
    assert len(same) >= 10, [(found[key].text, expected[key].text) for key in found if key not in same]
    assert {found[key].status for key in same} <= {"ok", "truncated"}
    assert all(found[key].completion_tokens == expected[key].completion_tokens for key in same)
    assert not notes_in(tmp_path)


def notes_in(folder: Path) -> list[Path]:
    return list((folder / "servers").glob("*.json"))
