"""Local generation: the decoding loop of `engine.teachers.local` against `model.generate` on the same batches.

    python benchmarks/decode.py [PROMPTS.jsonl] [--model zoo:smollm2-135m] [--dtype bfloat16] [--batch 16]

PROMPTS is a JSONL file whose rows have `question`, `prompt` or `problem` (GSM8K, IFEval, MATH-500 as published), or a
folder that holds `gsm8k_test.jsonl` (see `_published.py`); where there is none the zoo's own tasks are asked, which is
said. Both ways get the same padded batches, sampling and token limit. `generate` runs
with its default cache and with a static one, and the faster counts. Rounds alternate, the best of each counts. Tokens
are those up to the end of each response: what `generate` computes for rows that have ended is not counted.
`--clock cpu --threads 1` is the fair clock on a machine that others use.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import _published
import torch

from engine.models.batching import pad
from engine.models.chat_template import prompt_ids
from engine.models.loading import load_causal_lm
from engine.teachers.local.decode import Row, decode
from storage.records import Sampling

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Responses = list[list[int]]


def questions(place: str, count: int) -> list[str]:
    """`count` published prompts; the zoo's tasks where there are none."""
    if found := _published.asked(place, count):
        return found
    return [f"What is {7 * index + 3} + {5 * index % 91}?" for index in range(count)]


def ours(model: Any, batches: Sequence[list[Row]], ends: list[int]) -> Responses:
    """Response ids of every row, batches in order."""
    found: Responses = []
    for rows in batches:
        by_row = {answer.row: answer.ids for answer in decode(model, rows, ends)}
        found += [by_row[row] for row in range(len(rows))]
    return found


def generate(model: Any, batches: Sequence[list[Row]], ends: list[int], cache: str | None) -> Responses:
    """The same by `model.generate`, cut after the first ending id."""
    found: Responses = []
    for rows in batches:
        ids, mask = pad([row.prompt for row in rows], model.device, left=True)
        width, sampling = ids.shape[1], rows[0].sampling
        sampled: dict[str, Any] = {"do_sample": False}
        if sampling.temperature:
            sampled = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": 0,
            }
        made = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=rows[0].limit,
            eos_token_id=ends,
            pad_token_id=ends[0],
            cache_implementation=cache,
            **sampled,
        )[:, width:].tolist()
        for response in made:
            stop = next((place for place, token in enumerate(response) if token in ends), len(response) - 1)
            found.append(response[: stop + 1])
    return found


def race(
    ways: dict[str, Callable[[], Responses]], rounds: int, clock: str
) -> dict[str, tuple[float, Responses]]:
    """Best tokens per second and last responses of each way, the ways taking turns."""
    best: dict[str, tuple[float, Responses]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = CLOCKS[clock]()
            found = way()
            speed = sum(map(len, found)) / (CLOCKS[clock]() - begun)
            best[name] = (max(speed, best[name][0] if name in best else 0.0), found)
            print(f"{name}: {speed:.1f} tokens/s", file=sys.stderr, flush=True)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prompts", nargs="?", default="")
    parser.add_argument("--model", default="zoo:scholar")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--count", type=int, default=32, help="prompts")
    parser.add_argument("--batch", type=int, default=16, help="rows of a batch")
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 0.7])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as the environment says")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

    model, tokenizer = load_causal_lm(options.model, dtype=options.dtype)
    ends = sorted({tokenizer.eos_token_id, model.generation_config.eos_token_id or tokenizer.eos_token_id})
    prompts = [
        prompt_ids(tokenizer, [{"role": "user", "content": text}])
        for text in questions(options.prompts, options.count)
    ]
    prompts.sort(key=len, reverse=True)
    report: dict[str, Any] = {"model": options.model, "dtype": options.dtype, "batch": options.batch}
    for temperature in options.temperatures:
        sampling = Sampling(temperature=temperature, max_tokens=options.max_tokens, top_p=1.0)
        rows = [Row(prompt, sampling, options.max_tokens) for prompt in prompts]
        batches = [rows[start : start + options.batch] for start in range(0, len(rows), options.batch)]
        ours(model, [batches[-1][:2]], ends)  # lazy imports and allocators are not what is compared
        found = race(
            {
                "ours": partial(ours, model, batches, ends),
                "generate": partial(generate, model, batches, ends, None),
                "generate, static cache": partial(generate, model, batches, ends, "static"),
            },
            options.rounds,
            options.clock,
        )
        mine, theirs = found["ours"][1], found["generate"][1]
        lengths = sorted(map(len, mine))
        peer = max(speed for name, (speed, _) in found.items() if name != "ours")
        report[f"temperature {temperature}"] = {
            "tokens_per_s": {name: round(speed, 1) for name, (speed, _) in found.items()},
            "ours over generate at its best": round(found["ours"][0] / peer, 3),
            "response tokens": {
                "mean": sum(lengths) / len(lengths),
                "median": lengths[len(lengths) // 2],
                "at the limit": sum(length == options.max_tokens for length in lengths),
            },
            "responses that are equal": sum(a == b for a, b in zip(mine, theirs, strict=True)),
            "responses": len(mine),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
