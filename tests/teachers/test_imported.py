"""Imported responses: the backend and the scorer that read them, on small files."""

import csv
import gzip
import json
import re
import runpy
from contextlib import closing
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from engine.base.errors import ConfigError
from engine.config import run_file
from engine.config.run_file import Run
from engine.config.sources import ImportedSource
from engine.pipeline import preflight
from engine.registry import run_files
from engine.scorers import scorer_kinds
from engine.sources import imported
from engine.sources.rows import read_csv
from engine.teachers import teacher_kinds
from storage.records import Model, Prompt, Request, Sampling

ROWS = [
    {"prompt": "What is 2 + 3?", "model": "a", "response": "5", "reward": 1.5},
    {"prompt": "what is  2 + 3", "model": "b", "response": "<think>well</think>6", "reward": -1},
    {"prompt": "Say hi.", "model": "a", "response": "hi", "finish_reason": "length", "completion_tokens": 9},
    {"prompt": "What is 2 + 3?", "model": "a", "response": "five", "reward": 9},
    {"prompt": "Say hi.", "model": "b", "response": None},
]


def given(folder: Path, rows: list[dict]) -> dict:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"responses": [{"source": "imported", "path": str(path)}]}


def teacher(name: str, options: dict) -> Model:
    return Model(name=name, role="teacher", backend="imported", model=name, options=options)


def asked(*texts: str) -> list[Prompt]:
    return [Prompt(messages=({"role": "user", "content": text},)) for text in texts]


def answers(name: str, options: dict) -> dict[int, tuple[str, str, str]]:
    requests = [
        Request(key, prompt.messages, Sampling())
        for key, prompt in enumerate(asked("What is 2 + 3?", "Say hi.", "Nobody was asked this."))
    ]
    with closing(teacher_kinds.open_backend(teacher(name, options))) as backend:
        first = {done.key: (done.text, done.reasoning, done.status) for done in backend.generate(requests)}
        again = {done.key: (done.text, done.reasoning, done.status) for done in backend.generate(requests)}
    assert first == again
    return first


def test_answers_are_found_by_question_and_name(tmp_path: Path) -> None:
    options = given(tmp_path, ROWS)
    assert answers("a", options) == {
        0: ("5", "", "ok"),
        1: ("hi", "", "truncated"),
        2: ("", "", "error"),
    }
    assert answers("b", options)[0] == ("6", "well", "ok")
    assert answers("b", options)[1] == ("", "", "error")


def test_rewards_belong_to_answers(tmp_path: Path) -> None:
    (question, other) = asked("What is 2 + 3?", "Say hi.")
    with closing(scorer_kinds.load("imported").create(given(tmp_path, ROWS))) as scorer:
        found = scorer_kinds.score_all(
            scorer, [(question, "5"), (question, "6"), (other, "hi"), (question, "7")]
        )
    assert [verdict.value for verdict in found] == [1.5, -1.0, None, None]
    assert [verdict.status for verdict in found] == ["ok", "ok", "unverifiable", "unverifiable"]


def test_identities_follow_the_content_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first, second = given(tmp_path / "one", ROWS), given(tmp_path / "two", ROWS)
    assert teacher_kinds.identity(teacher("a", first)) == teacher_kinds.identity(teacher("a", second))
    assert teacher_kinds.identity(teacher("a", first)) != teacher_kinds.identity(teacher("b", first))
    changed = given(tmp_path / "two", ROWS[:-1])
    assert teacher_kinds.identity(teacher("a", first)) != teacher_kinds.identity(teacher("a", changed))
    assert scorer_kinds.identity("imported", first) != scorer_kinds.identity("imported", changed)


def test_files_of_one_name_are_told_apart_and_compression_is_no_content(tmp_path: Path) -> None:
    for folder, rows in (("one", ROWS[:1]), ("two", ROWS[1:])):
        (tmp_path / folder).mkdir()
        given(tmp_path / folder, rows)
    before = imported.hashes(str(tmp_path))
    assert set(before) == {"one/rows.jsonl", "two/rows.jsonl"}
    first = Path(given(tmp_path / "one", ROWS[2:])["responses"][0]["path"])
    assert imported.hashes(str(tmp_path)) != before
    assert imported.hashes(str(compressed(first))) == imported.hashes(str(first))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "x", "model": "a"}], "rows.jsonl:1: no `response`"),
        (
            [ROWS[0], {**ROWS[0], "reward": "good"}],
            "rows.jsonl:2: reward: expected a finite number, found text",
        ),
        ([{**ROWS[0], "model": 3}], "model: expected text, found 3"),
        ([], "has no rows"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, rows: list[dict], message: str) -> None:
    (source,) = imported.named(given(tmp_path, rows), "test")
    with pytest.raises(ConfigError, match=message):
        list(imported.prompts(source))


def test_a_name_that_is_not_in_the_files_and_no_files_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of the model 'c'") as caught:
        answers("c", given(tmp_path, ROWS))
    assert "a, b" in caught.value.remedy
    with pytest.raises(ConfigError, match="no imported responses are named"):
        teacher_kinds.identity(teacher("a", {}))
    with pytest.raises(ConfigError, match=r"no \.jsonl or \.parquet"):
        imported.files(str(tmp_path / "nowhere"))


def test_size_counts_prompts_not_rows(tmp_path: Path) -> None:
    (source,) = imported.named(given(tmp_path, ROWS), "test")
    assert [where for where, _ in imported.prompts(source)] == ["rows.jsonl:1", "rows.jsonl:3"]
    assert len(list(imported.prompts(source.model_copy(update={"size": 1})))) == 1


def test_a_folder_of_parquet_files_named_after_models_is_the_same(tmp_path: Path) -> None:
    keys = ("prompt", "response", "reward", "finish_reason", "completion_tokens")
    (tmp_path / "set").mkdir()
    for name in ("a", "b"):
        own = [{key: row.get(key) for key in keys} for row in ROWS if row["model"] == name]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(own), tmp_path / "set" / f"{name}.parquet")
    folder = {"responses": [{"source": "imported", "path": str(tmp_path / "set")}]}
    assert answers("a", folder) == answers("a", given(tmp_path, ROWS))
    assert answers("b", folder) == answers("b", given(tmp_path, ROWS))


def compressed(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


@pytest.mark.parametrize("name", ["rows.json", "rows.csv", "rows.parquet", "rows.jsonl"])
@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gz"])
def test_every_form_of_file_gives_the_same_answers(tmp_path: Path, name: str, pack: bool) -> None:
    path, rows = tmp_path / name, [row for row in ROWS if row["response"]]
    match path.suffix:
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        case _:
            columns = ["prompt", "model", "response", "finish_reason", "completion_tokens"]
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)
    if pack and path.suffix == ".parquet":
        pytest.skip("Parquet compresses by itself")
    options = {
        "responses": [{"source": "imported", "path": str(compressed(path) if pack else path)}],
    }
    assert answers("a", options)[0] == ("5", "", "ok")
    assert answers("b", options)[0] == ("6", "well", "ok")


def test_a_file_without_models_is_its_own_models(tmp_path: Path) -> None:
    path = tmp_path / "gpt-4.json"
    path.write_text(json.dumps([{"prompt": "What is 2 + 3?", "response": "5"}]))
    source = ImportedSource(source="imported", path=str(compressed(path)))
    assert [answer.model for answer in imported.answers(source)] == ["gpt-4"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b'{"prompt": "x"}', "expected a list"),
        (
            "a.json",
            b'[{"prompt": "x", "response": "y"}, 7]',
            "a.json: malformed JSON: [1]: expected an object",
        ),
        ("a.json", b"[{]", "a.json: "),
        ("a.jsonl.gz", b"no gzip at all", "cannot be decompressed"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"prompt": "x", "response": "y"}\n' * 99, mtime=0)[:-20],
            "cannot be decompressed",
        ),
        ("a.jsonl.xz", b"no xz", "cannot be decompressed"),
        ("a.jsonl.bz2", b"no bz2", "cannot be decompressed"),
        ("a.csv", b"prompt,response,model\nx,y\n", "a.csv:2: malformed CSV: 2 cells, and the header has 3"),
        ("a.csv", b"prompt,response\nx,y, z\n", "a.csv:2: malformed CSV: 3 cells, and the header has 2"),
        ("a.parquet.gz", b"", "nor one of text as .gz"),
        ("a.zip", b"", "no .jsonl or .parquet or .json or .csv file"),
    ],
    ids=[
        "object",
        "number",
        "malformed",
        "no gzip",
        "cut gzip",
        "no xz",
        "no bz2",
        "short",
        "long",
        "parquet",
        "zip",
    ],
)
def test_a_broken_file_is_named_with_its_place(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    source = ImportedSource(source="imported", path=str(tmp_path / name))
    with pytest.raises(ConfigError, match=re.escape(said)):
        list(imported.answers(source))


def test_published_sets_become_rows() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "fetch_published.py"))
    outputs = [{"instruction": "Say hi.", "output": "hi"}, {"instruction": "Say no.", "output": "no"}]
    rows = list(script["of_alpaca_model"]("m", outputs, [{"instruction": "Say hi.", "preference": 1.25}]))
    assert [(row["prompt"], row["response"], row["reward"]) for row in rows] == [
        ("Say hi.", "hi", 0.25),
        ("Say no.", "no", None),
    ]
    solved = {model: {"solution": "A: 3", "is_correct": model[0] == "6"} for model in script["GSM8K_MODELS"]}
    problem = {"question": "1 + 2?", "ground_truth": "1 + 2 = <<1+2=3>>3\nA: 3", **solved}
    found = list(script["of_gsm8k_problem"](problem))
    assert [(row["model"], row["reward"], row["answer"]) for row in found] == [
        ("6b_finetuning", 1.0, "3"),
        ("6b_verification", 1.0, "3"),
        ("175b_finetuning", 0.0, "3"),
        ("175b_verification", 0.0, "3"),
    ]


def run_of(folder: Path, file: Path, *models: str) -> Run:
    teachers = "".join(f"  - {{name: {name}, backend: imported, model: {name}}}\n" for name in models)
    return run_file.parse(
        f"student: {{name: pupil, model: 'zoo:student'}}\nteachers:\n{teachers}"
        f"prompts: [{{source: imported, path: {json.dumps(str(file))}}}]\n"
        "split: {calibration: 1, validation: 0}\nquality: {scorer: imported}\n",
        base=folder,
    )


def test_rows_without_a_text_are_said_with_file_row_and_count_before_a_run(tmp_path: Path) -> None:
    given(tmp_path, [*ROWS, {"prompt": "What?", "model": "b", "response": "  "}])
    found = run_of(tmp_path, tmp_path / "rows.jsonl", "a", "b")
    assert run_files.notes(found) == [
        "teacher b: 2 of its 3 rows in rows.jsonl have no text, the first in line 5: nothing is known of the teacher "
        "there"
    ]
    assert preflight.problems(found) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mute", "no response of 'mute' is in the imported files: none of its 2 rows has a text"),
        ("nobody", "of 'nobody'"),
    ],
)
def test_a_teacher_without_any_response_is_refused_before_a_run(
    tmp_path: Path, name: str, words: str
) -> None:
    silent = [
        {"prompt": text, "model": "mute", "response": empty} for text, empty in (("x", None), ("y", ""))
    ]
    given(tmp_path, [*ROWS, *silent])
    (problem,) = preflight.problems(run_of(tmp_path, tmp_path / "rows.jsonl", "a", name))
    assert words in problem.message
    assert problem.message.startswith(f"teachers: {name}: ")
    assert "`model` of the teacher" in problem.remedy


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('prompt,model,response\nx,a,1\ny,a,"2\nz,a,3\nz,b,3\n', 3),
        ('prompt,model,response\nx,a,"1\n2"\ny,a,2\nz,"a,3\n', 5),
        ('prompt,model,"response\nx,a,1\n', 1),
        ('prompt,model,response\nx,a,1\ny,a,"2\ny,b,"3"\nz,b,4\n', 3),  # closed by the next row's
    ],
)
def test_an_open_quote_that_would_swallow_rows_is_named_with_its_line(
    tmp_path: Path, text: str, line: int
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"rows\.csv:{line}: malformed CSV: a quote is not closed"):
        list(read_csv(file))


def test_a_whole_csv_has_its_rows_with_or_without_a_last_line_end(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    for end in ("", "\n", "\r\n", "\n\n"):
        file.write_text('prompt,response\nx,"1\n""2"""\ny,5" pipe' + end, newline="")
        assert [dict(row) for _, row in read_csv(file)] == [
            {"prompt": "x", "response": '1\n"2"'},
            {"prompt": "y", "response": '5" pipe'},
        ]
    file.write_text("prompt,response\n")
    assert list(read_csv(file)) == []
