"""Scoring, routing, training and decoding on one device, beside what one would use otherwise, in one run.

    python benchmarks/gpu.py [--shapes qwen2.5-1.5b qwen2.5-7b] [--seconds 450] [--out FILE.json]
    python benchmarks/gpu.py --shapes tiny      a look at the script, on any machine; all there is without a GPU

Nothing is fetched: models are Llamas of Qwen2.5's shapes (its published config.json files, without its few biases) with
random weights, for which the arithmetic costs the same, and responses have the lengths of twelve models' published
answers to AlpacaEval. Peers get the same token ids: a plain loop with padded batches and full logits, lm-eval's model
(`pip install lm-eval`), TRL's SFTTrainer (with Liger's kernels where they are installed) and accelerate on rows sorted
by length, `model.generate`. Each way is run once to warm up and once for the clock. What there is no time for is named,
not left out silently.

Tokens are those of prompts and responses without padding. `share` is the arithmetic that has to be done over what a
matrix product of this device does in the same time. Prints one JSON object; narration goes to stderr.
"""

import argparse
import gc
import importlib.util
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import decode
import lora
import torch
from learnability import Item, flops, full_logits, harness
from transformers import LlamaConfig, LlamaForCausalLM

from engine.distill.data import tokenise
from engine.distill.settings import Settings
from engine.models.batching import cut
from engine.models.chat_template import encode, prompt_ids
from engine.models.loading import load_causal_lm
from engine.models.memory import batch_tokens
from engine.router.backbone import pool
from engine.router.settings import CPU_TOKENS
from engine.scorers.kinds.learnability import score
from engine.teachers.local.decode import Row
from storage.records import Sampling

SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-1.5b": {
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen2.5-7b": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "tiny": {
        "vocab_size": 2048,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
}
PROMPT_TOKENS = (7, 10, 13, 15, 19, 24, 30, 41, 57, 124)
RESPONSE_TOKENS = (20, 57, 104, 161, 238, 305, 376, 491, 611, 824)
"""Percentiles 5, 15, … 95 of AlpacaEval's instructions and of twelve models' answers to them (GPT-4, Claude 2, Vicuna,
FuseChat and others, as tatsu-lab/alpaca_eval publishes them), counted with SmolLM2's tokenizer; means 36 and 337."""
RESPONSES = 12
"""Of a prompt."""


@dataclass
class Bench:
    """A model on disk, the clock, and what has been measured."""

    ref: str
    folder: Path
    device: str
    dtype: str
    ends: float
    """When no further way is begun."""
    product: float
    """FLOP/s of a matrix product."""
    found: dict[str, Any] = field(default_factory=dict)

    def load(self) -> tuple[Any, Any]:
        """The model and its tokenizer."""
        return load_causal_lm(self.ref, dtype=self.dtype, device=self.device)

    def way(
        self,
        part: str,
        name: str,
        tokens: int | Callable[[Any], int],
        work: Callable[[], Any],
        flop: float = 0.0,
    ) -> Any:
        """Runs one way and notes its speed; its result, or None where it was not run to its end.

        Args:
            part: what is compared.
            name: the way.
            tokens: how many it handles, or what counts them in its result.
            work: does it.
            flop: floating-point operations that cannot be saved.
        """
        ways = self.found.setdefault(part, {})
        if time.monotonic() > self.ends:
            ways[name] = {"skipped": "no time was left"}
            return None
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            work()
            self.finish()
            began = time.perf_counter()
            made = work()
            self.finish()
        except (torch.OutOfMemoryError, ImportError, ValueError) as problem:
            ways[name] = {"failed": f"{type(problem).__name__}: {str(problem).splitlines()[0]}"}
            return None
        seconds = time.perf_counter() - began
        count = tokens if isinstance(tokens, int) else tokens(made)
        ways[name] = {
            "tokens_per_s": round(count / seconds, 1),
            "seconds": round(seconds, 3),
            "peak_gib": peak(self.device),
        }
        if flop:
            ways[name]["share"] = round(flop / seconds / self.product, 3)
        print(f"{part}, {name}: {ways[name]}", file=sys.stderr, flush=True)
        return made

    def finish(self) -> None:
        """Waits until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def peak(device: str) -> float:
    """GiB: of the device since the way began; on the CPU of the whole process, and so never falling."""
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def product_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product, the best of ten."""
    side = 8192 if device == "cuda" else 1024
    left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    best = 0.0
    for _ in range(10):
        began = time.perf_counter()
        (left @ right)[0, 0].item()
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


def build(shape: str, folder: Path, device: str, dtype: torch.dtype) -> None:
    """Saves a model of random weights and a tokenizer of whole words into `folder`."""
    lora.build_tiny(folder)  # its tokenizer; the model is replaced
    ends = json.loads((folder / "config.json").read_text())["eos_token_id"]
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=4096, eos_token_id=ends, bos_token_id=None)
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)


def items(tokenizer: Any, prompts: int, longest: int) -> list[Item]:
    """So many prompts with `RESPONSES` responses each, of random words, a token each."""
    draw = random.Random(0)
    words = sorted(word for word in tokenizer.get_vocab() if word.startswith("w"))

    def text(lengths: tuple[int, ...]) -> str:
        return " ".join(draw.choices(words, k=min(draw.choice(lengths), longest)))

    return [
        ([{"role": "user", "content": prompt}], text(RESPONSE_TOKENS))
        for prompt in [text(PROMPT_TOKENS) for _ in range(prompts)]
        for _ in range(RESPONSES)
    ]


def scoring(bench: Bench, rows: list[Item]) -> None:
    """Learnability of every response."""
    model, tokenizer = bench.load()
    tokens = sum(len(encode(tokenizer, *item).ids) for item in rows)
    flop = flops(model, tokenizer, rows, shared=True)
    ours = bench.way(
        "scoring", "ours", tokens, lambda: [one.sum for one in score(model, tokenizer, rows)], flop=flop
    )
    plain = None
    for batch in (4, 16):
        way = partial(full_logits, model, tokenizer, rows, batch)
        plain = bench.way("scoring", f"full logits, batch {batch}", tokens, way, flop=flop) or plain
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = harness(model, tokenizer, batch)
        if peer is not None:
            bench.way("scoring", f"lm-eval, batch {batch}", tokens, partial(peer, rows), flop=flop)
    if peer is None:
        bench.found["scoring"]["lm-eval"] = {"skipped": "lm-eval is not installed"}
    if ours and plain:
        per_token = [
            abs(a - b) / max(1, len(item[1].split())) for a, b, item in zip(ours, plain, rows, strict=True)
        ]
        bench.found["scoring"]["largest difference to full logits, nats a token"] = max(per_token)


def routing(bench: Bench, rows: list[Item]) -> None:
    """The router's reading of many prompts."""
    model, tokenizer = bench.load()
    prompts = [prompt_ids(tokenizer, messages) for messages, _ in rows]
    tokens = sum(map(len, prompts))
    backbone = model.get_decoder()
    flop = 2.0 * tokens * sum(p.numel() for name, p in backbone.named_parameters() if "embed" not in name)
    budget = batch_tokens(model, CPU_TOKENS)

    @torch.no_grad()
    def ours() -> None:
        for batch in cut(sorted(prompts, key=len, reverse=True), len, budget, similar=True):
            pool(backbone, batch).cpu()

    @torch.no_grad()
    def plain() -> None:
        for start in range(0, len(prompts), 32):
            pool(backbone, prompts[start : start + 32]).cpu()

    bench.way("routing", "ours", tokens, ours, flop=flop)
    bench.way("routing", "batches of 32 as they come", tokens, plain, flop=flop)


def training(bench: Bench, rows: list[Item]) -> None:
    """One epoch of LoRA, with loading the model."""
    settings = Settings(batch_rows=16, epochs=1, checkpoint_every=0)
    model, tokenizer = bench.load()
    data = tokenise(tokenizer, rows, bench.folder / "rows", settings.max_length)
    task = lora.Task(bench.ref, rows, data, settings, bench.folder)
    body = sum(
        p.numel() for name, p in model.named_parameters() if "embed" not in name and "lm_head" not in name
    )
    head = model.get_output_embeddings().weight.numel()
    # Forward, and backward for the activations alone: the weights stand still.
    flop = 4.0 * (body * data.counts.tokens + head * data.counts.target_tokens)
    del model

    for way in (lora.ours, lora.trl, lora.accelerate):
        work = partial(without_student, way, task, bench.dtype)
        bench.way("lora", way.__name__, data.counts.tokens, work, flop)
    if importlib.util.find_spec("bitsandbytes") is None:
        bench.found["lora"]["ours, qlora"] = {"skipped": "bitsandbytes is not installed"}
        return
    work = partial(without_student, partial(lora.ours, method="qlora"), task, bench.dtype)
    bench.way("lora", "ours, qlora", data.counts.tokens, work, flop)


def without_student(way: Callable[[lora.Task, str], lora.Run], task: lora.Task, dtype: str) -> None:
    """Trains and keeps nothing: the next one needs the memory."""
    way(task, dtype)


def generation(bench: Bench, rows: list[Item], most: int) -> None:
    """Greedy responses to evaluation prompts."""
    model, tokenizer = bench.load()
    sampling = Sampling(temperature=0.0, max_tokens=most)
    ids = sorted((prompt_ids(tokenizer, messages) for messages, _ in rows[::RESPONSES]), key=len)
    batches = [
        [Row(prompt, sampling, most) for prompt in ids[start : start + 32]]
        for start in range(0, len(ids), 32)
    ]
    ends = [int(tokenizer.eos_token_id)]

    def made(responses: decode.Responses) -> int:
        return sum(map(len, responses))

    bench.way("generation", "ours", made, lambda: decode.ours(model, batches, ends))
    for cache in (None, "static"):
        way = partial(decode.generate, model, batches, ends, cache)
        bench.way("generation", f"generate, {cache or 'dynamic'} cache", made, way)


def measure(shape: str, device: str, dtype: str, ends: float) -> dict[str, Any]:
    """All that there is time for, of one shape."""
    folder = Path(tempfile.mkdtemp(prefix="persyn-gpu-"))
    tiny = shape == "tiny"
    try:
        build(shape, folder / "model", device, getattr(torch, dtype))
        bench = Bench(
            str(folder / "model"), folder, device, dtype, ends, product_rate(device, getattr(torch, dtype))
        )
        bench.found["product_tflop_s"] = round(bench.product / 1e12, 2)
        _, tokenizer = bench.load()
        scored = items(tokenizer, 1 if tiny else 16, 60 if tiny else 4096)
        routed = items(tokenizer, 4 if tiny else 256, 60 if tiny else 4096)[::RESPONSES]
        scoring(bench, scored)
        routing(bench, routed)
        training(bench, scored[: 4 if tiny else 192])
        generation(bench, scored, 8 if tiny else 256)
        return bench.found
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shapes", nargs="+", choices=sorted(SHAPES), help="both of Qwen2.5 on a GPU, else tiny"
    )
    parser.add_argument("--seconds", type=float, default=450, help="after which no further way is begun")
    parser.add_argument("--dtype", default="", help="bfloat16 on a GPU, float32 on a CPU where not given")
    parser.add_argument("--out", default="", help="the JSON goes to this file, too")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    cuda = torch.cuda.is_available()
    shapes = options.shapes or (["qwen2.5-1.5b", "qwen2.5-7b"] if cuda else ["tiny"])
    if not cuda and shapes != ["tiny"]:
        raise SystemExit("there is no CUDA device: only --shapes tiny is of use here")
    device, dtype = ("cuda", options.dtype or "bfloat16") if cuda else ("cpu", options.dtype or "float32")
    ends = time.monotonic() + options.seconds
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "dtype": dtype,
        "liger": importlib.util.find_spec("liger_kernel") is not None,
    }
    for shape in shapes:
        report[shape] = measure(shape, device, dtype, ends)
    text = json.dumps(report, indent=1)
    if options.out:
        Path(options.out).write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
