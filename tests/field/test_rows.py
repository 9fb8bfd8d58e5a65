"""Prompts in the forms that people bring: what each file becomes, or what is said of it, with its line and a remedy."""

import bz2
import gzip
import json
import lzma
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from engine.base.errors import ConfigError
from engine.config import run_file
from engine.registry import run_files
from engine.sources import source_kinds
from tests.field.reading import jsonl, prompts, refusal, source

TWO = ({"prompt": "one?", "answer": "1"}, {"prompt": "two?", "answer": "2"})
READ = [("U one?", "1"), ("U two?", "2")]
U, A, S = (
    {"role": role, "content": text} for role, text in (("user", "u"), ("assistant", "a"), ("system", "s"))
)
LINES = jsonl(*TWO)


def zstd(data: bytes) -> bytes:
    return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))


def rows(*given: Any, **settings: Any) -> tuple[str, bytes, str, dict[str, Any]]:
    return "rows.jsonl", jsonl(*given), "jsonl", settings


def csv(text: str, name: str = "rows.csv", **settings: Any) -> tuple[str, bytes, str, dict[str, Any]]:
    return name, text.encode("utf-8", "surrogateescape"), "csv", settings


def alike(
    name: str, content: bytes, kind: str = "jsonl", **settings: Any
) -> tuple[str, bytes, str, dict[str, Any]]:
    return name, content, kind, settings


TEXT = {"type": "text", "text": "x"}
ALPACA = {"fields": {"prompt": "instruction", "answer": "output"}}
SHAREGPT = {"fields": {"messages": "conversations"}}
HUMAN, GPT = {"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}
DOCS = "https://example.com/page"

# case → ((file, content, kind, settings), [(conversation, answer)])
ACCEPTED: dict[str, tuple[tuple[str, bytes, str, dict[str, Any]], list[tuple[str, str | None]]]] = {
    "d01 JSONL with a mark": (alike("a.jsonl", b"\xef\xbb\xbf" + LINES), READ),
    "d02 CRLF": (alike("a.jsonl", LINES.replace(b"\n", b"\r\n") + b"\r\n"), READ),
    "blank lines": (alike("a.jsonl", b"\n\n" + LINES.replace(b"\n", b"\n \n")), READ),
    "no last line end": (alike("a.jsonl", LINES.rstrip()), READ),
    "d04 JSON array": (alike("a.json", json.dumps(TWO, indent=2).encode()), READ),
    "array on one line": (alike("a.jsonl", json.dumps(TWO).encode()), READ),
    "array with a mark": (alike("a.json", b"\xef\xbb\xbf\n " + json.dumps(TWO).encode()), READ),
    "array of large rows": (
        alike("a.json", json.dumps([{**row, "more": "ü" * 200_000} for row in TWO]).encode()),
        READ,
    ),
    "d06 gzip": (alike("a.jsonl.gz", gzip.compress(LINES)), READ),
    "d07 zstd": (alike("a.jsonl.zst", zstd(LINES)), READ),
    "zstd in two frames": (alike("a.jsonl.zst", zstd(LINES[:20]) + zstd(LINES[20:])), READ),
    "gzip in two members": (alike("a.jsonl.gz", gzip.compress(LINES[:20]) + gzip.compress(LINES[20:])), READ),
    "bzip2": (alike("a.jsonl.bz2", bz2.compress(LINES)), READ),
    "xz": (alike("a.jsonl.xz", lzma.compress(LINES)), READ),
    "gzip whose name does not say so": (alike("a.jsonl", gzip.compress(LINES)), READ),
    "zstd whose name does not say so": (alike("a", zstd(LINES)), READ),
    "an array in gzip": (alike("a.json.gz", gzip.compress(json.dumps(TWO).encode())), READ),
    "CSV in gzip": (alike("a.csv.gz", gzip.compress(b"prompt,answer\none?,1\ntwo?,2\n"), "csv"), READ),
    "d13 control characters": (rows({"prompt": "a\x00\x1b[31m"}), [("U a\x00\x1b[31m", None)]),
    "lone surrogate": (alike("a.jsonl", b'{"prompt": "a\\ud800"}\n'), [("U a\ud800", None)]),
    "d21 Alpaca": (
        rows({"instruction": "Add.", "input": "0 and 1", "output": "1"}, **ALPACA),
        [("U Add.\n0 and 1", "1")],
    ),
    "Alpaca without an input": (
        rows({"instruction": "Hi.", "input": "", "output": "1"}, **ALPACA),
        [("U Hi.", "1")],
    ),
    "Alpaca, null input": (
        rows({"instruction": "Hi.", "input": None, "output": "1"}, **ALPACA),
        [("U Hi.", "1")],
    ),
    "Alpaca with all": (
        rows(
            {
                "instruction": "u",
                "input": "",
                "output": "1",
                "system": "s",
                "history": [["x", "y"], ["z", "w"]],
            },
            **ALPACA,
        ),
        [("S s/U x/A y/U z/A w/U u", "1")],
    ),
    "Dolly": (
        rows(
            {"instruction": "Who?", "context": "Ada wrote.", "response": "Ada"},
            fields={"prompt": "instruction", "input": "context", "answer": "response"},
        ),
        [("U Who?\nAda wrote.", "Ada")],
    ),
    "OpenOrca": (
        rows(
            {"system_prompt": "s", "question": "u", "response": "r"},
            fields={"prompt": "question", "system": "system_prompt", "answer": "response"},
        ),
        [("S s/U u", "r")],
    ),
    "SQuAD's context": (
        rows(
            {"question": "u", "context": "c", "answers": {"text": ["x"]}},
            verifier="text",
            fields={"prompt": "question", "input": "context", "answer": "answers"},
        ),
        [("U u\nc", "x")],
    ),
    "d22 ShareGPT": (rows({"conversations": [HUMAN, GPT]}, verifier="text", **SHAREGPT), [("U u", "a")]),
    "ShareGPT with a system": (
        rows({"conversations": [HUMAN, GPT], "system": "s"}, **SHAREGPT),
        [("S s/U u", None)],
    ),
    "ShareGPT with a system turn": (
        rows({"conversations": [{"from": "system", "value": "s"}, HUMAN], "system": ""}, **SHAREGPT),
        [("S s/U u", None)],
    ),
    "ShareGPT of many turns": (
        rows({"conversations": [HUMAN, GPT, HUMAN, GPT]}, verifier="text", **SHAREGPT),
        [("U u/A a/U u", "a")],
    ),
    "ShareGPT's roles in messages": (
        rows({"messages": [{"role": "human", "content": "u"}, {"role": "gpt", "content": "a"}]}),
        [("U u", None)],
    ),
    "d23 messages that end with the answer": (rows({"messages": [U, A], "answer": "1"}), [("U u", "1")]),
    "their last turn as the reference": (rows({"messages": [S, U, A]}, verifier="text"), [("S s/U u", "a")]),
    "without a verifier it is no reference": (rows({"messages": [U, A]}), [("U u", None)]),
    "d26 a system turn in the middle": (rows({"messages": [U, A, S, U]}), [("U u/A a/S s/U u", None)]),
    "d30 more keys": (rows({"messages": [{**U, "name": "bob", "weight": 0}]}), [("U u", None)]),
    "d31 two of the user": (rows({"messages": [U, U]}), [("U u/U u", None)]),
    "d34 no messages beside a prompt": (rows({"messages": [], "prompt": "u"}), [("U u", None)]),
    "null messages beside a prompt": (rows({"messages": None, "prompt": "u"}), [("U u", None)]),
    "content as parts": (
        rows(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [TEXT, {**TEXT, "text": "y"}],
                    }
                ]
            }
        ),
        [("U x\ny", None)],
    ),
    "content as one part": (
        rows({"messages": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]}),
        [("U x", None)],
    ),
    "answer as parts": (
        rows(
            {"messages": [U, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]},
            verifier="text",
        ),
        [("U u", "a")],
    ),
    "TRL's conversational prompt": (rows({"prompt": [U], "completion": [A]}), [("U u", None)]),
    "TRL's preferences": (rows({"prompt": "u", "chosen": "x", "rejected": "y"}), [("U u", None)]),
    "messages as JSON text": (rows({"messages": json.dumps([U])}), [("U u", None)]),
    "numina: messages and a problem": (
        rows(
            {"problem": "u", "solution": "\\boxed{1}", "messages": [U, A]},
            fields={"prompt": "problem", "answer": "solution"},
        ),
        [("U u", "\\boxed{1}")],
    ),
    "within a column": (
        rows(
            {"question": {"stem": "u"}, "gold": {"value": 3}},
            fields={"prompt": "question.stem", "answer": "gold.value"},
        ),
        [("U u", "3")],
    ),
    "a column with a dot": (rows({"a.b": "u"}, fields={"prompt": "a.b"}), [("U u", None)]),
    "MMLU with its choices": (
        rows(
            {"question": "u", "choices": ["p", "q"], "answer": 1},
            verifier="choice",
            show_choices=True,
            fields={"prompt": "question"},
        ),
        [("U u\nA. p\nB. q", "B")],
    ),
    "ARC with its choices": (
        rows(
            {"question": "u", "choices": {"text": ["p", "q"], "label": ["1", "2"]}, "answerKey": "2"},
            verifier="choice",
            show_choices=True,
            fields={"prompt": "question", "answer": "answerKey"},
        ),
        [("U u\n1. p\n2. q", "2")],
    ),
    "MedMCQA": (
        rows(
            {"question": "u", "opa": "p", "opb": "q", "cop": 1},
            verifier="choice",
            show_choices=True,
            fields={"prompt": "question", "answer": "cop", "choice_columns": ["opa", "opb"]},
        ),
        [("U u\nA. p\nB. q", "B")],
    ),
    "C-Eval in CSV": (
        csv(
            "question,A,B,answer\nu,p,q,B\n",
            verifier="choice",
            show_choices=True,
            fields={"prompt": "question", "choice_columns": ["A", "B"]},
        ),
        [("U u\nA. p\nB. q", "B")],
    ),
    "PIQA": (
        rows(
            {"goal": "u", "sol1": "p", "sol2": "q", "label": 0},
            verifier="choice",
            fields={"prompt": "goal", "answer": "label", "choice_columns": ["sol1", "sol2"]},
        ),
        [("U u", "A")],
    ),
    "CSV": (csv("prompt,answer\none?,1\ntwo?,2\n"), READ),
    "d50 semicolons": (csv("prompt;answer\none?;1\ntwo?;2\n"), READ),
    "semicolons and a decimal comma": (csv("prompt;answer\nu;1,5\n"), [("U u", "1,5")]),
    "Excel's sep line": (csv("sep=;\r\nprompt;answer\r\none?;1\r\ntwo?;2\r\n"), READ),
    "d51 a mark": (csv("\ufeffprompt,answer\r\none?,1\r\ntwo?,2\r\n"), READ),
    "a mark and semicolons": (csv("\ufeffprompt;answer\none?;1\ntwo?;2\n"), READ),
    "a mark before a quote": (csv('\ufeff"prompt","answer"\none?,1\ntwo?,2\n'), READ),
    "d54 blanks after commas": (csv("prompt, answer\none?, 1\ntwo?, 2\n"), READ),
    "blanks before quotes": (csv('prompt, answer\n"one?", "1"\n"two?", "2"\n'), READ),
    "blanks around names": (csv(" prompt ,answer \none?,1\ntwo?,2\n"), READ),
    "a blank that belongs to a cell": (csv("prompt,answer\nu, 1\n"), [("U u", " 1")]),
    "d58 the index of pandas": (csv(",prompt,answer\n0,one?,1\n1,two?,2\n"), READ),
    "d62 tabs": (csv("prompt\tanswer\none?\t1\ntwo?\t2\n", "a.tsv"), READ),
    "bars": (csv("prompt|answer\none?|1\ntwo?|2\n"), READ),
    "rows of empty cells": (csv("prompt,answer\none?,1\n,\ntwo?,2\n,\n,\n"), READ),
    "line ends of old Macs": (csv("prompt,answer\rone?,1\rtwo?,2\r"), READ),
    "one column": (csv("prompt\nu\n v\n"), [("U u", None), ("U  v", None)]),
    "commas in a quoted header": (csv('prompt;"a, b";answer\nu;x;1\n'), [("U u", "1")]),
    "messages in CSV": (csv('messages\n"[{""role"": ""user"", ""content"": ""u""}]"\n'), [("U u", None)]),
    "an empty cell of messages": (csv("messages,prompt\n,u\n"), [("U u", None)]),
}

_WRAPPED = {"data": list(TWO)}
# case → ((file, content, kind, settings), what is said)
REFUSED: dict[str, tuple[tuple[str, bytes, str, dict[str, Any]], str]] = {
    "d03 UTF-16": (alike("a.jsonl", LINES.decode().encode("utf-16")), "a.jsonl:1: is text in UTF-16"),
    "d10 commas between": (alike("a.jsonl", LINES.replace(b"}\n", b"},\n")), "a.jsonl:1: malformed JSONL"),
    "d11 two on a line": (alike("a.jsonl", LINES.replace(b"}\n", b"}", 1)), "a.jsonl:1: malformed JSONL"),
    "one object over lines": (alike("a.json", json.dumps(TWO[0], indent=1).encode()), "jq -c . FILE"),
    "an array that stops": (alike("a.json", b'[{"prompt": "x"}, {"prom'), "[1]: not JSON"),
    "an array with a number": (alike("a.json", b'[{"prompt": "x"}, 7]'), "[1]: expected an object, found 7"),
    "an array without commas": (alike("a.json", b'[{"prompt": "x"} {"prompt": "y"}]'), "expected `,` or `]`"),
    "text after an array": (alike("a.json", b'[{"prompt": "x"}] x'), "something follows the list"),
    "a comma at an array's end": (alike("a.json", b'[{"prompt": "x"},]'), "[1]: not JSON"),
    "a mark alone": (alike("a.jsonl", b"\xef\xbb\xbf"), "has no rows"),
    "UTF-16 without its mark": (alike("a.jsonl", LINES.decode().encode("utf-16-le")), "is text in UTF-16"),
    "CSV in UTF-16 without its mark": (
        alike("a.csv", "prompt\n".encode("utf-16-be"), "csv"),
        "is text in UTF-16",
    ),
    "a comment": (alike("a.jsonl", b"# rows\n" + LINES), "a.jsonl:1: malformed JSONL"),
    "Latin-1": (alike("a.jsonl", b'{"prompt": "gr\xfcn"}\n'), "a.jsonl:1: malformed JSONL"),
    "an answer nested deeply": (
        alike("a.jsonl", b'{"prompt": "x", "answer": ' + b"[" * 900 + b"]" * 900 + b"}"),
        "a.jsonl:1: answer: nested too deeply",
    ),
    "messages nested deeply": (
        alike("a.jsonl", b'{"messages": ' + b"[" * 900 + b"]" * 900 + b"}"),
        "messages: nested too deeply",
    ),
    "a function's turn": (
        rows({"conversations": [HUMAN, {"from": "function_call", "value": "f"}, HUMAN]}, **SHAREGPT),
        "there is no role `function_call`",
    ),
    "an empty array": (alike("a.json", b"[]"), "has no rows"),
    "an empty file": (alike("a.jsonl", b""), "has no rows"),
    "nested too deeply": (alike("a.json", b"[" * 100_000), "nested too deeply"),
    "a line nested too deeply": (
        alike("a.jsonl", b'{"prompt": ' + b"[" * 100_000),
        "a.jsonl:1: malformed JSONL",
    ),
    "no gzip": (alike("a.jsonl.gz", LINES), "cannot be decompressed (.gz)"),
    "zstd that stops": (alike("a.jsonl.zst", zstd(LINES * 99)[:-9]), "cannot be decompressed (.zst)"),
    "a zip archive": (alike("a.jsonl", b"PK\x03\x04..."), "is a zip archive or a spreadsheet"),
    "a spreadsheet": (alike("a.xlsx", b"PK\x03\x04...", "csv"), "save the sheet as CSV"),
    "lz4": (alike("a.jsonl.lz4", b"\x04\x22\x4d\x18..."), "is compressed by lz4"),
    "a Parquet file": (alike("a.jsonl", b"PAR1..."), "source: parquet"),
    "a pointer": (alike("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "a web page": (alike("a.jsonl", b"\n<!DOCTYPE html><html>"), "is a web page"),
    "a web page as CSV": (alike("a.csv", b"<HTML>", "csv"), "is a web page"),
    "a database": (alike("a.csv", b"SQLite format 3\x00", "csv"), "is a database"),
    "d79 a pointer for Parquet": (
        alike("a.parquet", b"version https://git-lfs\n", "parquet"),
        "git lfs pull",
    ),
    "JSONL as Parquet": (alike("a.parquet", LINES, "parquet"), "not a readable Parquet file"),
    "half a Parquet file": (alike("a.parquet", b"PAR1....", "parquet"), "not a readable Parquet file"),
    "d28 developer": (
        rows({"messages": [{"role": "developer", "content": "x"}, U]}),
        "there is no role `developer`",
    ),
    "d29 tool turns": (rows({"messages": [U, {"role": "assistant", "content": None}, U]}), "found null"),
    "an image": (
        rows(
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": DOCS}}]}]}
        ),
        "a part of type `image_url` is no text",
    ),
    "an answer alone": (rows({"messages": [A]}), "the last message is from `assistant`"),
    "two answers": (rows({"messages": [U, A, A]}), "the last message is from `assistant`"),
    "a system turn at the end": (rows({"messages": [U, S]}), "the last message is from `system`"),
    "messages of texts": (rows({"messages": ["u", "a"]}), "expected an object, found text"),
    "messages as an object": (rows({"messages": {"role": "user"}}), "expected a list, found an object"),
    "a number as prompt": (rows({"prompt": 3}), "prompt: expected text, found 3"),
    "ShareGPT without the key": (
        rows({"conversations": [HUMAN, GPT]}),
        "`fields: {messages: conversations}`",
    ),
    "Alpaca without the keys": (
        rows({"instruction": "x", "output": "y"}, verifier="text"),
        "`fields: {prompt: instruction, answer: output}`",
    ),
    "GSM8K without the key": (rows({"question": "x", "answer": "1"}), "`fields: {prompt: question}`"),
    "MATH without the keys": (
        rows({"problem": "x", "solution": "1"}),
        "`fields: {prompt: problem, answer: solution}`",
    ),
    "ARC without the keys": (
        rows({"question": "x", "answerKey": "A", "choices": {}}),
        "{prompt: question, answer: answerKey}",
    ),
    "an answer's key": (
        rows({"prompt": "x", "ground_truth": "1"}, verifier="text"),
        "`fields: {answer: ground_truth}`",
    ),
    "an unknown form": (rows({"zzz": "x"}), "the row has: zzz"),
    "rows within an object": (alike("a.json", json.dumps(_WRAPPED).encode()), "the row has: data"),
    "a column that is not there": (
        rows({"prompt": "x"}, fields={"input": "context"}),
        "there is no column `context`",
    ),
    "a choice's column that is not there": (
        rows({"prompt": "x", "answer": "A"}, verifier="choice", fields={"choice_columns": ["opa"]}),
        "there is no column `opa`",
    ),
    "a choice without its columns": (
        rows({"prompt": "x", "cop": 2}, verifier="choice", fields={"answer": "cop"}),
        "name the columns of the choices",
    ),
    "choices that are not there": (rows({"prompt": "x"}, show_choices=True), "there are no choices to show"),
    "history without pairs": (
        rows({"instruction": "x", "history": [["a"]]}, fields={"prompt": "instruction"}),
        "history[0][1] is missing",
    ),
    "d52 Windows-1252": (
        csv("prompt,answer\nx,1\nGr\udcfc\udcdfe,1\n"),
        "rows.csv:3: malformed CSV: not UTF-8",
    ),
    "d53 UTF-16 with tabs": (
        alike("a.csv", "prompt\tanswer\r\n".encode("utf-16"), "csv"),
        "a.csv:1: is text in UTF-16",
    ),
    "d55 a comma too many": (
        csv("prompt,answer\nx,1\nFirst, what?,1\n"),
        "rows.csv:3: malformed CSV: 3 cells",
    ),
    "d56 a short row": (csv("prompt,answer\nx,1\ny\n"), "rows.csv:3: malformed CSV: 1 cells"),
    "d57 an empty answer": (csv("prompt,answer\nx,1\ny,\n", verifier="math"), "rows.csv:3: "),
    "d59 other letter case": (csv("Prompt,Answer\nx,1\n"), "`fields: {prompt: Prompt, answer: Answer}`"),
    "d64 messages by str()": (csv("messages\n\"[{'role': 'user'}]\"\n"), "`messages` is not JSON"),
    "a column twice": (
        csv("prompt,prompt\nx,y\n"),
        "rows.csv:1: malformed CSV: the column `prompt` stands twice",
    ),
    "a header alone": (csv("prompt,answer\n"), "has no rows"),
    "a wrong separator": (csv("prompt:answer\nx:1\n"), "the row has: prompt:answer"),
}


def told(found: Any) -> list[tuple[str, str | None]]:
    return [
        ("/".join(f"{turn['role'][0].upper()} {turn['content']}" for turn in prompt.messages), prompt.answer)
        for prompt in found
    ]


@pytest.mark.parametrize("case", ACCEPTED)
def test_every_form_is_read(tmp_path: Path, case: str) -> None:
    (name, content, kind, settings), expected = ACCEPTED[case]
    (tmp_path / name).write_bytes(content)
    assert told(prompts(source(tmp_path / name, kind, **settings))) == expected


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    (name, content, kind, settings), said = REFUSED[case]
    (tmp_path / name).write_bytes(content)
    assert said in refusal(source(tmp_path / name, kind, **settings))


def shards(folder: Path) -> None:
    for name, row in zip(("b/2.jsonl", "a/1.jsonl"), reversed(TWO), strict=True):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(jsonl(row))
    (folder / "README.md").write_text("no rows")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "0.jsonl").write_text("{}")


@pytest.mark.parametrize("path", ["", "*/*.jsonl", "**/*.jsonl", "?/[0-9].jsonl"])
def test_d08_d09_a_folder_or_a_pattern_names_several_files(tmp_path: Path, path: str) -> None:
    shards(tmp_path / "set")
    found = source(tmp_path / "set" / path, "jsonl")
    assert told(prompts(found)) == READ
    places = [where for where, _ in source_kinds.read(found)]
    assert places == (["a/1.jsonl:1", "b/2.jsonl:1"] if not path else ["1.jsonl:1", "2.jsonl:1"])
    before = source_kinds.fingerprint(found)
    (tmp_path / "set" / "b" / "2.jsonl").write_bytes(jsonl({"prompt": "three?"}))
    assert source_kinds.fingerprint(found) != before


def test_shards_are_counted_as_they_are_read_and_a_size_limits_all_of_them(tmp_path: Path) -> None:
    shards(tmp_path / "set")
    found = source(tmp_path / "set", "jsonl", size=1)
    assert source_kinds.count(found) == (1, True)
    assert told(prompt for _, prompt in source_kinds.read(found)) == READ[:1]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "imported", "huggingface"])
def test_data_that_is_not_here_is_counted_by_the_run_files_size(tmp_path: Path, kind: str) -> None:
    assert source_kinds.count(source(tmp_path / "gone.jsonl", kind, size=7)) == (7, False)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "imported", "huggingface"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "no regular file"),
        (loop, "no such file"),
        (dangling, "no such file"),
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no .* file is there|has no rows|cannot be loaded"),
    ],
    ids=["FIFO", "loop", "dangling", "missing", "empty folder"],
)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, kind: str, make: Callable[[Path], Any], said: str
) -> None:
    make(tmp_path / "a.jsonl")
    words = refusal(source(tmp_path / "a.jsonl", kind))
    assert re.search(said if kind != "huggingface" else "cannot be loaded|no regular file", words)


def parsed(**prompts: Any) -> Any:
    """A run file with these prompts."""
    student = {"name": "s", "model": "zoo:student"}
    run = {"student": student, "teachers": [{**student, "name": "t"}], "prompts": [prompts]}
    return run_file.parse(json.dumps(run))


@pytest.mark.parametrize("path", ["x" * 300, "a/" * 3000, "~nobody-has-this-name/x", "x\x00y"])
def test_a_path_that_no_file_can_have_is_refused_where_the_run_file_is_read(path: str) -> None:
    with pytest.raises(ConfigError, match="not a usable path"):
        parsed(source="jsonl", path=path)


NOTES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "SQuAD's context": (
        {"question": "u", "context": "c"},
        {"fields": {"prompt": "question"}},
        "{input: context}",
    ),
    "BoolQ's passage": (
        {"question": "u", "passage": "c"},
        {"fields": {"prompt": "question"}},
        "{input: passage}",
    ),
    "a system prompt": ({"prompt": "u", "system_prompt": "s"}, {}, "{system: system_prompt}"),
    "an input beside a prompt": ({"prompt": "u", "input": "i"}, {}, "{input: input}"),
    "hidden choices": ({"prompt": "u", "choices": ["p", "q"]}, {}, "show_choices: true"),
    "hidden options": (
        {"prompt": "u", "options": ["p", "q"]},
        {},
        "{choices: options}` and `show_choices",
    ),
    "hidden columns of choices": (
        {"prompt": "u", "a": "p"},
        {"fields": {"choice_columns": ["a"]}},
        "show_choices",
    ),
    "choices that are shown": ({"prompt": "u (A) p (B) q", "choices": ["p", "q"]}, {}, ""),
    "a context that is shown": ({"prompt": "c\nu", "context": "c"}, {}, ""),
    "Alpaca": ({"instruction": "u", "input": "i"}, {"fields": {"prompt": "instruction"}}, ""),
    "messages": ({"messages": [U], "input": "i"}, {}, ""),
}


@pytest.mark.parametrize("case", NOTES)
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_column_of_the_prompt_that_is_not_read_is_said(tmp_path: Path, case: str, form: str) -> None:
    row, settings, said = NOTES[case]
    file = tmp_path / f"rows.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), file)
    else:
        file.write_bytes(jsonl(row))
    lines = run_files.notes(parsed(source=form, path=str(file), **settings))
    assert (said in lines[0] and f"{file}:1: " in lines[0]) if said else lines == []
