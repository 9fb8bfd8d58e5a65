"""`persyn verify`: pairs judged as a run judges them, bad lines with place and remedy, and what the exit code means."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Persyn = Callable[..., Any]
RIGHT = {"verifier": "math", "reference": "24", "answer": "The answer is 24, because 4! = 24.", "expected": 1}
WRONG = {"verifier": "text", "reference": 18, "answer": "#### 19", "expected": 0}
LATE = {"verifier": "regex", "pattern": "^(a+)+$", "answer": "a" * 60 + "b"}


def written(folder: Path, *lines: Any) -> str:
    path = folder / "pairs.jsonl"
    path.write_text(
        "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines),
        encoding="utf-8",
    )
    return str(path)


def test_pairs_of_a_file(tmp_path: Path, persyn: Persyn) -> None:
    path = written(tmp_path, RIGHT, "", WRONG, {**RIGHT, "answer": "25"})
    ran = persyn("verify", path, "--json")
    assert ran.code == 0
    found = [json.loads(line) for line in ran.out.splitlines()]
    assert [(one["at"].rpartition(":")[2], one["value"]) for one in found] == [
        ("1", 1.0),
        ("3", 0.0),
        ("4", 0.0),
    ]
    assert (found[0]["extracted"], found[0]["why"]) == ("24", "after “answer is”")
    assert "3 pairs: 1 right, 2 wrong" in ran.err
    assert "math: 1 of 2 as expected, precision 100.0%, recall 50.0%" in ran.err


def test_people_see_what_was_read_and_where(tmp_path: Path, persyn: Persyn) -> None:
    path = written(tmp_path, RIGHT, {**WRONG, "expected": 1})
    ran = persyn("verify", path)
    assert ran.code == 0
    assert f"{path}:1  right  math: read “24”, after “answer is”; the reference is “24”\n" in ran.out
    assert (
        f"{path}:2  wrong  text: read “19”, after ####; the reference is “18”  (not as expected)\n" in ran.out
    )


@pytest.mark.parametrize(
    ("line", "problem", "remedy"),
    [
        ("{broken", "malformed JSONL", "each line is one JSON object"),
        ("[1]", "expected an object", "each line is one JSON object"),
        ({**RIGHT, "verifier": "mth"}, "unknown verifier `mth`; did you mean `math`?", "use one of: choice"),
        ({"verifier": "math", "reference": "1"}, "answer is missing", "each line is one JSON object"),
        ({**RIGHT, "answer": 24}, "answer: expected text, found 24", "each line is one JSON object"),
        (
            {"verifier": "choice", "reference": "E", "answer": "A", "choices": ["red", "blue"]},
            "none of the choices",
            "give the letter",
        ),
        (
            {"verifier": "regex", "pattern": "(", "answer": "x"},
            "not a regular expression",
            "mend the pattern",
        ),
    ],
)
def test_a_bad_line_is_said_and_the_others_are_judged(
    tmp_path: Path, persyn: Persyn, line: Any, problem: str, remedy: str
) -> None:
    path = written(tmp_path, line, RIGHT)
    ran = persyn("verify", path)
    assert ran.code == 2
    first, second = ran.out.splitlines()[:2]
    assert first.startswith(f"{path}:1  refused  ")
    assert problem in first
    assert remedy in first
    assert second.startswith(f"{path}:2  right")


def test_what_cannot_be_judged_ends_in_3(tmp_path: Path, persyn: Persyn) -> None:
    ran = persyn("verify", written(tmp_path, LATE, RIGHT), "--timeout", "0.5")
    assert ran.code == 3
    assert "timeout  longer than 0.5 s" in ran.out
    assert "right" in ran.out


def test_one_pair_from_flags(persyn: Persyn) -> None:
    pair = ("--verifier", "choice", "--reference", "B", "--choice", "red", "--choice", "blue")
    ran = persyn("verify", *pair, "--answer", "It is (b) blue.")
    assert ran.code == 0
    assert ran.out.startswith("the pair  right  choice: read “B”")
    assert persyn("verify").code == persyn("verify", "x.jsonl", "--answer", "x").code == 2
    assert "no such file" in persyn("verify", "x.jsonl").err


def test_it_streams_and_ctrl_c_ends_it() -> None:
    """A pair from standard input is judged before the next one is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "persyn_tui.cli", "verify", "-", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        process.stdin.write(json.dumps(RIGHT) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["value"] == 1.0
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
