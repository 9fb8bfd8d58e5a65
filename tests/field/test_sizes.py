"""Sizes are looked at before anything is read whole, parsed or tokenized."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pyarrow
import pytest

from engine.base.errors import ConfigError
from engine.config import run_file
from engine.models import text_size
from engine.sources import rows, source_kinds, tables
from engine.teachers.local.encoding import Encoder
from storage.records import Request, Sampling
from tests.field.reading import refusal, source

LONG = json.dumps({"prompt": "x" * 5000}).encode()


@pytest.mark.parametrize(
    ("name", "kind", "content"),
    [
        ("a.jsonl", "jsonl", b'{"prompt": "u"}\n' + LONG),
        ("a.jsonl.gz", "jsonl", gzip.compress(b'{"prompt": "u"}\n' + LONG)),
        (
            "a.jsonl.zst",
            "jsonl",
            bytes(pyarrow.compress(b'{"prompt": "u"}\n' + LONG, codec="zstd", asbytes=True)),
        ),
        ("a.json", "jsonl", b'[{"prompt": "u"},' + LONG + b"]"),
        ("a.json", "imported", b'[{"prompt": "u", "response": "x"},' + LONG + b"]"),
        ("a.csv", "csv", b"prompt\n" + b"x" * 5000),
    ],
    ids=["lines", "gzip", "zstd", "array", "imported", "csv"],
)
def test_a_row_that_is_too_long_is_refused_with_its_line_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, content: bytes
) -> None:
    monkeypatch.setattr(rows, "LONGEST_LINE", 1000)
    monkeypatch.setattr(rows, "_BLOCK", 64)
    (tmp_path / name).write_bytes(content)
    assert f"{name}:2: longer than" in refusal(source(tmp_path / name, kind))
    with pytest.raises(ConfigError, match=":2: longer than"):
        source_kinds.count(source(tmp_path / name, kind))


def test_a_bomb_of_one_line_is_not_unpacked_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST_LINE", 2**20)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "' + b"x" * 20_000_000))
    assert "a.jsonl.gz:1: longer than" in refusal(source(tmp_path / "a.jsonl.gz", "jsonl"))


def test_a_prompt_that_no_model_reads_is_refused_whatever_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LONGEST_TEXT", 1000)
    (tmp_path / "a.jsonl").write_bytes(LONG)
    assert "a.jsonl:1: a prompt of more than" in refusal(source(tmp_path / "a.jsonl", "jsonl"))


@pytest.fixture
def counted() -> tuple[list[int], Callable[[str], int]]:
    """(lengths of what was tokenized, a tokenizer of four characters a token)."""
    seen: list[int] = []

    def count(text: str) -> int:
        seen.append(len(text))
        return -(-len(text) // 4)

    return seen, count


def test_a_text_far_beyond_the_limit_is_not_tokenized_whole(
    counted: tuple[list[int], Callable[[str], int]],
) -> None:
    seen, count = counted
    assert text_size.tokens_of("x" * 50_000_000, 4096, count) > 4096
    assert max(seen) <= text_size.SLICE
    assert sum(seen) <= 2 * text_size.SLICE


@pytest.mark.parametrize(
    "length", [0, 1, 16_000, text_size.SLICE, text_size.SLICE + 1, 3 * text_size.SLICE + 7]
)
def test_a_text_near_the_limit_is_counted_exactly(
    counted: tuple[list[int], Callable[[str], int]], length: int
) -> None:
    seen, count = counted
    exact = -(-length // 4)
    assert text_size.tokens_of("x" * length, exact, count) == exact
    assert seen[-1] == length


def test_a_local_model_marks_such_a_prompt_at_once() -> None:
    seen: list[int] = []

    class Tokenizer:
        added_tokens_decoder: ClassVar[dict[int, object]] = {}

        def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
            seen.append(len(text))
            return {"input_ids": [1] * (len(text) // 4)}

    request = Request(1, ({"role": "user", "content": "x" * 20_000_000},), Sampling())
    response = Encoder(Tokenizer(), None, 4096).row(request)  # type: ignore[arg-type]
    assert response.status == "too_long"  # type: ignore[union-attr]
    assert sum(seen) <= 2 * text_size.SLICE


def test_a_run_file_is_not_read_beyond_its_bound(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: x\n#" + "x" * run_file.LARGEST)
    with pytest.raises(ConfigError, match="a run file of more than 512 kB"):
        run_file.load(tmp_path / "run.yaml")
