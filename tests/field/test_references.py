"""Reference answers as data sets have them: a right response can match them, or they are refused with their line."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from engine.verifiers.verify import verify
from tests.field.reading import jsonl, prompts, refusal, source

MMLU = {"choices": ["0", "1", "x", "y"]}
ARC = {"choices": {"text": ["ice", "iron", "air"], "label": ["A", "B", "C"]}}

# (case, verifier, row, a right response, a wrong one)
ACCEPTED: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("d15 number", "math", {"answer": 5}, "So it is \\boxed{5}.", "\\boxed{6}"),
    ("d19 list of aliases", "text", {"answer": ["1", "x"]}, "The answer is x.", "The answer is 2."),
    ("d19 the first of them", "text", {"answer": ["1", "x"]}, "1", "y"),
    ("list of numbers", "math", {"answer": [3, 4]}, "\\boxed{4}", "\\boxed{5}"),
    ("list of one", "math", {"answer": ["3"]}, "\\boxed{3}", "\\boxed{4}"),
    ("list with a hole", "text", {"answer": [None, "x"]}, "x", "None"),
    ("SQuAD", "text", {"answer": {"text": ["Rome", "in Rome"], "answer_start": [1, 2]}}, "in Rome", "Paris"),
    (
        "TriviaQA",
        "text",
        {"answer": {"value": "UK", "aliases": ["Great Britain"]}},
        "great britain",
        "France",
    ),
    ("Natural Questions", "text", {"answer": ["14 December 1972"]}, "14 December 1972", "1973"),
    ("list of patterns", "regex", {"answer": ["^a+$", "b"]}, "b", "c"),
    ("JSON list is one value", "json", {"answer": [1, 2]}, "[1, 2]", "1"),
    ("JSON object is one value", "json", {"answer": {"text": ["a"]}}, '{"text": ["a"]}', '"a"'),
    ("d35 GSM8K as text", "text", {"answer": "We add 0+1 = <<0+1=1>>1.\n#### 18"}, "#### 18", "#### 19"),
    ("d35 with a unit", "text", {"answer": "We add.\n#### 18"}, "The answer is 18 dollars.", "17 dollars"),
    ("GSM8K as math", "math", {"answer": "We add.\n#### 1,000"}, "\\boxed{1000}", "\\boxed{1}"),
    ("MATH", "math", {"answer": "Then $x=2$, so \\boxed{\\frac{1}{2}}."}, "\\boxed{0.5}", "\\boxed{2}"),
    ("R1 distilled", "math", {"answer": "<answer>7</answer>"}, "\\boxed{7}", "\\boxed{8}"),
    ("d36 MMLU place", "choice", {"answer": 1, **MMLU}, "(B)", "(A)"),
    ("MMLU place 0", "choice", {"answer": 0, "choices": ["3", "0", "7"]}, "(A)", "(B)"),
    ("place as a float", "choice", {"answer": 2.0, "choices": ["p", "q", "r"]}, "(C)", "(A)"),
    ("letter", "choice", {"answer": "(b)", "choices": ["p", "q", "r"]}, "(B)", "(A)"),
    ("text", "choice", {"answer": "q", "choices": ["p", "q", "r"]}, "(B)", "(A)"),
    ("text of digits", "choice", {"answer": "1", "choices": ["1", "0"]}, "(A)", "(B)"),
    ("letters at their places", "choice", {"answer": "B", "choices": ["A", "B"]}, "(B)", "(A)"),
    ("ARC", "choice", {"answer": "B", **ARC}, "(B)", "(A)"),
    (
        "ARC numbered",
        "choice",
        {"answer": "2", "choices": {"text": ["p", "q"], "label": ["1", "2"]}},
        "(B)",
        "(A)",
    ),
    (
        "ARC number",
        "choice",
        {"answer": 2, "choices": {"text": ["p", "q"], "label": ["1", "2"]}},
        "(B)",
        "(A)",
    ),
    (
        "ARC raw",
        "choice",
        {"answer": "C", "choices": [{"text": t, "label": t.upper()} for t in "abc"]},
        "(C)",
        "(A)",
    ),
    (
        "labelled blood groups",
        "choice",
        {"answer": "A", "choices": {"text": ["B", "A"], "label": ["A", "B"]}},
        "(A)",
        "(B)",
    ),
    ("MedQA", "choice", {"answer": "B", "choices": {"A": "p", "B": "q", "C": None}}, "(B)", "(A)"),
    ("MedQA text", "choice", {"answer": "q", "choices": {"A": "p", "B": "q"}}, "(B)", "(A)"),
    ("choices as JSON text", "choice", {"answer": "q", "choices": '["p", "q"]'}, "(B)", "(A)"),
    ("several right letters", "choice", {"answer": ["A", "C"], "choices": ["p", "q", "r"]}, "(C)", "(B)"),
    ("d40 true", "text", {"answer": True}, "true", "false"),
    ("a choice of true and false", "choice", {"answer": False, "choices": ["true", "false"]}, "(B)", "(A)"),
    ("spaces around", "text", {"answer": "  Rome "}, "Rome", "Paris"),
    ("infinity", "math", {"answer": "\\infty"}, "\\boxed{\\infty}", "\\boxed{1}"),
]

# (case, verifier, row, what is said)
REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("d17 null", "math", {"answer": None}, "this row's is empty"),
    ("d18 empty", "text", {"answer": ""}, "this row's is empty"),
    ("blank", "text", {"answer": " \n"}, "this row's is empty"),
    ("no column", "text", {}, "the row has no `answer`"),
    ("NaN", "math", {"answer": float("nan")}, "this row's is empty"),
    ("infinite", "math", {"answer": float("inf")}, "no finite number"),
    ("empty list", "text", {"answer": []}, "this row's is empty"),
    ("list of holes", "text", {"answer": [None, "", " "]}, "this row's is empty"),
    ("lists in a list", "text", {"answer": [["a"], ["b"]]}, "is no text"),
    ("SQuAD without an answer", "text", {"answer": {"text": [], "answer_start": []}}, "this row's is empty"),
    ("an object", "text", {"answer": {"final": "3", "unit": "m"}}, "name what is meant within it"),
    ("an empty box", "math", {"answer": "\\boxed{}"}, "nothing to compare with"),
    ("hashes alone", "text", {"answer": "####"}, "nothing to compare with"),
    ("emphasis alone", "text", {"answer": "**"}, "nothing to compare with"),
    ("dollars alone", "math", {"answer": "$$"}, "nothing to compare with"),
    ("a dash", "math", {"answer": "—"}, "nothing to compare with"),
    ("one empty member's place", "math", {"answer": ["3", "?"]}, "nothing to compare with"),
    ("d39 letter and text", "choice", {"answer": "A", "choices": ["B", "0", "A"]}, "may be choice A and C"),
    ("two texts alike", "choice", {"answer": "p", "choices": ["p", "p"]}, "may be choice A and B"),
    ("place beyond", "choice", {"answer": 4, **MMLU}, "none of the choices"),
    ("negative place", "choice", {"answer": -1, **MMLU}, "none of the choices"),
    ("place without choices", "choice", {"answer": 1}, "none of the choices"),
    ("half a place", "choice", {"answer": 1.5, **MMLU}, "none of the choices"),
    (
        "place as text",
        "choice",
        {"answer": "2", "choices": ["p", "q", "r"]},
        "its place as a number (0 is the first)",
    ),
    (
        "a label too few",
        "choice",
        {"answer": "A", "choices": {"text": ["p", "q"], "label": ["A"]}},
        "2 texts have 1 labels",
    ),
    (
        "d65 choices by str()",
        "choice",
        {"answer": "A", "choices": "['1', '2']"},
        "choices are not a list of texts",
    ),
    ("no pattern", "regex", {"answer": "("}, "not a regular expression"),
    ("no JSON", "json", {"answer": "Rome"}, "not JSON"),
    ("JSON NaN", "json", {"answer": "NaN"}, "not JSON"),
]


@pytest.mark.parametrize(
    ("verifier", "row", "right", "wrong"), [c[1:] for c in ACCEPTED], ids=[c[0] for c in ACCEPTED]
)
def test_a_reference_is_matched_by_right_responses_alone(
    tmp_path: Path, verifier: str, row: dict[str, Any], right: str, wrong: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(jsonl({"prompt": "?", **row}))
    (prompt,) = prompts(source(file, "jsonl", verifier=verifier))
    assert prompt.verifier is not None
    outcomes = [verify(prompt.verifier, prompt.answer, text) for text in (right, wrong)]
    assert [outcome["value"] for outcome in outcomes] == [1.0, 0.0]


@pytest.mark.parametrize(("verifier", "row", "said"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_a_reference_that_nothing_can_match_is_refused_with_its_line(
    tmp_path: Path, verifier: str, row: dict[str, Any], said: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(
        jsonl(
            {"prompt": "?", "answer": "A"} if verifier == "choice" else {"prompt": "?", "answer": "1"},
            {"prompt": "!", **row},
        )
    )
    told = refusal(source(file, "jsonl", verifier=verifier))
    assert said in told
    assert f"{file}:2: " in told


# (case, values of the column, references)
CELLS: list[tuple[str, pyarrow.Array, list[str]]] = [
    (
        "d70 decimals",
        pyarrow.array([Decimal("1.50"), Decimal("3.00")], pyarrow.decimal128(5, 2)),
        ["1.5", "3"],
    ),
    (
        "long decimals",
        pyarrow.array([Decimal("0.12345678901234567890")], pyarrow.decimal128(30, 20)),
        ["0.1234567890123456789"],
    ),
    ("dates", pyarrow.array([date(2024, 5, 1)]), ["2024-05-01"]),
    ("times at midnight", pyarrow.array([datetime(2024, 5, 1)]), ["2024-05-01"]),
    ("times", pyarrow.array([datetime(2024, 5, 1, 12, 30)]), ["2024-05-01T12:30:00"]),
    ("bytes", pyarrow.array([b"Rome"]), ["Rome"]),
    ("small integers", pyarrow.array([3], pyarrow.int8()), ["3"]),
    ("half floats", pyarrow.array([0.5], pyarrow.float32()), ["0.5"]),
    ("d73 categories", pyarrow.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    ("d78 lists", pyarrow.array([["1", "x"]]), ['["1", "x"]']),
    ("structs", pyarrow.array([{"text": ["a"], "answer_start": [1]}]), ["a"]),
    ("truth", pyarrow.array([True]), ["true"]),
]


@pytest.mark.parametrize(("values", "expected"), [c[1:] for c in CELLS], ids=[c[0] for c in CELLS])
def test_cells_of_every_type_become_references(
    tmp_path: Path, values: pyarrow.Array, expected: list[str]
) -> None:
    file = tmp_path / "rows.parquet"
    asked = [f"what {number}?" for number in range(len(values))]
    pyarrow.parquet.write_table(pyarrow.table({"prompt": asked, "answer": values}), file)
    assert [prompt.answer for prompt in prompts(source(file, "parquet", verifier="text"))] == expected


HOLES: list[tuple[str, pyarrow.Array]] = [
    ("d76 NaN", pyarrow.array([1.0, float("nan")])),
    ("null", pyarrow.array(["1", None])),
    ("bytes that are no text", pyarrow.array([b"1", b"\xff\x00"])),
    ("a null decimal", pyarrow.array([Decimal("1"), None])),
]


@pytest.mark.parametrize("values", [c[1] for c in HOLES], ids=[c[0] for c in HOLES])
def test_a_hole_in_a_table_is_refused_with_its_row(tmp_path: Path, values: pyarrow.Array) -> None:
    file = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "answer": values}), file)
    assert f"{file}:2: " in refusal(source(file, "parquet", verifier="math"))


def test_rows_with_plain_references_are_stored_as_before(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(jsonl({"prompt": "?", "answer": "3"}))
    (prompt,) = prompts(source(file, "jsonl", verifier="math"))
    assert (prompt.answer, prompt.verifier) == ("3", {"kind": "math"})
    file.write_bytes(jsonl({"prompt": "?", "answer": "B", "choices": ["p", " q"]}))
    (prompt,) = prompts(source(file, "jsonl", verifier="choice"))
    assert prompt.verifier == {"kind": "choice", "answer": "B", "choices": ["p", " q"]}
