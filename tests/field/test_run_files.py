"""Run files as people write them: read, or refused with a line and words that are not a programmer's."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.base.errors import ConfigError
from engine.config import run_file

BASE = """\
name: {name}
student: {{name: student, model: "zoo:student"}}
teachers:
  - {{name: {teacher}, model: "zoo:scholar", parameters: {parameters}}}
prompts:
  - {{source: {source}, path: {path}}}
split: {split}
generation: {{stop: {stop}, max_tokens: {tokens}}}
distill: {{merge: {merge}}}
strategies: {strategies}
"""
PLAIN = {
    "name": "run",
    "teacher": "scholar",
    "parameters": "7e9",
    "source": "jsonl",
    "path": "data.jsonl",
    "split": "{calibration: 4}",
    "stop": "[]",
    "tokens": "48",
    "merge": "true",
    "strategies": "[persyn]",
}


def text(**changed: str) -> str:
    return BASE.format(**{**PLAIN, **changed})


@pytest.mark.parametrize(
    ("stop", "expected"),
    [('"\\n"', ("\n",)), ('["\\n"]', ("\n",)), ("END", ("END",)), ("[a, b]", ("a", "b")), ("[]", ())],
    ids=["y12 one text", "a list of one", "a word", "two", "none"],
)
def test_y12_one_text_may_stand_for_a_list(stop: str, expected: tuple[str, ...]) -> None:
    assert run_file.parse(text(stop=stop)).generation.stop == expected


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "y17 a blank in a name": (
        {"teacher": "my brief"},
        ":4: teachers[0].name: only letters, digits and . : / + - _",
    ),
    "a slash and a comma": ({"teacher": '"a,b"'}, "only letters, digits and"),
    "y03 Norway": ({"teacher": "no"}, ":4: teachers[0].name: must be text, in quotes"),
    "y04 a date": ({"name": "2024-05-01"}, ":1: name: must be text, in quotes"),
    "a number as a name": ({"name": "7"}, ":1: name: must be text, in quotes"),
    "y02 7B": ({"parameters": "7B"}, ":4: teachers[0].parameters: must be a number, e.g. 7e9"),
    "a word for a number": ({"tokens": "many"}, ":8: generation.max_tokens: must be a whole number"),
    "half a token": ({"tokens": "4.5"}, ":8: generation.max_tokens: must be a whole number"),
    "a word for true": ({"merge": "maybe"}, "distill.merge: must be true or false"),
    "one strategy": ({"strategies": "persyn"}, ":10: strategies: must be a list, e.g. [first, second]"),
    "a mapping as a list": ({"stop": "{a: b}"}, "generation.stop: must be a list, e.g. [first, second]"),
    "a number as a stop": ({"stop": "[5]"}, "generation.stop[0]: must be text, in quotes"),
    "a word as a section": ({"split": "half"}, ":7: split: must be a mapping of keys, e.g. {key: value}"),
    "an unknown source": ({"source": "jsnl"}, "did you mean `jsonl`"),
    "a number as a path": ({"path": "5"}, "path: must be text, in quotes"),
    "a list as a path": ({"path": "[a, b]"}, "path: must be text, in quotes"),
    "nested too deeply": ({"stop": "[" * 5000}, "nested too deeply"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_value_is_said_in_plain_words_with_its_line(case: str) -> None:
    changed, said = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        run_file.parse(text(**changed))
    assert said in caught.value.message
    assert "Input should" not in caught.value.message
    assert "pattern" not in caught.value.message


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
        (lambda path: path.symlink_to(path.name), "cannot be read"),
        (lambda path: path.symlink_to("nowhere"), "no such run file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "no such run file"),
    ],
    ids=["FIFO", "device", "loop", "dangling", "folder", "missing"],
)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match=said):
        run_file.load(tmp_path / "run.yaml")


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000 + "x", "x\x00y"])
def test_a_name_that_no_file_can_have_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        run_file.load(tmp_path / name)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_y06_line_ends_and_a_mark_do_not_matter(tmp_path: Path, ending: str, mark: str) -> None:
    (tmp_path / "run.yaml").write_bytes((mark + text().replace("\n", ending)).encode())
    assert run_file.load(tmp_path / "run.yaml").name == "run"
