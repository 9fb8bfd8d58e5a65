"""A package of its own adds a teacher kind, a scorer, a strategy, a source and a verifier; nothing here is edited."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import Workspace

PACKAGE = Path(__file__).parents[1] / "outside_package"
RUN = """
name: outside
student: {name: pupil, model: "zoo:student", family: llama}
teachers:
  - {name: adder, backend: program, model: adder-1, command: [PYTHON, -c, "print(sum(map(int, input().split(' + '))))"]}
  - {name: zero, backend: program, model: zero-1, command: [PYTHON, -c, "print(0)"], timeout_s: 20}
prompts:
  - {source: text_files, folder: questions, verifier: approximate}
split: {calibration: 4, validation: 0, evaluation: 4}
quality: {scorers: [{scorer: exact_answer}, {scorer: brevity, words: 3, weight: 0.2}]}
strategies: [in_turn]
turn_length: 2
generation: {max_tokens: 16, temperature: 0, fallbacks: 0}
distill: {epochs: 1, batch_size: 8, rank: 4}
evaluation: {bootstrap: 200}
"""
OFFERED = """
from engine.config.setting import KINDS
from persyn_tui.app.screens.models.fields import entries
(backend,) = [entry for entry in entries(None) if entry.key == "backend"]
print(*{word for words in KINDS.values() for word in words()}, *backend.control.options)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed into, from a copy: a build writes beside its sources."""
    folder = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source") / "package"
    copy = ["cp", "-r", str(PACKAGE), str(source)]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    for command in (copy, [*pip, "--disable-pip-version-check", "--target", str(folder), str(source)]):
        subprocess.run(command, check=True)
    return folder


@pytest.fixture
def workspace(tmp_path: Path, installed: Path) -> Workspace:
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = Workspace(tmp_path, {"PYTHONPATH": path}, fresh=True)
    (tmp_path / "questions").mkdir()
    for number in range(16):
        (tmp_path / "questions" / f"{number}.txt").write_text(f"{number} + {number * 3}")
        (tmp_path / "questions" / f"{number}.answer").write_text(str(number * 4))
    found.write(RUN.replace("PYTHON", sys.executable))
    return found


def said(workspace: Workspace, *arguments: object) -> str:
    """What a command that must succeed prints."""
    done = workspace.call(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_five_kinds_of_another_package_are_known_and_run_to_the_end(workspace: Workspace) -> None:
    file = workspace.folder / "run.yaml"
    schema = json.loads(said(workspace, "schema"))
    teacher, source = schema["$defs"]["TeacherConfig"], schema["$defs"]["TextFilesSource"]
    assert "program" in teacher["properties"]["backend"]["enum"]
    assert {"command", "timeout_s"} <= teacher["properties"].keys()
    assert "words" in schema["$defs"]["ScorerConfig"]["properties"]
    assert "folder" in source["properties"]
    assert "approximate" in source["properties"]["verifier"]["anyOf"][0]["enum"]
    assert "in_turn" in schema["properties"]["strategies"]["items"]["enum"]
    assert "turn_length" in schema["properties"]

    environment = {**os.environ, **workspace.environment}
    offered = subprocess.run([sys.executable, "-c", OFFERED], env=environment, text=True, capture_output=True)
    assert offered.returncode == 0, offered.stderr
    assert {"program", "brevity", "in_turn", "text_files", "approximate"} <= set(offered.stdout.split())

    dry = json.loads(said(workspace, "run", file, "--dry-run", "--json"))
    assert (dry["n"], dry["evaluation"]) == (12, 4)
    assert "prompts text_files: readable" in " ".join(said(workspace, "doctor", file).split())
    report = workspace.run()
    (strategy,) = report["strategies"]
    assert (strategy["name"], strategy["rows"]) == ("in_turn", 12)


def test_a_wrong_setting_of_another_package_is_named(workspace: Workspace) -> None:
    file = workspace.write(RUN.replace("timeout_s: 20", "timeout: 20"))
    done = workspace.call("run", file)
    assert done.returncode == 2
    assert "did you mean `timeout_s`" in done.stderr
