"""LoRA training: tokens per second of this project's loop against TRL's SFTTrainer as it comes.

Both train the same student from the same adapter on the same rows in the same order with the same learning
rates, and must end at the same loss on those rows; the ratio of their tokens per second is printed.

    python benchmarks/lora.py                         a random Llama of SmolLM2-135M's shape
    python benchmarks/lora.py --model zoo:NAME        a real model: zoo reference, folder or hub id
    python benchmarks/lora.py --layers 3 --hidden 64  a tiny one

Needs `trl` (extra `dev`). Prints one JSON object on stdout, narration on stderr.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from engine.distill.batches import Batching, cut_step, padding_share, plan_epoch
from engine.distill.data import Examples, tokenise
from engine.distill.forward import mean_loss, pass_cost
from engine.distill.loop import train
from engine.distill.lora import Tuning, make_trainable
from engine.distill.optimizer import OptimizerConfig
from engine.distill.settings import Settings
from engine.models.forward import split_model
from engine.models.loading import load_causal_lm

Row = tuple[list[dict[str, str]], str]

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|> ' + m['role'] + ' ' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> assistant ' }}{% endif %}"
)


def build_student(folder: Path, arguments: argparse.Namespace) -> None:
    """Save a random Llama and a tokenizer of whole words into `folder`."""
    words = ["<|im_start|>", "<|im_end|>", "<unk>", "user", "assistant"]
    words += [f"w{index}" for index in range(arguments.vocabulary - len(words))]
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=arguments.vocabulary,
        hidden_size=arguments.hidden,
        intermediate_size=arguments.hidden * 8 // 3,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=max(1, arguments.heads // 3),
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def build_rows(count: int, shortest: int, longest: int, words: list[str]) -> list[Row]:
    """Return rows with prompts of 20 to 60 words and responses of `shortest` to `longest`, log-uniform."""
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for _ in range(count):
        length = int(np.exp(rng.uniform(np.log(shortest), np.log(longest))))
        prompt = " ".join(rng.choice(words, size=int(rng.integers(20, 60))))
        rows.append(([{"role": "user", "content": prompt}], " ".join(rng.choice(words, size=length))))
    return rows


@dataclass(frozen=True)
class Run:
    """One training run."""

    tokens: int
    seconds: float
    """Wall time; ours includes reading the rows and saving the adapter, TRL's only its training."""
    cpu_seconds: float
    """Processor time of the same: what counts on a machine that others use too."""
    student: Any


def run_ours(ref: str, dtype: str, rows: list[Row], folder: Path, settings: Settings) -> Run:
    model, tokenizer = load_causal_lm(ref, dtype=dtype)
    began, cpu_began = time.perf_counter(), time.process_time()
    result = train(model, tokenizer, rows, folder, settings)
    return Run(result.counts.tokens, time.perf_counter() - began, time.process_time() - cpu_began, model)


def run_trl(
    ref: str, data: Examples, order: Sequence[int], folder: Path, settings: Settings, extra: Mapping[str, Any]
) -> Run:
    model, tokenizer = load_causal_lm(ref)
    student = make_trainable(model, settings.tuning, settings.seed)
    # Ids and labels are given, so that both train on the same tokens: TRL would also put the newline that
    # some templates write after the end of a turn under the loss.
    examples = [
        {
            "input_ids": data[row].ids.tolist(),
            "labels": [-100] * data[row].boundary + data[row].ids[data[row].boundary :].tolist(),
        }
        for row in order
    ]
    config = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=settings.batching.rows,
        learning_rate=settings.descent.learning_rate,
        max_length=settings.max_length,
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        **extra,
    )
    trainer = SFTTrainer(
        model=student, args=config, train_dataset=Dataset.from_list(examples), processing_class=tokenizer
    )
    tokens = sum(len(row["input_ids"]) for row in trainer.train_dataset)
    began, cpu_began = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    return Run(tokens, time.perf_counter() - began, time.process_time() - cpu_began, model)


def loss_on(model: Any, data: Examples) -> float:
    model.float().eval()
    return mean_loss(split_model(model), data, 4096, next(model.parameters()).device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="", help="zoo:NAME, a folder or a hub id; empty: a random Llama")
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--heads", type=int, default=9)
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shortest", type=int, default=20, help="words of the shortest response")
    parser.add_argument("--longest", type=int, default=400, help="words of the longest response")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as the environment says")
    parser.add_argument("--tolerance", type=float, default=0.05, help="of the fall of the loss")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")

    work = Path(tempfile.mkdtemp(prefix="persyn-lora-"))
    try:
        print(json.dumps(compare(arguments, work), indent=1))
    finally:
        shutil.rmtree(work)


def compare(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    ref = arguments.model
    if not ref:
        ref = str(work / "student")
        build_student(Path(ref), arguments)
    model, tokenizer = load_causal_lm(ref)
    special = set(tokenizer.all_special_tokens)
    words = [word for word in tokenizer.get_vocab() if word.isalnum() and word not in special]
    rows = build_rows(arguments.rows, arguments.shortest, arguments.longest, sorted(words))
    settings = Settings(
        tuning=Tuning(rank=arguments.rank, alpha=2 * arguments.rank),
        batching=Batching(rows=arguments.batch),
        descent=OptimizerConfig(learning_rate=2e-4, warmup=0.0),
        epochs=1,
        max_length=4096,
        checkpoint_every=0,
    )
    data = tokenise(tokenizer, rows, work / "rows", settings.max_length)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    before = loss_on(model, data)
    plan = plan_epoch(data.lengths, settings.batching, settings.seed, 0)
    order = [int(row) for step in plan for row in step]
    cost = pass_cost(parameters, next(model.parameters()).device)
    passes = [cut for step in plan for cut in cut_step(step, data.lengths, settings.pass_tokens, cost)]

    report: dict[str, Any] = {
        "parameters": parameters,
        "threads": torch.get_num_threads(),
        "tokens": data.counts.tokens,
        "target_tokens": data.counts.target_tokens,
        "padding_ours": padding_share(passes, data.lengths),
        "padding_unsorted": padding_share(plan, data.lengths),
        "loss_before": before,
        "runs": {},
    }
    # One step each first: allocators, thread pools and lazy imports are not what is compared.
    warm = replace(settings, batching=Batching(rows=2))
    run_ours(ref, "float32", rows[:2], work / "warm", warm)
    run_trl(ref, data, [0, 1], work / "warm-trl", warm, {})

    for name in ("trl", "ours float32", "ours bfloat16", "trl float32 plain"):
        if name.startswith("ours"):
            run = run_ours(ref, name.split()[1], rows, work / name, settings)
        else:
            extra = {} if name == "trl" else {"bf16": False, "gradient_checkpointing": False}
            run = run_trl(ref, data, order, work / name, settings, extra)
        after = loss_on(run.student, data)
        report["runs"][name] = {
            "tokens": run.tokens,
            "tokens_per_second": run.tokens / run.seconds,
            "tokens_per_cpu_second": run.tokens / run.cpu_seconds,
            "loss_after": after,
            "loss_fallen": before - after,
        }
        print(f"{name}: {report['runs'][name]}", file=sys.stderr)
    reference = report["runs"]["trl"]
    for figures in report["runs"].values():
        for key in ("tokens_per_second", "tokens_per_cpu_second"):
            figures[f"{key}_ratio"] = figures[key] / reference[key]
        if figures["tokens"] != reference["tokens"]:
            raise SystemExit(f"not the same tokens: {report}")
        difference = abs(figures["loss_after"] - reference["loss_after"])
        if difference > arguments.tolerance * reference["loss_fallen"]:
            raise SystemExit(f"not the same loss, so the speeds cannot be compared: {report}")
    return report


if __name__ == "__main__":
    main()
