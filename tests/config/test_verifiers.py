"""What a file's answer column becomes for the exact_answer scorer, and references that nothing could match."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine.base.errors import ConfigError
from engine.scorers.kinds import exact_answer
from engine.scorers.scorer_kinds import score_all
from engine.sources import source_kinds
from engine.sources.tables import FileSource
from storage.records import Prompt


def read(folder: Path, verifier: str, row: dict) -> Prompt:
    path = folder / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "?", **row}) + "\n")
    ((_, prompt),) = source_kinds.read(FileSource(source="jsonl", path=str(path), verifier=verifier))
    return prompt


@pytest.mark.parametrize(
    ("verifier", "row", "right", "wrong"),
    [
        ("math", {"answer": "1/2"}, "The answer is 0.5", "The answer is 0.4"),
        ("choice", {"answer": "b", "choices": ["red", "green"]}, "The answer is (B).", "The answer is A."),
        ("choice", {"answer": "green", "choices": ["red", "green"]}, "Green", "Red"),
        ("choice", {"answer": "C"}, "C", "B"),
        ("regex", {"answer": r"^\d{3}$"}, "123", "1234"),
        ("json", {"answer": {"a": [1, 2]}}, '{"a": [1, 2.0]}', '{"a": [2, 1]}'),
        ("text", {"answer": "New York"}, "new york", "York"),
    ],
)
def test_a_column_becomes_a_verifier(
    tmp_path: Path, verifier: str, row: dict, right: str, wrong: str
) -> None:
    prompt = read(tmp_path, verifier, row)
    with closing(exact_answer.create({})) as scorer:
        found = score_all(scorer, [(prompt, right), (prompt, wrong)])
    assert [verdict.value for verdict in found] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("verifier", "row", "message"),
    [
        ("choice", {"answer": 2, "choices": ["red", "green"]}, "none of the choices"),
        ("choice", {"answer": "C", "choices": ["red", "green"]}, "none of the choices"),
        ("choice", {"answer": "A", "choices": "red, green"}, "choices are not a list of texts: not JSON"),
        ("choice", {"answer": "A", "choices": [1, 2]}, "not a list of texts"),
        ("regex", {"answer": "("}, "not a regular expression"),
        ("json", {"answer": "{broken"}, "not JSON"),
    ],
)
def test_a_reference_that_nothing_could_match_is_refused(
    tmp_path: Path, verifier: str, row: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, verifier, row)
    assert "prompts.jsonl:1" in caught.value.message


def test_an_unknown_verifier_gets_the_nearest_one() -> None:
    with pytest.raises(ValidationError, match="did you mean `regex`"):
        FileSource(source="jsonl", path="x", verifier="regexp")
