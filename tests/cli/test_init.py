"""`persyn init`: a run file of what is registered, which loads and dry-runs as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from engine.config import run_file
from engine.registry import models

Persyn = Callable[..., Any]


def test_registered_models_are_in_the_run_file_and_it_can_be_estimated(
    persyn: Persyn, tmp_path: Path
) -> None:
    for name, options in (("terse", ("--system", "Short.", "--temperature", "0.3")), ("spell", ())):
        assert persyn("models", "add", "--name", name, "--model", "zoo:brief", *options).code == 0
    assert persyn("models", "add", "--name", "pupil", "--role", "student", "--model", "zoo:student").code == 0
    ran = persyn("init", "mine.yaml", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert (ran.json["file"], ran.json["student"], ran.json["missing"]) == ("mine.yaml", "pupil", [])
    assert sorted(ran.json["teachers"]) == ["spell", "terse"]
    text = (tmp_path / "mine.yaml").read_text()
    assert text == ran.json["text"]
    run = run_file.load(tmp_path / "mine.yaml")
    stored = {one["name"]: one for one in persyn("models", "list", "--json").json}
    for teacher in run.teachers:
        made = models.teacher(teacher, run.generation)
        assert made.sampling.temperature == stored[teacher.name]["sampling"]["temperature"]
        assert made.system == stored[teacher.name]["system"]
    dry = persyn("run", "--dry-run", "mine.yaml", "--json")
    assert dry.code == 0, dry.err


def test_what_is_not_registered_is_said_with_what_mends_it(persyn: Persyn, tmp_path: Path) -> None:
    ran = persyn("init")
    assert ran.code == 0
    assert ran.out == "run.yaml: adder, brief, lister, scholar, solver, speller → student\n"
    assert "no teacher is registered" in ran.err
    assert "`persyn models add --role student --name NAME --model MODEL`" in ran.err
    assert not (tmp_path / "store.db").exists(), "reading makes no store"
    assert persyn("run", "--dry-run", "run.yaml").code == 0
    persyn("models", "add", "--name", "terse", "--model", "zoo:brief")
    alone = persyn("init", "-")
    assert "terse is the only teacher" in alone.err
    run = run_file.parse(alone.out)
    assert ([one.name for one in run.teachers], run.strategies) == (["terse"], ("strong",))


def test_a_teacher_whose_key_is_not_set_here_is_named_too(persyn: Persyn) -> None:
    far = (
        "--backend",
        "openai",
        "--model",
        "m",
        "--base-url",
        "https://a.example/v1",
        "--api-key-env",
        "FAR_KEY",
    )
    assert persyn("models", "add", "--name", "far", *far).code == 0
    ran = persyn("init", "-")
    assert "export FAR_KEY=… before the run" in ran.err
    (teacher,) = run_file.parse(ran.out).teachers
    assert (teacher.name, teacher.api_key_env) == ("far", "FAR_KEY")


def test_nothing_is_overwritten(persyn: Persyn, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("precious\n")
    ran = persyn("init")
    assert ran.code == 2
    assert "run.yaml is there already" in ran.err
    assert (tmp_path / "run.yaml").read_text() == "precious\n"
    assert persyn("init", "nowhere/run.yaml").code == 2


def test_every_setting_is_there_with_its_words_and_its_default(persyn: Persyn) -> None:
    text = persyn("init", "-").out
    given = yaml.safe_load(text)
    written = "\n".join(
        line[1:]
        if line.startswith("#") and not (line.startswith("# ") and not line.startswith("#  "))
        else line
        for line in text.splitlines()
    )
    everything = yaml.safe_load(written)
    assert everything.keys() == run_file.Run.model_fields.keys()
    for key, field in run_file.Run.model_fields.items():
        if key not in given:
            before, after = getattr(run_file.parse(text), key), getattr(run_file.parse(written), key)
            assert before == after or field.annotation is run_file.QualityConfig, key
    assert everything["quality"]["timeout_s"] == 10, "of the scorer's own settings"
    for words in (
        "All teachers respond to them",
        "0: quality alone … 1: learnability alone",
        "(zscore, minmax, rank)",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= 110


def test_it_has_the_files_name_prompts_of_files_and_no_limit_for_teachers_with_their_own(
    persyn: Persyn,
) -> None:
    zoo = persyn("init", "zoo.yaml", "--json").json["text"]
    assert yaml.safe_load(zoo)["generation"]["max_tokens"] == 160
    for name in ("br", "sp"):
        assert persyn("models", "add", "--model", "zoo:brief", "--name", name).code == 0
    text = persyn("init", "sums.yaml", "--json").json["text"]
    given = yaml.safe_load(text)
    assert given["name"] == "sums"
    assert "generation" not in given
    assert given["evaluation"] == {"max_tokens": 160}, "the student's"
    examples = [
        line.removeprefix("# - ").partition("}  (")[0] for line in text.splitlines() if "# - {" in line
    ]
    assert len(examples) == 2
    for one in examples:
        entry = yaml.safe_load(one if one.endswith("}") else f"{one}}}")
        run_file.Run.model_validate({**given, "prompts": [entry], "strategies": ["strong"]})
