"""The published texts that benchmarks measure on: found where they lie, never made up.

They are what `examples/fetch_published.py` fetches and the sets as their authors publish them: `gsm8k_train.jsonl`,
`gsm8k_test.jsonl` and, 12 models' responses to the same prompts, `alpaca_eval_parallel.jsonl.gz`. Looked for in the
folder, or the one file, that an argument or PERSYN_BENCH_DATA names, else in `../shared/data` beside the project.
"""

import gzip
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

BESIDE = Path(__file__).parents[2] / "shared" / "data"
Item = tuple[list[dict[str, str]], str]
"""Messages of a prompt, and a response."""
FIELDS = (("question", "answer"), ("prompt", "response"), ("problem", "solution"))


def rows(place: str, *names: str) -> list[dict[str, Any]]:
    """Rows of a JSONL file, or of the first of these names in a folder; none, as stderr says, where none is there."""
    named = place or os.environ.get("PERSYN_BENCH_DATA", "")
    path = Path(named) if named else BESIDE
    files = [path / name for name in names] if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open() as lines:
                return [json.loads(line) for line in lines]
    if named:
        sys.exit(f"{named}: neither a JSONL file nor a folder with {' or '.join(names)}")
    print(f"no {' or '.join(names)} is there (argument or PERSYN_BENCH_DATA): made-up text", file=sys.stderr)
    return []


def answered(place: str, count: int) -> list[Item]:
    """`count` questions with their published answers (GSM8K's training set)."""
    found = rows(place, "gsm8k_train.jsonl")[:count]
    return [(user(ask), answer) for ask, answer in map(_pair, found)]


def asked(place: str, count: int) -> list[str]:
    """`count` published questions (GSM8K's test set)."""
    return [_pair(row)[0] for row in rows(place, "gsm8k_test.jsonl")[:count]]


def parallel(place: str, prompts: int, responses: int, seed: int = 0) -> list[Item]:
    """Responses of as many models each to prompts drawn at random (AlpacaEval), a prompt's one after another."""
    found = rows(place, "alpaca_eval_parallel.jsonl.gz", "alpaca-eval.jsonl.gz")
    by_prompt: dict[str, list[str]] = {}
    for row in found:
        by_prompt.setdefault(row["prompt"], []).append(row["response"])
    draw = random.Random(seed)
    whole = [prompt for prompt, given in by_prompt.items() if len(given) >= responses]
    chosen = draw.sample(whole, min(prompts, len(whole)))
    return [
        (user(prompt), response)
        for prompt in chosen
        for response in draw.sample(by_prompt[prompt], responses)
    ]


def user(text: str) -> list[dict[str, str]]:
    """A prompt of one turn."""
    return [{"role": "user", "content": text}]


def deciles(lengths: Sequence[int]) -> list[int]:
    """The 0th, 10th, … 100th percentile of lengths in tokens."""
    return [round(value) for value in np.percentile(lengths, range(0, 101, 10))]


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    ask, say = next(pair for pair in FIELDS if pair[0] in row)
    return str(row[ask]), str(row.get(say, ""))
