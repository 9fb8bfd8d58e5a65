"""The router's two costs: a training step against one row per pair, and routing against the machine.

    python benchmarks/router.py [--backbone REF] [--data FOLDER] [--teachers 19] [--prompts 4] [--json]

Both peers of each ratio run in this process, on the same weights and prompts. With `--backbone` the prompts are
AlpacaEval's (see `_published.py`). Without it a small random-weight Llama reads random ones: the arithmetic is what is
timed, not what the model knows.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import _published
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import AutoModel, LlamaConfig

from engine.models.batching import cut
from engine.models.chat_template import prompt_ids
from engine.router.backbone import load_backbone, pool
from engine.router.loss import bradley_terry
from engine.router.settings import CPU_TOKENS

MATMUL_SIDE = 1024

CLOCK: list[Callable[[], float]] = [time.perf_counter]
"""Wall time, or with `--cpu-time` the time this process computed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backbone", default="", help="zoo:NAME, a folder or a hub id; empty: a small Llama")
    parser.add_argument("--data", default="", help="folder or JSONL file of published responses")
    parser.add_argument("--teachers", type=int, default=19)
    parser.add_argument("--prompts", type=int, default=4, help="prompts in the training step")
    parser.add_argument("--tokens", type=int, default=96, help="longest prompt, in tokens")
    parser.add_argument("--route", type=int, default=512, help="prompts to route")
    parser.add_argument("--rows", type=int, default=16, help="pair rows per forward pass of the peer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="one thread and its CPU time instead of wall time: ratios that hold on a machine shared with others",
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    if options.cpu_time:
        torch.set_num_threads(1)
        CLOCK[0] = time.process_time
    torch.manual_seed(0)
    backbone = load_backbone(options.backbone, device="cpu") if options.backbone else None
    model = backbone.model if backbone else small_llama()
    asked = published(options.data, backbone.tokenizer, options.route) if backbone else []
    if not asked:
        asked = random_prompts(model, options.route, options.tokens // 4, options.tokens, seed=2)
    result = {
        "backbone": options.backbone or "random Llama, H 192, 6 layers",
        "parameters": sum(p.numel() for p in model.parameters()),
        "threads": torch.get_num_threads(),
        "clock": "cpu" if options.cpu_time else "wall",
        "prompt tokens, deciles": _published.deciles([len(ids) for ids in asked]),
        **training(model, options),
        **routing(model, asked, options.repeats),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:32} {value:.4g}" if isinstance(value, float) else f"{name:32} {value}")


def small_llama() -> Any:
    """A Llama with SmolLM2's proportions at a third of its width."""
    return AutoModel.from_config(  # type: ignore[no-untyped-call]
        LlamaConfig(
            vocab_size=4096,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=3,
            num_key_value_heads=1,
        )
    ).eval()


def published(data: str, tokenizer: Any, count: int) -> list[list[int]]:
    """Token ids of published prompts, in the chat template; none where there are none."""
    found = dict.fromkeys(messages[0]["content"] for messages, _ in _published.parallel(data, count, 1))
    return [prompt_ids(tokenizer, _published.user(text)) for text in found]


def random_prompts(model: Any, count: int, shortest: int, longest: int, seed: int) -> list[list[int]]:
    """Random token ids, of random lengths."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=draw)
    return [torch.randint(model.config.vocab_size, (int(n),), generator=draw).tolist() for n in lengths]


def training(model: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of forward + backward over the same pairs, and how far the two gradients are apart."""
    prompts = random_prompts(model, options.prompts, options.tokens // 2, options.tokens, seed=1)
    rewards = torch.randn(options.prompts, options.teachers)
    head = nn.Linear(model.config.hidden_size, options.teachers)
    parameters = [*model.parameters(), *head.parameters()]
    i, j = torch.triu_indices(options.teachers, options.teachers, offset=1).tolist()
    rows = [(b, x, y) for b in range(options.prompts) for x, y in zip(i, j, strict=True)]

    def all_pairs() -> float:
        loss = bradley_terry(head(pool(model, prompts)), rewards)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def row_per_pair() -> float:
        total = 0.0
        for start in range(0, len(rows), options.rows):
            part = rows[start : start + options.rows]
            strengths = head(pool(model, [prompts[b] for b, _, _ in part]))
            here = torch.arange(len(part))
            first, second = torch.tensor([x for _, x, _ in part]), torch.tensor([y for _, _, y in part])
            target = torch.stack([(rewards[b, x] > rewards[b, y]).float() for b, x, y in part])
            logits = strengths[here, first] - strengths[here, second]
            loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    one_seconds, one_loss, one_gradient = timed(all_pairs, parameters, options.repeats)
    row_seconds, row_loss, row_gradient = timed(row_per_pair, parameters, 1)
    apart = float((one_gradient - row_gradient).norm() / row_gradient.norm())
    if apart > 1e-4 or abs(one_loss - row_loss) > 1e-5:
        sys.exit(f"not the same objective: gradients {apart:.2e} apart, losses {one_loss} and {row_loss}")
    return {
        "pairs": len(rows),
        "all_pairs_seconds": one_seconds,
        "row_per_pair_seconds": row_seconds,
        "training_ratio": row_seconds / one_seconds,
        "gradient_relative_difference": apart,
    }


def timed(step: Callable[[], float], parameters: list[Tensor], repeats: int) -> tuple[float, float, Tensor]:
    """Median seconds of a step, its loss and its gradient as one vector."""
    seconds, loss = [], 0.0
    for _ in range(repeats):
        for parameter in parameters:
            parameter.grad = None
        before = CLOCK[0]()
        loss = step()
        seconds.append(CLOCK[0]() - before)
    gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    return statistics.median(seconds), loss, gradient


def routing(model: Any, prompts: list[list[int]], repeats: int) -> dict[str, Any]:
    """Prompts/s of reading prompts, and what part of the machine's matrix-product rate that reaches."""
    lengths = [len(ids) for ids in prompts]
    embedding = model.get_input_embeddings().weight.numel()
    dense = sum(p.numel() for p in model.parameters()) - embedding
    layers, hidden = model.config.num_hidden_layers, model.config.hidden_size
    # Two FLOPs per weight and token, and QKᵀ and AV over the causal half: 2 · 2 · (n²/2) · H per layer.
    flops = 2 * dense * sum(lengths) + sum(2 * layers * hidden * n * n for n in lengths)
    longest_first = sorted(range(len(lengths)), key=lambda k: -lengths[k])
    plan = list(cut(longest_first, lambda k: lengths[k], CPU_TOKENS, similar=True))
    padded = sum(max(lengths[k] for k in chosen) * len(chosen) for chosen in plan)
    elapsed, product_seconds, products = 0.0, 0.0, 0
    a, b = torch.randn(MATMUL_SIDE, MATMUL_SIDE), torch.randn(MATMUL_SIDE, MATMUL_SIDE)
    with torch.no_grad():
        pool(model, [prompts[k] for k in plan[-1]])
        torch.mm(a, b)
        for _ in range(repeats):
            for chosen in plan:
                # A product before every batch, so that a change in the machine's load hits both alike.
                before = CLOCK[0]()
                torch.mm(a, b)
                between = CLOCK[0]()
                pool(model, [prompts[k] for k in chosen])
                elapsed += CLOCK[0]() - between
                product_seconds += between - before
                products += 1
    elapsed /= repeats
    rate = products * 2 * MATMUL_SIDE**3 / product_seconds
    return {
        "routing_prompts_per_second": len(prompts) / elapsed,
        "routing_tokens_per_second": sum(lengths) / elapsed,
        "padding_share": 1 - sum(lengths) / padded,
        "matmul_gflops": rate / 1e9,
        "routing_gflops": flops / elapsed / 1e9,
        "routing_part_of_matmul_rate": flops / elapsed / rate,
    }


if __name__ == "__main__":
    main()
