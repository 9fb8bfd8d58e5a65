"""Fetch published parallel responses and write them as the JSONL that the run files beside this script read.

    python examples/fetch_published.py alpaca-eval     # alpaca-eval.jsonl.gz: 12 models × 805 instructions
    python examples/fetch_published.py gsm8k           # gsm8k-parallel.jsonl.gz: 4 models × 1,319 problems

A row is one model's response to one prompt, with its reward: `prompt`, `model`, `response`, `reward`.
"""

import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ALPACA_EVAL = "https://raw.githubusercontent.com/tatsu-lab/alpaca_eval/main/results"
"""CC BY-NC 4.0. Reward: GPT-4 Turbo's weighted preference for the response over the reference's, 0 to 1."""
ALPACA_MODELS = (
    "FuseChat-Gemma-2-9B-Instruct",
    "FuseChat-Llama-3.1-8B-Instruct",
    "FuseChat-Llama-3.2-1B-Instruct",
    "FuseChat-Qwen-2.5-7B-Instruct",
    "OpenHermes-2.5-Mistral-7B",
    "alpaca-7b",
    "chatglm2-6b",
    "claude-2",
    "gemma-2b-it",
    "gpt-3.5-turbo-1106",
    "gpt4_1106_preview",
    "vicuna-7b-v1.5",
)
GSM8K = (
    "https://raw.githubusercontent.com/openai/grade-school-math/master"
    "/grade_school_math/data/example_model_solutions.jsonl"
)
"""MIT. Reward: 1 for a right final answer, else 0."""
GSM8K_MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

Row = dict[str, Any]


def of_alpaca_model(
    model: str, outputs: Iterable[Mapping[str, Any]], annotations: Iterable[Mapping[str, Any]]
) -> Iterator[Row]:
    """The rows of one model of AlpacaEval; a preference of 1 to 2 becomes a reward of 0 to 1."""
    rewards = {one["instruction"]: one["preference"] for one in annotations}
    for output in outputs:
        preference = rewards.get(output["instruction"])
        reward = None if preference is None else preference - 1
        yield {
            "prompt": output["instruction"],
            "model": model,
            "response": output["output"],
            "reward": reward,
        }


def of_gsm8k_problem(problem: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of one problem of GSM8K, with its final answer."""
    answer = problem["ground_truth"].rpartition("A:")[2].strip()
    for model in GSM8K_MODELS:
        solution = problem[model]
        yield {
            "prompt": problem["question"],
            "model": model,
            "response": solution["solution"],
            "reward": float(solution["is_correct"]),
            "answer": answer,
        }


def alpaca_eval() -> Iterator[Row]:
    """All rows of AlpacaEval, fetched model by model."""
    for model in ALPACA_MODELS:
        outputs = json.loads(_fetched(f"{ALPACA_EVAL}/{model}/model_outputs.json"))
        place = f"{ALPACA_EVAL}/{model}/weighted_alpaca_eval_gpt4_turbo/annotations.json"
        yield from of_alpaca_model(model, outputs, json.loads(_fetched(place)))


def gsm8k() -> Iterator[Row]:
    """All rows of GSM8K's example solutions."""
    for line in _fetched(GSM8K).splitlines():
        yield from of_gsm8k_problem(json.loads(line))


def _fetched(url: str) -> bytes:
    print(f"fetching {url}", file=sys.stderr)
    with urlopen(url, timeout=60) as reply:
        found: bytes = reply.read()
    return found


SETS = {"alpaca-eval": ("alpaca-eval.jsonl.gz", alpaca_eval), "gsm8k": ("gsm8k-parallel.jsonl.gz", gsm8k)}


def main() -> None:
    """Writes the set that is named, beside this script, whole or not at all."""
    if len(sys.argv) != 2 or sys.argv[1] not in SETS:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(SETS)}")
    name, rows = SETS[sys.argv[1]]
    final = Path(__file__).parent / name
    part = final.with_name(f"{name}.part")
    count = 0
    # Without a time in its header: the same rows are the same file, whose scores are found again.
    with TextIOWrapper(gzip.GzipFile(part, "wb", mtime=0), encoding="utf-8") as file:
        for count, row in enumerate(rows(), 1):  # noqa: B007 — the last number is the count
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    part.rename(final)
    print(f"{final}: {count:,} responses", file=sys.stderr)


if __name__ == "__main__":
    main()
