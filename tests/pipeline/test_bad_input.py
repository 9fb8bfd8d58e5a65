"""What is wrong with a run is said in seconds: file, key, remedy, exit 2, and no model is loaded."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import RUN

ZOO = Path(__file__).parents[2] / "engine" / "zoo" / "weights"


def refused(workspace, text: str, *parts: str) -> None:
    path = workspace.write(text)
    done = workspace.call("run", path)
    assert done.returncode == 2, (done.returncode, done.stderr)
    for part in (*parts, "→"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def with_prompts() -> str:
    """The run with a JSONL source as its only one."""
    start, end = RUN.index("  - {source"), RUN.index("split:")
    return RUN[:start] + "  - {source: jsonl, path: prompts.jsonl, verifier: text}\n" + RUN[end:]


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("zoo:brief", "./nowhere", ("teachers: brief", "nowhere")),
        ("zoo:brief", "zoo:brif", ("teachers: brief", "brief")),
        ("calibration: 20", "calibratoin: 20", ("run.yaml:", "did you mean `calibration`?")),
        ("source: reasoning_gym, task: gcd", "source: reasoning_jim, task: gcd", ("run.yaml:", "prompts")),
        ("name: speller", "name: brief", ("two teachers are named `brief`",)),
        (
            'name: speller, model: "zoo:speller"',
            'name: other, model: "zoo:brief"',
            ("`brief` and `other` are one model",),
        ),
        (
            '  - {name: speller, model: "zoo:speller", family: gpt_neox, parameters: 2e5}\n',
            "",
            ("`persyn` chooses between teachers, and there is one",),
        ),
        (
            '{name: pupil, model: "zoo:student", family: llama}',
            '{name: pupil, model: "zoo:student", family: llama, device: "cuda:7"}',
            ("student: pupil", "device 'cuda:7' is not there"),
        ),
        ("distill: {epochs: 2", "distill: {method: qlorra", ("run.yaml:", "'lora', 'qlora' or 'full'")),
        (
            '{name: pupil, model: "zoo:student", family: llama}',
            "zoo:studnt",
            ("student: studnt", "zoo:student"),
        ),
        (
            "  - {name: brief,",
            "  - who\n  - ./folder/of/one\n  - {name: brief, modle: x,",
            (
                "teachers[0]: teacher `who`: no model is registered",
                "{name: …, model: ./folder/of/one}",
                "`modle`",
            ),
        ),
        ("calibration: 20", "calibration: 0", ("split.calibration is 0",)),
        ("calibration: 20", "calibration: 2000", ("split.calibration", "are left")),
        ("task: gcd", "task: gdc", ("did you mean `gcd`?",)),
        (
            'model: "zoo:brief"',
            'model: "zoo:brief", backend: vllm, server: {command: /no/such/python}',
            ("teachers: brief", "no command '/no/such/python'", "persyn[vllm]"),
        ),
        (
            'model: "zoo:brief"',
            "model: ./nowhere, backend: vllm, server: {command: [python, -c, pass]}",
            ("teachers: brief", "nowhere", "does not exist"),
        ),
        (
            'model: "zoo:brief"',
            'model: "zoo:brief", server: {restarts: 1}',
            ("`server` is of `backend: vllm`",),
        ),
        (
            'model: "zoo:brief"',
            'model: m, backend: openai, base_url: "http://127.0.0.1:1/v1", api_key_env: NO_SUCH_KEY_HERE',
            ("teachers: brief", "NO_SUCH_KEY_HERE is not set"),
        ),
        (
            'model: "zoo:brief"',
            "model: m, backend: openai, dtype: float32",
            ("teachers: brief", "has no option 'dtype'"),
        ),
        (
            "generation: {",
            "generation: {budget_usd: 1, ",
            ("generation.budget_usd", "no teacher has a price"),
        ),
    ],
)
def test_a_wrong_setting(workspace, old: str, new: str, parts: tuple[str, ...]):
    assert old in RUN
    refused(workspace, RUN.replace(old, new), *parts)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ("prompts.jsonl", "has no rows")),
        ('{"prompt": "x", "answer": "y"}\n{"prompt": oops}\n', ("prompts.jsonl:2", "malformed JSONL")),
        ('{"prompt": "x"}\n', ("prompts.jsonl:1", "needs an answer")),
    ],
)
def test_a_wrong_prompt_file(workspace, content: str, parts: tuple[str, ...]):
    (workspace.folder / "prompts.jsonl").write_text(content, encoding="utf-8")
    refused(workspace, with_prompts(), *parts)


def test_a_prompt_longer_than_the_context_names_its_line_and_both_ways_out(workspace):
    lines = [json.dumps({"prompt": f"short {number}", "answer": "y"}) for number in range(60)]
    lines[40] = json.dumps({"prompt": "long " * 3000, "answer": "y"})
    (workspace.folder / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    refused(workspace, with_prompts(), "prompts.jsonl:41", "do not fit the context", "too_long: mark")


@pytest.mark.parametrize(
    ("missing", "part"), [("tokenizer.json", "tokenizer"), ("chat_template.jinja", "chat template")]
)
def test_a_model_folder_that_lacks_a_part(workspace, missing: str, part: str):
    shutil.copytree(ZOO / "brief", workspace.folder / "model")
    (workspace.folder / "model" / missing).unlink()
    refused(workspace, RUN.replace("zoo:brief", "./model"), "teachers: brief", part)


def test_starting_persyn_imports_no_torch():
    script = (
        "import sys, persyn_tui.cli, persyn_tui.commands.run, engine.pipeline.launch, engine.report.estimate\n"
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'textual'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_prompts_that_nothing_could_judge_are_refused_before_a_teacher_answers(workspace):
    rows = [json.dumps({"prompt": f"Say {n}", "answer": str(n)}) for n in range(60)]
    (workspace.folder / "prompts.jsonl").write_text("\n".join(rows))
    refused(
        workspace,
        with_prompts().replace(", verifier: text", ""),
        "no source has a `verifier`",
        "choice, json, math",
    )
    refused(workspace, with_prompts().replace("verifier: text", "verifier: maths"), "did you mean `math`?")


def test_a_bad_row_far_down_is_found_before_a_teacher_answers(workspace):
    rows = [json.dumps({"prompt": f"Say {n}", "answer": str(n)}) for n in range(60)]
    (workspace.folder / "prompts.jsonl").write_text("\n".join([*rows, json.dumps({"prompt": "Say what?"})]))
    refused(workspace, with_prompts(), "prompts.jsonl:61", "needs an answer")


def test_a_dry_run_counts_and_says_what_the_run_would_be_refused_for(workspace):
    path = workspace.write(RUN.replace("zoo:brief", "./nowhere").replace("zoo:student", "./elsewhere"))
    done = workspace.call("run", "--dry-run", "--json", path)
    assert done.returncode == 2, done.stderr
    problems = " ".join(problem["message"] for problem in json.loads(done.stdout)["problems"])
    assert "nowhere" in problems
    assert "elsewhere" in problems
    assert "The run itself would be refused here" in done.stderr
    shown = workspace.call("run", "--dry-run", path)
    assert shown.returncode == 2
    assert "generations" in shown.stdout
