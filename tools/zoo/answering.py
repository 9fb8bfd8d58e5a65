"""Answers of a packaged model, and whether they are right: plain greedy decoding, no engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from reasoning_gym import create_dataset
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from tools.zoo import styles
from tools.zoo.corpus import IGNORED, Layout, collate, encode, render
from tools.zoo.tasks import TASKS, Example

_VERIFIERS = {task: create_dataset(task, size=1, seed=0, **options) for task, options in TASKS.items()}


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in float32, ready to answer, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return cast(PreTrainedModel, model).eval(), AutoTokenizer.from_pretrained(folder)  # type: ignore[no-untyped-call]


@torch.inference_mode()
def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    layout: Layout = "chat",
    max_tokens: int = 112,
    batch: int = 128,
) -> list[str | None]:
    """The greedy answer to each question, None where it did not end within `max_tokens`."""
    tokenizer.padding_side = "left"
    prompts = [render(tokenizer, layout, example.question) for example in examples]
    order = sorted(range(len(prompts)), key=lambda i: (examples[i].task, len(prompts[i])))
    found: list[str | None] = [None] * len(prompts)
    generate = cast(Any, model).generate
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        inputs = tokenizer(
            [prompts[i] for i in part], padding=True, add_special_tokens=False, return_tensors="pt"
        )
        output = generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_tokens,
            do_sample=False,
        )
        for i, ids in zip(part, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            if tokenizer.eos_token_id in ids:
                found[i] = str(tokenizer.decode(ids[: ids.index(tokenizer.eos_token_id)]))
    return found


@torch.inference_mode()
def likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    responses: Sequence[str],
    batch: int = 64,
) -> list[float]:
    """Mean log-likelihood of each response under the model, in nats per token, the end of turn included."""
    found: list[float] = []
    rows = encode(tokenizer, "chat", [example.question for example in examples], responses)
    for start in range(0, len(rows), batch):
        inputs, targets = collate(rows[start : start + batch], cast(int, tokenizer.pad_token_id))
        logits = model(input_ids=inputs).logits
        losses = cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=IGNORED)
        found += (-losses.sum(1) / (targets != IGNORED).sum(1)).tolist()
    return found


def correct(example: Example, answer: str | None) -> bool:
    """Whether reasoning-gym gives the extracted answer its full score; False for an unfinished one."""
    if answer is None:
        return False
    entry = {"question": example.question, "answer": example.answer, "metadata": dict(example.parts)}
    return bool(_VERIFIERS[example.task].score_answer(styles.extract(answer), entry) >= 1.0)
