"""Learnability scoring against what one would use otherwise, as ratios within one run.

    python benchmarks/learnability.py [--data FOLDER] [--model zoo:smollm2-135m] [--dtype float32] [--pairs 48]
    python benchmarks/learnability.py --memory 2000      most memory of the process for so many responses

Measured on published responses (AlpacaEval; see `_published.py`), once one response of a model to each prompt, once
`--responses` models' responses to each; where they are not there, made-up ones, which is said. Peers: a plain loop with
padded batches and full logits, and lm-eval's HF model (`pip install lm-eval`) on the same token ids. Rounds alternate
between the ways; the best round of each counts, so that a busy machine hits all alike. Tokens are those of prompts and
responses, padding not counted; a shared prompt counts for every response that it serves ("effective"). `--clock cpu`
counts processor seconds instead of wall seconds; with OMP_NUM_THREADS=1 that is the fair clock on a machine that others
use.
"""

import argparse
import json
import random
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import _published
import torch

from engine.models.chat_template import encode
from engine.models.loading import load_causal_lm
from engine.models.model_info import context_length
from engine.scorers.kinds.learnability import Options, score

WORDS = (
    "the",
    "sum",
    "of",
    "two",
    "numbers",
    "is",
    "first",
    "then",
    "next",
    "we",
    "add",
    "carry",
    "write",
    "answer",
)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Item = _published.Item


def texts(data: str, tokenizer: Any, prompts: int, responses: int, longest: int) -> list[Item]:
    """Published responses of so many models each to so many prompts; made-up ones where there are none."""
    return _published.parallel(data, prompts, responses) or made_up(tokenizer, prompts, responses, longest)


def made_up(tokenizer: Any, prompts: int, responses: int, longest: int) -> list[Item]:
    """Prompts of 30 to 120 words with responses from 20 tokens to `longest`, more short ones than long ones."""
    draw = random.Random(responses)
    per_word = len(tokenizer(" ".join(WORDS), add_special_tokens=False)["input_ids"]) / len(WORDS)
    items = []
    for _ in range(prompts):
        prompt = " ".join(draw.choices(WORDS, k=int(draw.uniform(30, 120) * min(1.0, longest / 400))))
        for _ in range(responses):
            tokens = 20 * (longest / 20) ** draw.random()
            items.append(
                (_published.user(prompt), " ".join(draw.choices(WORDS, k=int(tokens / per_word) + 1)))
            )
    return items


@torch.inference_mode()
def full_logits(model: Any, tokenizer: Any, items: Sequence[Item], batch: int) -> list[float]:
    """The plain way: sorted, padded batches, logits of every position, log-softmax over all of them."""
    rows = [encode(tokenizer, *item) for item in items]
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].ids))
    sums = [0.0] * len(rows)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        width = len(rows[part[0]].ids)
        ids = torch.zeros((len(part), width), dtype=torch.long)
        mask = torch.zeros((len(part), width), dtype=torch.long)
        for place, index in enumerate(part):
            ids[place, : len(rows[index].ids)] = torch.tensor(rows[index].ids)
            mask[place, : len(rows[index].ids)] = 1
        ids, mask = ids.to(model.device), mask.to(model.device)
        logs = torch.log_softmax(
            model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float(), -1
        )
        picked = logs[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
        for place, index in enumerate(part):
            row = rows[index]
            sums[index] = float(picked[place, row.boundary - 1 : len(row.ids) - 1].sum())
    return sums


def harness(model: Any, tokenizer: Any, batch: int) -> Callable[[Sequence[Item]], list[float]] | None:
    """lm-eval's HF log-likelihood on the same ids; None when it is not installed."""
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        return None
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, max_length=context_length(model))

    def run(items: Sequence[Item]) -> list[float]:
        rows = [encode(tokenizer, *item) for item in items]
        requests = [
            ((str(n), ""), row.ids[: row.boundary], row.ids[row.boundary :]) for n, row in enumerate(rows)
        ]
        return [float(total) for total, _ in wrapped._loglikelihood_tokens(requests, disable_tqdm=True)]

    return run


def product_rate(dtype: torch.dtype, device: str, clock: str) -> float:
    """FLOP/s of a 1024³ matrix product, best of ten."""
    left, right = (torch.randn(1024, 1024, dtype=dtype, device=device) for _ in range(2))
    best = 0.0
    for _ in range(10):
        start = CLOCKS[clock]()
        (left @ right).sum().item()
        best = max(best, 2 * 1024**3 / (CLOCKS[clock]() - start))
    return best


def flops(model: Any, tokenizer: Any, items: Sequence[Item], shared: bool) -> float:
    """Multiply-adds ×2 of the matrices that scoring needs: each prompt once when shared, the head at responses."""
    head = model.get_output_embeddings().weight.numel()
    embedding = model.get_input_embeddings().weight.numel()
    body = sum(parameter.numel() for parameter in model.parameters()) - embedding
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        body -= head
    total, seen = 0.0, set()
    for item in items:
        row = encode(tokenizer, *item)
        prompt = tuple(row.ids[: row.boundary])
        answer = len(row.ids) - row.boundary
        total += 2 * head * answer + 2 * body * answer
        if not shared or prompt not in seen:
            total += 2 * body * row.boundary
        seen.add(prompt)
    return total


def race(
    ways: dict[str, Callable[[], list[float]]], rounds: int, clock: str
) -> dict[str, tuple[float, list[float]]]:
    """Best seconds and results of each way, the ways taking turns."""
    best: dict[str, tuple[float, list[float]]] = {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = CLOCKS[clock]()
            found = way()
            took = CLOCKS[clock]() - start
            if turn and (name not in best or took < best[name][0]):
                best[name] = (took, found)
    return best


def compare(
    title: str, model: Any, tokenizer: Any, items: list[Item], rounds: int, rate: float, clock: str
) -> dict[str, Any]:
    encoded = [encode(tokenizer, *item) for item in items]
    tokens = sum(len(row.ids) for row in encoded)
    ways: dict[str, Callable[[], list[float]]] = {
        "ours": lambda: [one.sum for one in score(model, tokenizer, items)],
        "ours, prompts not shared": lambda: [
            one.sum for one in score(model, tokenizer, items, Options(share_prompts=False))
        ],
    }
    for batch in (4, 16):
        ways[f"full logits, batch {batch}"] = partial(full_logits, model, tokenizer, items, batch)
        peer = harness(model, tokenizer, batch)
        if peer is not None:
            ways[f"lm-eval, batch {batch}"] = partial(peer, items)
    found = race(ways, rounds, clock)
    seconds = {name: took for name, (took, _) in found.items()}
    report: dict[str, Any] = {
        "what": title,
        "responses": len(items),
        "prompt tokens, deciles": _published.deciles([row.boundary for row in encoded]),
        "response tokens, deciles": _published.deciles([len(row.ids) - row.boundary for row in encoded]),
        "tokens_per_s": {},
    }
    for name, took in seconds.items():
        report["tokens_per_s"][name] = round(tokens / took)
    ours = seconds["ours"]
    for peer_name in ("full logits", "lm-eval"):
        peers = [took for name, took in seconds.items() if name.startswith(peer_name)]
        if peers:
            report[f"speed over best {peer_name}"] = round(min(peers) / ours, 2)
    report["speed over not sharing"] = round(seconds["ours, prompts not shared"] / ours, 2)
    shared = len({str(messages) for messages, _ in items}) < len(items)
    report["share of matrix-product rate"] = round(flops(model, tokenizer, items, shared) / ours / rate, 2)
    reference = found["full logits, batch 4"][1]
    report["largest difference to full logits, nats"] = max(
        abs(a - b) for a, b in zip(found["ours"][1], reference, strict=True)
    )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="", help="folder or JSONL file of published responses")
    parser.add_argument("--model", default="zoo:student")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--responses", type=int, default=12)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--memory", type=int, default=0, help="only score so many responses, and say the memory"
    )
    options = parser.parse_args()
    model, tokenizer = load_causal_lm(options.model, dtype=options.dtype, device=options.device)
    longest = min(400, (context_length(model) or 1024) // 2)
    if options.memory:
        groups = -(-options.memory // options.responses)
        items = texts(options.data, tokenizer, groups, options.responses, longest)[: options.memory]
        score(model, tokenizer, items)
        print(json.dumps({"responses": len(items), "peak_gib": peak_gib()}))
        return
    rate = product_rate(model.dtype, str(model.device), options.clock)
    print(f"{options.model} {options.dtype} {model.device}: {rate / 1e9:.0f} GFLOP/s in a matrix product")
    groups = max(2, options.pairs // options.responses)
    for title, prompts, responses in (
        ("one response a prompt", options.pairs, 1),
        (f"{options.responses} responses a prompt", groups, options.responses),
    ):
        items = texts(options.data, tokenizer, prompts, responses, longest)
        found = compare(title, model, tokenizer, items, options.rounds, rate, options.clock)
        print(json.dumps(found, indent=2), flush=True)
    print(f"peak memory {peak_gib():.2f} GiB")


def peak_gib() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
