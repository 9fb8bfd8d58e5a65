"""The vLLM backend against a stand-in for its command: started, watched, started again, stopped for good."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.base.errors import ConfigError, EndpointError, NotAvailable
from engine.config.vllm import ServerConfig
from engine.generation import workers
from engine.teachers import teacher_kinds
from engine.teachers.kinds import vllm
from engine.teachers.vllm_server import command as _command
from engine.teachers.vllm_server import orphans, watch
from engine.teachers.vllm_server.managed import ManagedBackend
from engine.zoo import resolve
from storage.records import Model, Request, Sampling

STANDIN = Path(__file__).with_name("standin.py")
TAKEN = [sys.executable, "-c", "import sys; sys.exit('OSError: [Errno 98] Address already in use')"]


@dataclass
class Stand:
    """A teacher whose server is the stand-in."""

    folder: Path
    opened: list[ManagedBackend] = field(default_factory=list)

    @property
    def lives(self) -> list[dict[str, Any]]:
        """What each start was: its pid and arguments."""
        path = self.folder / "lives"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def model(self, mode: str, endpoint: dict[str, Any] | None = None, **server: Any) -> Model:
        command = [sys.executable, str(STANDIN), mode, str(self.folder / "lives")]
        options = {"server": {"command": command, **server}}
        if endpoint:
            options["endpoint"] = endpoint
        return Model("t", "teacher", "vllm", "zoo:brief", context=100, options=options)

    def open(self, mode: str, endpoint: dict[str, Any] | None = None, **server: Any) -> ManagedBackend:
        backend = teacher_kinds.open_backend(self.model(mode, endpoint, **server), self.folder)
        assert isinstance(backend, ManagedBackend)
        self.opened.append(backend)
        return backend

    @property
    def log(self) -> str:
        return (self.folder / "logs" / "vllm-t.log").read_text()


@pytest.fixture
def stand(tmp_path: Path):
    found = Stand(tmp_path)
    yield found
    for backend in found.opened:
        backend.close()
    assert living(found) == []
    assert not list((tmp_path / orphans.FOLDER).glob("*.json"))


def living(stand: Stand) -> list[int]:
    """Processes of every start that still run, by the session that they are in."""
    sessions = {life["pid"] for life in stand.lives}
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (OSError, psutil.Error):
            continue
    return found


def requests(count: int, max_tokens: int = 8) -> list[Request]:
    return [
        Request(key, ({"role": "user", "content": f"say {key}"},), Sampling(max_tokens=max_tokens))
        for key in range(count)
    ]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came"
        time.sleep(0.01)


def test_a_server_is_started_asked_and_stopped(stand: Stand) -> None:
    backend = stand.open("good")
    assert stand.lives == []
    found = {completion.key: completion for completion in backend.generate(requests(30, max_tokens=1000))}
    assert {key: found[key].text for key in found} == {key: f"say {key}"[::-1] for key in range(30)}
    # What no answer could reach is not asked for: the context is 100.
    assert {completion.prompt_tokens for completion in found.values()} == {100}
    assert next(iter(backend.generate(requests(1)))).status == "ok"
    (life,) = stand.lives
    arguments = life["arguments"]
    assert arguments[:2] == ["--model", resolve.resolve("zoo:brief")]
    assert "--enable-prefix-caching" in arguments
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert arguments[arguments.index("--max-model-len") + 1] == "100"
    assert len(living(stand)) == 2
    backend.close()
    backend.close()
    assert living(stand) == []
    assert "API_KEY" not in stand.log
    assert "api-key" not in stand.log
    assert (stand.folder / "logs" / "vllm-t.log").stat().st_mode & 0o077 == 0


def test_one_that_dies_at_its_start_says_its_last_lines(stand: Stand) -> None:
    with pytest.raises(EndpointError, match="ended with exit code 1 before it answered") as caught:
        list(stand.open("dies").generate(requests(1)))
    assert "no memory for the model" in caught.value.message
    assert str(stand.folder / "logs" / "vllm-t.log") in caught.value.remedy
    assert len(stand.lives) == 1


@pytest.mark.parametrize(("mode", "kept"), [("dies", True), ("good", False)])
def test_a_log_file_without_a_store_is_kept_where_somebody_must_read_it(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, mode: str, kept: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(stand.folder))
    with closing(teacher_kinds.open_backend(stand.model(mode))) as backend:
        if kept:
            with pytest.raises(EndpointError) as caught:
                list(backend.generate(requests(1)))
        else:
            list(backend.generate(requests(1)))
    logs = list(stand.folder.glob("persyn-vllm-*/logs/vllm-t.log"))
    assert bool(logs) == kept
    if kept:
        assert str(logs[0]) in caught.value.remedy
        assert "no memory for the model" in logs[0].read_text()


def test_a_port_that_is_always_taken_is_given_up(stand: Stand) -> None:
    taken = Model("t", "teacher", "vllm", "zoo:brief", options={"server": {"command": TAKEN}})
    with (
        closing(teacher_kinds.open_backend(taken, stand.folder)) as backend,
        pytest.raises(EndpointError, match="ended with exit code 1"),
    ):
        list(backend.generate(requests(1)))
    assert stand.log.count("\n== ") == 5


def test_a_server_whose_note_cannot_be_kept_is_ended(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    write = orphans.Note.write

    def full(self: orphans.Note, folder: Path) -> None:
        if self.pid:
            raise OSError(28, "No space left on device")
        write(self, folder)

    monkeypatch.setattr(orphans.Note, "write", full)
    with pytest.raises(EndpointError, match=r"cannot be started: .*No space left"):
        list(stand.open("silent").generate(requests(1)))


def test_one_that_never_answers_is_given_up_in_time(stand: Stand) -> None:
    with pytest.raises(EndpointError, match="did not answer within 1 s") as caught:
        list(stand.open("silent", start_timeout=1).generate(requests(1)))
    assert "start_timeout" in caught.value.remedy


def test_a_command_that_cannot_run_is_an_error_of_the_teacher(stand: Stand) -> None:
    with pytest.raises(NotAvailable, match="there is no command '/no/such'"):
        teacher_kinds.open_backend(
            Model("t", "teacher", "vllm", "zoo:brief", options={"server": {"command": ["/no/such"]}})
        )


@pytest.mark.parametrize(("mode", "options"), [("crash", {}), ("hang", {"stall_timeout": 3})])
def test_one_that_fails_in_the_middle_is_started_again_and_nothing_answered_is_asked_again(
    stand: Stand, mode: str, options: dict[str, Any]
) -> None:
    backend = stand.open(mode, {"concurrency": {"start": 3, "max": 3}}, **options)
    found = list(backend.generate(requests(40)))
    assert sorted(completion.key for completion in found) == list(range(40))
    assert {completion.status for completion in found} == {"ok"}
    assert len(stand.lives) == 2
    assert 1 <= backend.traffic().retries <= 3 + 2 * 3


def test_one_that_fails_again_and_again_is_given_up_with_the_reason(stand: Stand) -> None:
    backend = stand.open("crashes", {"concurrency": {"start": 1, "max": 1}}, restarts=1)
    kept: list[int] = []
    with pytest.raises(EndpointError, match="its server was ended by SIGKILL") as caught:
        kept.extend(completion.key for completion in backend.generate(requests(30)))
    assert kept == list(range(8))
    assert "Segmentation fault in life 2" in caught.value.message
    assert "started 2 times" in caught.value.remedy


def test_an_ill_server_that_stays_is_ended_and_started_again(stand: Stand) -> None:
    backend = stand.open(
        "broken",
        {"concurrency": {"start": 1, "max": 1}, "retry": {"cooldown": 0.01, "probes": 1}},
        restarts=1,
    )
    with pytest.raises(EndpointError, match="its server is ill") as caught:
        list(backend.generate(requests(20)))
    assert "EngineCore encountered an issue" in caught.value.message
    assert len(stand.lives) == 2


@pytest.mark.parametrize("mode", ["silent", "hang"])
def test_closing_from_another_thread_ends_it_at_once(stand: Stand, mode: str) -> None:
    backend = stand.open(mode)
    ended = threading.Thread(target=lambda: list(backend.generate(requests(20))))
    ended.start()
    if mode == "silent":
        until(lambda: "vLLM starts" in backend.traffic().note)
    until(lambda: len(stand.lives) == 1 and (mode == "silent" or backend.traffic().in_flight > 0))
    began = time.monotonic()
    backend.close()
    ended.join(20)
    assert not ended.is_alive()
    assert time.monotonic() - began < 20


def test_its_own_figures_come_from_metrics(stand: Stand) -> None:
    backend = stand.open("good")
    list(backend.generate(requests(3)))
    seen: dict[str, float] = {}
    until(lambda: bool(seen.update(backend.gauges()) or len(seen) == 2))
    assert seen["kv_cache"] == 0.25
    assert seen["tokens_per_second"] >= 0


def test_figures_of_several_engines_are_added_up() -> None:
    page = (
        "# HELP vllm:x x\n"
        'vllm:generation_tokens_total{engine="0",model_name="a b"} 3.0\n'
        'vllm:generation_tokens_total{engine="1",model_name="a b"} 1.5e+03\n'
    )
    assert watch.figures(page) == {"vllm:generation_tokens_total": 1503.0}


ENGINE = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from storage.records import Model
from teachers.test_vllm import Stand, requests
stand = Stand(Path({folder!r}))
backend = stand.open("good")
list(backend.generate(requests(2)))
print("ready", flush=True)
time.sleep(600)
"""


def test_the_server_of_a_killed_engine_is_found_and_ended_and_that_of_a_living_one_is_not(
    stand: Stand,
) -> None:
    code = ENGINE.format(tests=str(STANDIN.parents[1]), folder=str(stand.folder))
    engine = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        notes = stand.folder / orphans.FOLDER
        assert orphans.sweep(notes) == []
        assert len(living(stand)) == 2
        # Its server cannot end by itself, as a hung one cannot.
        server = psutil.Process(stand.lives[0]["pid"])
        server.suspend()
    finally:
        engine.kill()
        engine.communicate()
    assert orphans.sweep(notes) == ["t"]
    assert living(stand) == []
    assert list(notes.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_on_linux_the_server_ends_with_its_engine(stand: Stand) -> None:
    code = ENGINE.format(tests=str(STANDIN.parents[1]), folder=str(stand.folder))
    engine = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert engine.stdout is not None
    assert engine.stdout.readline() == "ready\n"
    engine.kill()
    engine.communicate()
    until(lambda: living(stand) == [])
    assert orphans.sweep(stand.folder / orphans.FOLDER) == []


def test_a_note_of_another_boot_or_another_machine_harms_nobody(tmp_path: Path) -> None:
    ours = psutil.Process()
    note = orphans.Note("t", "x", "elsewhere", orphans.boot(), 1, 0.0, ours.pid, orphans.started(ours.pid))
    note.write(tmp_path)
    assert orphans.sweep(tmp_path) == []
    assert note.path(tmp_path).exists()
    (tmp_path / "y.json").write_text("{")
    reused = orphans.note("t", "z")
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        # The number of a server that ended long ago belongs to somebody else now.
        older = orphans.Note(**{**vars_of(reused), "engine": 2**22 + 1, "pid": sleeper.pid, "started": 1.0})
        older.write(tmp_path)
        assert orphans.sweep(tmp_path) == []
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def vars_of(note: orphans.Note) -> dict[str, Any]:
    return {name: getattr(note, name) for name in orphans.Note.__dataclass_fields__}


# Where it runs


def teacher(name: str, *gpus: int, backend: str = "vllm") -> Model:
    return Model(name, "teacher", backend, "m", options={"server": {"gpus": gpus}} if gpus else {})


def test_teachers_on_different_gpus_answer_side_by_side() -> None:
    def shared(*models: Model) -> list[list[str]]:
        works = [workers.Work(column, lambda place: [], lambda: 1) for column in range(len(models))]
        return [[models[work.column].name for work in lane] for lane in workers.share(models, works)]

    far = Model("far", "teacher", "openai", "m")
    a, b, ab, c = teacher("a", 0), teacher("b", 1), teacher("ab", 0, 1), teacher("c", 2)
    assert shared(a, far, b) == [["a"], ["b"], ["far"]]
    assert shared(a, b, c, ab) == [["c"], ["a", "b", "ab"]]
    assert shared(a, teacher("anywhere"), b) == [["a", "anywhere", "b"]]
    assert shared(a, teacher("here", backend="transformers")) == [["a", "here"]]
    assert shared(far) == [["far"]]


# Its command and settings


def test_the_model_stands_where_the_command_wants_it() -> None:
    options = {"port": 1, "flag": True, "none": None}
    line = _command.arguments(("vllm", "serve"), "m", options, ("--x",))
    assert line == ["vllm", "serve", "m", "--port", "1", "--flag", "--x"]
    assert _command.arguments(("python", *_command.MODULE), "m", {}, ())[-2:] == ["--model", "m"]


def test_an_interpreter_without_vllm_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(_command.PYTHON, sys.executable)
    with pytest.raises(NotAvailable, match="cannot import vllm") as caught:
        _command.find()
    assert "persyn[vllm]" in caught.value.remedy
    assert _command.PYTHON in caught.value.remedy
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert _command.find([str(program)]) == (str(program), "serve")
    assert _command.find([str(program), "serve", "-x"]) == (str(program), "serve", "-x")


def test_a_server_s_environment_is_ours_without_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSYN_STORE", "postgresql://me:secret@db/x")
    monkeypatch.setenv("KEPT", "1")
    found = _command.environment({"VLLM_CPU_KVCACHE_SPACE": "1"})
    assert "PERSYN_STORE" not in found
    assert (found["KEPT"], found["VLLM_CPU_KVCACHE_SPACE"]) == ("1", "1")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"args": ["--port=1"]}, "is set by the engine"),
        ({"args": ["--api_key", "x"]}, "is set by the engine"),
        ({"gpus": [0, 0]}, "twice"),
        ({"gpus": [0], "tensor_parallel": 2}, "`gpus` names 1"),
        ({"gpu": [0]}, "gpu"),
    ],
)
def test_settings_that_cannot_work(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        vllm.settings(Model("t", "teacher", "vllm", "m", options={"server": wrong}))
    assert ServerConfig(gpus=(1, 2)).width == 2


def test_identity_is_what_shapes_an_answer() -> None:
    def identity(**options: Any) -> dict[str, Any]:
        return vllm.identity(Model("t", "teacher", "vllm", "zoo:brief", options=options))

    plain = identity()
    assert identity(server={"env": {"A": "1"}, "gpus": [1], "command": ["x"], "restarts": 0}) == plain
    assert identity(endpoint={"concurrency": {"start": 1, "max": 1}}) == plain
    assert identity(server={"args": ["--quantization", "fp8"]}) != plain
    assert identity(dtype="float16") != plain
    with pytest.raises(ConfigError, match="has no option 'base_url'"):
        identity(base_url="http://a/v1")
