"""Trains the packaged models from their seeds: `python -m engine.zoo.train [--only NAME ...] [--out DIR]`."""

import argparse
import math
import random
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from engine.zoo import styles, tasks, tokens
from engine.zoo.specs import SPECS, Spec, config

Row = tuple[list[int], int]
"""(token ids, number of prompt tokens)."""

WARM_UP = 60


def build_tokenizer(kind: tokens.Kind) -> PreTrainedTokenizerFast:
    """Tokenizer A or B; B's merges come from a fixed sample of questions and short answers."""
    excluded = tasks.demo_cores()
    texts = [
        f"{example.question}\n{styles.short(example)}"
        for task in tasks.TASKS
        for example in tasks.training_pool(task, 2000, excluded)
    ]
    return tokens.build(kind, texts)


def render(tokenizer: PreTrainedTokenizerFast, layout: str, question: str) -> str:
    """The text that comes before the answer."""
    if layout == "base":
        return f"Question: {question}\nAnswer: "
    return str(tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True))


def pools(spec: Spec, tokenizer: PreTrainedTokenizerFast) -> tuple[list[list[Row]], list[float]]:
    """Encoded rows per (task, style) and their weights."""
    excluded = tasks.demo_cores()
    rows: list[list[Row]] = []
    weights: list[float] = []
    for task, mix in spec.mix.items():
        examples = tasks.training_pool(task, spec.pool, excluded)
        prompts = tokenizer([render(tokenizer, spec.layout, e.question) for e in examples],
                            add_special_tokens=False)["input_ids"]
        for style, weight in mix.items():
            answers = tokenizer([styles.write(style, e) for e in examples], add_special_tokens=False)["input_ids"]
            rows.append([(p + a + [tokenizer.eos_token_id], len(p)) for p, a in zip(prompts, answers, strict=True)])
            weights.append(weight)
    return rows, weights


def collate(batch: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids (B, T) and targets (B, T), -100 where there is no loss."""
    width = max(len(ids) for ids, _ in batch)
    inputs = torch.full((len(batch), width), pad)
    targets = torch.full((len(batch), width), -100)
    for row, (ids, prompt) in enumerate(batch):
        inputs[row, : len(ids)] = torch.tensor(ids)
        targets[row, prompt - 1 : len(ids) - 1] = torch.tensor(ids[prompt:])
    return inputs, targets


def train(spec: Spec, tokenizer: PreTrainedTokenizerFast) -> torch.nn.Module:
    """A model trained from the spec's seed; tasks and styles are mixed inside every batch."""
    torch.manual_seed(spec.seed)
    rng = random.Random(spec.seed)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
           "pad_token_id": tokenizer.pad_token_id}
    model = AutoModelForCausalLM.from_config(config(spec, len(tokenizer), ids, tokens.CONTEXT))
    rows, weights = pools(spec, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, max(0.0, (spec.steps - step) / (spec.steps - WARM_UP))))
    model.train()
    started = time.monotonic()
    running = 0.0
    for step in range(1, spec.steps + 1):
        batch = [rng.choice(pool) for pool in rng.choices(rows, weights, k=spec.batch)]
        inputs, targets = collate(batch, tokenizer.pad_token_id)
        # Padding stands to the right and attention is causal, so no mask is needed.
        hidden = model.base_model(input_ids=inputs).last_hidden_state
        keep = targets != -100
        loss = cross_entropy(model.get_output_embeddings()(hidden[keep]), targets[keep])
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"{spec.name}: loss is {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        running = loss.item() if step == 1 else 0.95 * running + 0.05 * loss.item()
        if step % 50 == 0 or step == spec.steps:
            spent = time.monotonic() - started
            print(f"{spec.name} step {step}/{spec.steps} loss {running:.4f} "
                  f"{step / spent:.1f} steps/s, {spent / step * (spec.steps - step):.0f} s left",
                  file=sys.stderr, flush=True)
    return model.eval()


def save(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the model in float16 with its tokenizer and generation settings."""
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id)
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*SPECS], default=[*SPECS], metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in options.only:
        spec = SPECS[name]
        tokenizer = build_tokenizer(spec.tokenizer)
        started = time.monotonic()
        model = train(spec, tokenizer)
        save(model, tokenizer, options.out / name)
        weights = sum(p.numel() for p in model.parameters())
        print(f"{name}: {weights} weights, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
