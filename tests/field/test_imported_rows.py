"""Imported responses in the forms that people bring: their text, tokens and rewards, or the row that is refused."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from engine.config.sources import ImportedSource
from engine.sources import imported
from tests.field.reading import refusal, source

BASE = {"prompt": "What is 0 + 1?", "model": "A", "response": "1"}
U, SAID = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
NAN = float("nan")

# case → (row, settings, (text, reward, tokens))
ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, float | None, int]]] = {
    "i01 plain": ({}, {}, ("1", None, 0)),
    "i02 a hole of pandas in tokens": ({"completion_tokens": NAN}, {}, ("1", None, 0)),
    "tokens as a float": ({"completion_tokens": 12.0}, {}, ("1", None, 12)),
    "a hole of pandas in rewards": ({"reward": NAN}, {}, ("1", None, 0)),
    "i12 a decimal reward": ({"reward": Decimal("0.50")}, {}, ("1", 0.5, 0)),
    "a decimal beyond floats": (
        {"reward": Decimal("0.12345678901234567890")},
        {},
        ("1", 0.12345678901234568, 0),
    ),
    "a reward of true": ({"reward": True}, {}, ("1", 1.0, 0)),
    "a reward as text": ({"reward": "0.5"}, {}, ("1", 0.5, 0)),
    "an empty reward": ({"reward": ""}, {}, ("1", None, 0)),
    "NaN as text": ({"reward": "nan"}, {}, ("1", None, 0)),
    "i04 one message": ({"response": [SAID]}, {}, ("a", None, 0)),
    "parts": (
        {"response": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {},
        ("a\nb", None, 0),
    ),
    "the last turn": ({"prompt": None, "response": ..., "messages": [U, SAID]}, {}, ("a", None, 0)),
    "ShareGPT": (
        {"response": ..., "conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]},
        {"fields": {"messages": "conversations"}},
        ("a", None, 0),
    ),
    "Alpaca": (
        {"instruction": "x", "input": "y", "output": "z"},
        {"fields": {"prompt": "instruction", "response": "output"}},
        ("z", None, 0),
    ),
    "TRL": (
        {"prompt": [U], "response": ..., "completion": [SAID]},
        {"fields": {"response": "completion"}},
        ("a", None, 0),
    ),
    "within a column": (
        {"response": {"text": "a"}},
        {"fields": {"response": "response.text"}},
        ("a", None, 0),
    ),
}

REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no response": ({"response": ..., "output": "x"}, {}, "{response: output}"),
    "several messages": ({"response": [U, SAID]}, {}, "expected one message of the assistant"),
    "a message of the user": ({"response": [U]}, {}, "expected one message of the assistant"),
    "a number": ({"response": 3}, {}, "response: expected text, found 3"),
    "i13 UltraFeedback": ({"response": ..., "completions": [{"model": "A"}]}, {}, "no `response`"),
    "i14 a number as model": ({"model": 1}, {}, "model: expected text, found 1"),
    "an infinite reward": ({"reward": float("inf")}, {}, "reward: expected a finite number"),
    "a word as reward": ({"reward": "good"}, {}, "reward: expected a finite number, found text"),
    "tokens below nothing": ({"completion_tokens": -1}, {}, "completion_tokens: expected a number of tokens"),
    "tokens without end": (
        {"completion_tokens": 1e300},
        {},
        "completion_tokens: expected a number of tokens",
    ),
    "an image": (
        {"response": [{"type": "image_url", "image_url": {}}]},
        {},
        "a part of type `image_url` is no text",
    ),
    "bytes that are no text": ({"response": b"\xff"}, {}, "bytes that are no UTF-8"),
    "no reference of its own": (
        {"messages": [U, SAID], "response": ...},
        {"verifier": "text"},
        "no `answer`",
    ),
}


def given(folder: Path, row: dict[str, Any], settings: dict[str, Any], *, parquet: bool) -> ImportedSource:
    whole = {key: value for key, value in {**BASE, **row}.items() if value is not ...}
    path = folder / ("rows.parquet" if parquet else "rows.jsonl")
    if parquet:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([whole]), path)
    else:
        path.write_text(json.dumps(whole) + "\n")
    return source(path, "imported", **settings)  # type: ignore[return-value]


def foreign(row: dict[str, Any]) -> bool:
    return any(isinstance(value, bytes | Decimal) for value in row.values())


@pytest.mark.parametrize("parquet", [False, True], ids=["JSONL", "Parquet"])
@pytest.mark.parametrize("case", ACCEPTED)
def test_every_form_is_read(tmp_path: Path, case: str, parquet: bool) -> None:
    row, settings, expected = ACCEPTED[case]
    if foreign(row) and not parquet:
        return
    (answer,) = imported.answers(given(tmp_path, row, settings, parquet=parquet))
    assert (answer.text, answer.reward, answer.completion_tokens) == expected


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_row(tmp_path: Path, case: str) -> None:
    row, settings, said = REFUSED[case]
    found = given(tmp_path, row, settings, parquet=foreign(row))
    words = refusal(found)
    assert said in words
    assert f"{found.path}:1: " in words


def test_i09_a_pattern_and_compression(tmp_path: Path) -> None:
    for name in ("a", "b"):
        row = {"prompt": "u", "response": name}
        compressed = pyarrow.compress(json.dumps(row).encode() + b"\n", codec="zstd", asbytes=True)
        (tmp_path / f"{name}.jsonl.zst").write_bytes(compressed)
    found = source(tmp_path / "?.jsonl.zst", "imported")
    assert [(answer.model, answer.text) for answer in imported.answers(found)] == [("a", "a"), ("b", "b")]  # type: ignore[arg-type]
