"""The run file: what is accepted, and how wrong settings are reported."""

from pathlib import Path

import pytest

from engine.base.errors import ConfigError
from engine.config import run_file

MINIMAL = """
student: {name: s, model: zoo:student}
teachers:
  - {name: a, model: zoo:brief}
prompts:
  - {source: reasoning_gym, task: gcd, size: 10}
"""


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        run_file.parse(text, where="run.yaml")
    assert caught.value.remedy
    return caught.value.message


def test_defaults_are_the_documented_ones():
    run = run_file.parse(MINIMAL)
    assert run.reward.alpha == 0.4
    assert run.reward.normalization == "zscore"
    assert run.reward.exclude_all_wrong
    assert run.distill.overlong == "drop"
    assert run.strategies == ("persyn",)
    assert run.teachers[0].backend == "transformers"


def test_an_unknown_key_names_file_line_and_the_nearest_valid_key():
    assert problem(MINIMAL + "reward: {}\nstratgies: [persyn]\n").startswith("run.yaml:8: ")
    message = problem(MINIMAL + "reward:\n  alfa: 0.3\n")
    assert message.startswith("run.yaml:8: reward")
    assert "unknown key `alfa`; did you mean `alpha`?" in message


def test_every_problem_is_reported_at_once():
    message = problem(MINIMAL + "rewards: {}\ngeneration: {max_tokens: 0}\ndistill: {rank: -1}\n")
    # pydantic stops at a section whose keys are wrong, so the top level's own keys come first.
    assert "did you mean `reward`?" in message
    message = problem(MINIMAL + "generation: {max_tokens: 0}\ndistill: {rank: -1}\n")
    assert "run.yaml:7: generation.max_tokens" in message
    assert "run.yaml:8: distill.rank" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("teachers: [", "not valid YAML"),
        ("[1, 2]", "mapping of keys"),
        (MINIMAL + "name: a\nname: b\n", "run.yaml:8: the key `name` stands twice"),
        (
            MINIMAL.replace("{name: a, model", "{name: a, backend: transfomers, model"),
            "did you mean `transformers`?",
        ),
        (MINIMAL + "quality: {scorer: exact_anser}\n", "did you mean `exact_answer`?"),
        (MINIMAL + "strategies: [persin]\n", "did you mean `persyn`?"),
        (MINIMAL + "split: {calibration: 0}\n", "split.calibration is 0"),
        (
            MINIMAL.replace("teachers:", "teachers:\n  - {name: a, model: zoo:solver}"),
            "two teachers are named `a`",
        ),
        (MINIMAL.replace("model: zoo:brief", "model: m, api_key_env: 'sk-1-2'"), "never the key itself"),
        (MINIMAL.replace("model: zoo:brief", "model: m, trust_remote_code: true"), "pinned `revision`"),
        (MINIMAL + "reward: {alpha: .nan}\n", "reward.alpha"),
        (MINIMAL + "router: {seed: -5}\n", "router.seed"),
        (MINIMAL + "devices: [gpu0]\n", "unknown device `gpu0`; use cpu, cuda, cuda:N or mps"),
        (MINIMAL + "devices: [cuda:1, cuda:1]\n", "`cuda:1` stands twice"),
        (MINIMAL + "devices: [cuda, cuda:0]\n", "`cuda:0` stands twice"),
        (MINIMAL + "devices: [cuda:0, cpu]\n", "are of several kinds"),
        (MINIMAL + "devices: cpu\n", "a list of names is meant"),
        (MINIMAL + "devices: []\n", "devices: needs at least one entry"),
        (MINIMAL + "distill: {seed: 99999999999999999999}\n", "distill.seed"),
        (MINIMAL.replace("size: 10", "size: 99999999999999999999"), "size"),
        (MINIMAL + "evaluation: {bootstrap: 99999999999999}\n", "evaluation.bootstrap"),
        (MINIMAL.replace("zoo:brief", '"./a\\0b"'), "not a usable path"),
        (MINIMAL.replace("zoo:brief", "./" + "a" * 5000), "not a usable path"),
        (MINIMAL.replace("zoo:brief", "~no-such-user/m"), "~no-such-user/m: not a usable path"),
        (MINIMAL + "  - {source: jsonl, path: p.jsonl, verifier: mathh}\n", "prompts[1].jsonl.verifier"),
        (MINIMAL + "name: 2020-99-99\n", "month must be in 1..12"),
        (MINIMAL + "name: ''\n", "name"),
        ("? [a, b]\n: c\n", "run.yaml:1: a key is a list"),
        ("name: &a [*a]\n", "anchors are unfolded"),
        ("student: &a {name: *a}\n", "anchors are unfolded"),
        (
            "".join(f"k{n}: &a{n} [{f'*a{n - 1},' * 9 if n else 'x'}]\n" for n in range(9)),
            "anchors are unfolded",
        ),
        ("name: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said(text: str, part: str):
    assert part in problem(text)


def test_paths_are_relative_to_the_run_file(tmp_path: Path):
    (tmp_path / "model").mkdir()
    text = MINIMAL.replace("zoo:brief", "model").replace(
        "{source: reasoning_gym, task: gcd, size: 10}", "{source: jsonl, path: data/p.jsonl}"
    )
    (tmp_path / "run.yaml").write_text(text)
    run = run_file.load(tmp_path / "run.yaml")
    assert run.teachers[0].model == str(tmp_path / "model")
    assert run.prompts[0].path == str(tmp_path / "data" / "p.jsonl")
    assert run.student.model == "zoo:student"


def test_yaml_numbers_without_a_point_are_numbers():
    # YAML 1.1 reads 2e-4 as a string.
    assert run_file.parse(MINIMAL + "distill: {learning_rate: 2e-4}\n").distill.learning_rate == 2e-4


def test_a_missing_file_names_the_remedy(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such run file") as caught:
        run_file.load(tmp_path / "nowhere.yaml")
    assert "examples/" in caught.value.remedy


def test_a_run_survives_the_store():
    run = run_file.parse(MINIMAL)
    assert run_file.Run.model_validate(run.model_dump(mode="json")) == run


def test_the_name_of_a_zoo_model_is_enough() -> None:
    run = run_file.parse("""
student: zoo:student
teachers: [zoo:brief, {name: spell, model: "zoo:speller"}]
prompts: [{source: reasoning_gym, task: gcd, size: 200}]
""")
    assert [(teacher.name, teacher.model) for teacher in run.teachers] == [
        ("brief", "zoo:brief"),
        ("spell", "zoo:speller"),
    ]
    assert (run.student.name, run.student.model) == ("student", "zoo:student")
