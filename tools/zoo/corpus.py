"""From examples to token ids: layouts, weighted pools of rows, padded batches."""

from collections.abc import Sequence
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase

from tools.zoo import styles, tasks, tokens

Layout = Literal["chat", "base"]
"""chat: the template's turns. base: "Question: ...\\nAnswer: ...", as in pre-training, without turns."""

Row = tuple[list[int], int]
"""(token ids, number of prompt tokens)."""

IGNORED = -100


def build_tokenizer(kind: tokens.Kind) -> PreTrainedTokenizerBase:
    """Tokenizer A or B; B's merges come from a fixed sample of questions and short answers."""
    texts = [
        f"{example.question}\n{styles.short(example)}"
        for task in tasks.TASKS
        for example in tasks.training(task, 2000)
    ]
    return tokens.build(kind, texts)


def render(tokenizer: PreTrainedTokenizerBase, layout: Layout, question: str) -> str:
    """The text that comes before the answer."""
    if layout == "base":
        return f"Question: {question}\nAnswer: "
    turns = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def encode(
    tokenizer: PreTrainedTokenizerBase, layout: Layout, questions: Sequence[str], answers: Sequence[str]
) -> list[Row]:
    """One row per question: its prompt, the answer, and the token that ends the turn."""
    prompts = tokenizer([render(tokenizer, layout, q) for q in questions], add_special_tokens=False)[
        "input_ids"
    ]
    replies = tokenizer(list(answers), add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [(prompt + reply + [end], len(prompt)) for prompt, reply in zip(prompts, replies, strict=True)]


def collate(rows: Sequence[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, T), padded to the right, and next-token targets (B, T), `IGNORED` outside the answer."""
    width = max(len(ids) for ids, _ in rows)
    inputs = torch.full((len(rows), width), pad)
    targets = torch.full((len(rows), width), IGNORED)
    for i, (ids, prompt) in enumerate(rows):
        inputs[i, : len(ids)] = torch.tensor(ids)
        targets[i, prompt - 1 : len(ids) - 1] = torch.tensor(ids[prompt:])
    return inputs, targets
