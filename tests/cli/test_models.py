"""`persyn models`: registering, hiding and bringing back; nothing broken is registered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config import run_file
from engine.registry import models, run_files
from storage import registry as stored_models
from storage.records import Model
from storage.store import Store

Persyn = Callable[..., Any]


def test_a_model_is_added_hidden_and_brought_back(persyn: Persyn) -> None:
    ran = persyn("models", "add", "--name", "terse", "--model", "zoo:brief", "--system", "Short.", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["family"], ran.json["role"], ran.json["system"]) == ("llama", "teacher", "Short.")
    assert ran.json["parameters"] > 100_000
    assert [model["name"] for model in persyn("models", "list", "--json").json] == ["terse"]
    archived = persyn("models", "archive", "terse")
    assert "undo: persyn models restore terse" in archived.err
    assert persyn("models", "list", "--json").json == []
    assert [model["archived"] for model in persyn("models", "list", "--archived", "--json").json] == [True]
    assert persyn("models", "restore", "terse").code == 0
    assert [model["name"] for model in persyn("models", "list", "--json").json] == ["terse"]


def test_new_settings_of_a_name_come_forward_and_are_hidden_with_the_old(persyn: Persyn) -> None:
    first = persyn("models", "add", "--name", "t", "--model", "zoo:brief", "--json").json
    again = persyn("models", "add", "--name", "t", "--model", "zoo:brief", "--price-output", "2", "--json")
    assert again.json["id"] == first["id"]  # a price shapes no answer
    other = persyn("models", "add", "--name", "t", "--model", "zoo:brief", "--temperature", "0", "--json")
    assert other.json["id"] != first["id"]
    assert "other settings" in other.err
    assert [m["id"] for m in persyn("models", "list", "--json").json] == [other.json["id"]]
    persyn("models", "archive", "t")
    assert persyn("models", "list", "--json").json == []


def test_a_name_in_two_roles_needs_the_role(persyn: Persyn) -> None:
    for role in ("teacher", "student"):
        assert persyn("models", "add", "--name", "x", "--model", "zoo:student", "--role", role).code == 0
    ran = persyn("models", "archive", "x")
    assert ran.code == 2
    assert "--role" in ran.err
    assert persyn("models", "archive", "x", "--role", "student").code == 0
    assert [m["role"] for m in persyn("models", "list", "--json").json] == ["teacher"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "zoo:breif"], "did you mean zoo:brief"),
        (["--model", "./nowhere"], "does not exist"),
        (["--model", "zoo:brief", "--temperature", "-1"], "--temperature"),
        (["--model", "m", "--backend", "openay"], "did you mean `openai`?"),
        (["--model", "./nowhere", "--backend", "vllm"], "does not exist"),
        (
            ["--model", "zoo:brief", "--backend", "vllm", "--base-url", "http://a/v1"],
            "has no option 'base_url'",
        ),
        (["--model", "m", "--backend", "openai"], "has no `base_url`"),
        (["--model", "zoo:brief", "--api-key-env", "sk-ant-123!"], "never the key itself"),
        (["--model", "zoo:brief", "--role", "boss"], "boss"),
    ],
)
def test_what_cannot_work_is_refused(options: list[str], words: str, persyn: Persyn) -> None:
    ran = persyn("models", "add", "--name", "x", *options)
    assert ran.code == 2
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_a_folder_without_a_chat_template_is_refused(persyn: Persyn, tmp_path: Path) -> None:
    from engine.zoo import resolve

    source, folder = Path(resolve.resolve("zoo:brief")), tmp_path / "plain"
    folder.mkdir()
    for file in source.iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    ran = persyn("models", "add", "--name", "x", "--model", "./plain")
    assert ran.code == 2
    assert "no chat template" in ran.err


def test_an_unknown_name_gets_the_nearest(persyn: Persyn) -> None:
    persyn("models", "add", "--name", "terse", "--model", "zoo:brief")
    for command in ("archive", "restore", "probe"):
        ran = persyn("models", command, "tersse")
        assert ran.code == 2
        assert "did you mean `terse`?" in ran.err


def test_a_probe_generates_one_real_token(persyn: Persyn) -> None:
    persyn("models", "add", "--name", "terse", "--model", "zoo:brief", "--system", "Short.")
    data = persyn("models", "probe", "terse", "--prompt", "-2 + 5?", "--json").json
    assert "Short." in data["rendered"]
    assert "-2 + 5?" in data["rendered"]
    assert data["token"]
    assert data["latency_s"] > 0


RUN = """
student: pupil
teachers: [terse, {name: spell, model: "zoo:speller"}]
prompts: [{source: reasoning_gym, task: gcd, size: 40}]
split: {calibration: 10, validation: 0}
generation: {temperature: 0.1}
"""


def test_a_bare_name_in_a_run_file_is_the_registered_model(persyn: Persyn, tmp_path: Path) -> None:
    add = ("models", "add", "--model", "zoo:brief", "--name")
    assert persyn(*add, "terse", "--system", "Short.", "--top-p", "0.5", "--price-output", "2").code == 0
    assert persyn("models", "add", "--model", "zoo:student", "--name", "pupil", "--role", "student").code == 0
    (tmp_path / "run.yaml").write_text(RUN)
    run = run_files.load(tmp_path / "run.yaml", str(tmp_path / "store.db"))
    with Store.open(tmp_path / "store.db") as store:
        stored = stored_models.get(store, "terse", "teacher")
        pupil = stored_models.get(store, "pupil", "student")
    made = models.teacher(run.teachers[0], run.generation)
    assert models.identity_sha(made) == models.identity_sha(stored)
    assert (made.system, made.price_output, made.sampling) == ("Short.", 2.0, stored.sampling)
    assert models.student_identity(models.student(run)) == models.student_identity(pupil)
    assert run.teachers[1].name == "spell"
    assert run_file.Run.model_validate(run.model_dump(mode="json")) == run


@pytest.mark.parametrize("command", [("run", "--dry-run"), ("relabel", "--alpha", "1"), ("doctor",)])
def test_a_bare_name_that_is_not_registered_names_the_nearest(
    command: tuple[str, ...], persyn: Persyn, tmp_path: Path
) -> None:
    assert persyn("models", "add", "--model", "zoo:brief", "--name", "ters").code == 0
    (tmp_path / "run.yaml").write_text(RUN)
    ran = persyn(command[0], "run.yaml", *command[1:])
    assert ran.code == 2, ran.err
    assert "teacher `terse`: not registered in" in ran.err
    assert "did you mean `ters`?" in ran.err


def test_the_list_shows_what_a_models_files_say(persyn: Persyn, tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        of_a_run = Model("br", "teacher", "transformers", "zoo:brief")
        stored_models.put(store, of_a_run, "x", by_run=True)
        stored_models.put(store, Model("gone", "teacher", "transformers", str(tmp_path / "none")), "y")
    for line in persyn("models", "list").out.splitlines():
        if " zoo:brief " in line:
            assert " 256 " in line
            assert " llama " in line
            assert "–" not in line.partition("system")[0].split("0/0")[0]
    assert " llama " in persyn("models", "list").out
    assert persyn("models", "list", "--json").json[0]["context"] is None, "as it is stored"


def test_what_generation_says_and_registered_teachers_have_otherwise_is_said(
    persyn: Persyn, tmp_path: Path
) -> None:
    for name in ("br", "sp"):
        assert persyn("models", "add", "--model", "zoo:brief", "--name", name).code == 0
    (tmp_path / "run.yaml").write_text(
        "student: zoo:student\nteachers: [br, sp, {name: own, model: 'zoo:adder', sampling: {max_tokens: 9}}]\n"
        "prompts: [{source: reasoning_gym, task: gcd, size: 400}]\nstrategies: [strong]\n"
        "generation: {max_tokens: 64, temperature: 0.7}\n"
    )
    said = "teachers br, sp have sampling of their own, max_tokens 1,024: `generation.max_tokens` (64) is not for them"
    dry = persyn("run", "--dry-run", "run.yaml")
    assert said in dry.err
    assert "temperature" not in dry.err
    assert persyn("run", "--dry-run", "run.yaml", "--json").json["notes"] == [said]
