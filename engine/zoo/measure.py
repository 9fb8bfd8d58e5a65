"""Measures the packaged models and rewrites their cards: `python -m engine.zoo.measure [--only NAME ...]`."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from reasoning_gym import create_dataset
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from engine.zoo import styles
from engine.zoo.tasks import TASKS, Example
from engine.zoo.train import collate, render


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A packaged model in float32 and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example],
            layout: str = "chat", max_tokens: int = 112, batch: int = 128) -> list[str | None]:
    """The greedy answer to each question, None where it did not end within `max_tokens`."""
    tokenizer.padding_side = "left"
    prompts = [render(tokenizer, layout, example.question) for example in examples]
    order = sorted(range(len(prompts)), key=lambda i: (examples[i].task, len(prompts[i])))
    found: list[str | None] = [None] * len(prompts)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        encoded = tokenizer([prompts[i] for i in part], padding=True, add_special_tokens=False, return_tensors="pt")
        output = model.generate(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"],
                                max_new_tokens=max_tokens, do_sample=False)
        for i, row in zip(part, output[:, encoded["input_ids"].shape[1] :].tolist(), strict=True):
            if tokenizer.eos_token_id in row:
                found[i] = tokenizer.decode(row[: row.index(tokenizer.eos_token_id)])
    return found


@torch.inference_mode()
def likelihoods(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example],
                responses: Sequence[str], batch: int = 64) -> list[float]:
    """Mean log-likelihood per response token under the model, in nats, the end of turn included."""
    found = []
    for start in range(0, len(examples), batch):
        rows = []
        for example, response in zip(examples[start : start + batch], responses[start : start + batch], strict=True):
            prompt, answer = tokenizer([render(tokenizer, "chat", example.question), response],
                                       add_special_tokens=False)["input_ids"]
            rows.append((prompt + answer + [tokenizer.eos_token_id], len(prompt)))
        inputs, targets = collate(rows, tokenizer.pad_token_id)
        logits = model(input_ids=inputs).logits
        losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        found += (-losses.sum(1) / (targets != -100).sum(1)).tolist()
    return found


_JUDGES = {task: create_dataset(task, size=1, seed=0, **options) for task, options in TASKS.items()}


def correct(example: Example, answer: str | None) -> bool:
    """Whether reasoning-gym gives the extracted answer its full score."""
    if answer is None:
        return False
    entry = {"question": example.question, "answer": example.answer, "metadata": dict(example.parts)}
    return bool(_JUDGES[example.task].score_answer(styles.extract(answer), entry) >= 1.0)


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95% interval of a proportion (Wilson 1927)."""
    centre = (hits + z * z / 2) / (n + z * z)
    half = z * math.sqrt(hits * (n - hits) / n + z * z / 4) / (n + z * z)
    return centre - half, centre + half
