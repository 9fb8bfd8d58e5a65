"""The tiny reward model: a sequence classifier that reads a whole conversation and says right or wrong.

It learns from the true answer in every style, from the same answers spoiled, and from what the teachers
really answered. One scalar comes from the last token that is not padding.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from tools.zoo import styles, tasks
from tools.zoo.answering import answers, correct, load
from tools.zoo.optimize import optimize, say
from tools.zoo.specs import RewardSpec
from tools.zoo.tasks import Example

Judged = tuple[Example, str, bool]
"""(question, an answer to it, whether it is right)."""


def spoil(example: Example, rng: random.Random) -> Example:
    """The same question with a wrong answer that resembles the true one."""
    answer = example.answer
    while answer.lower() == example.answer.lower():
        answer = (
            _number(example.answer, rng)
            if example.answer.lstrip("-").isdigit()
            else _words(example.answer, rng)
        )
    return Example(example.task, example.question, answer, example.parts)


def _number(answer: str, rng: random.Random) -> str:
    return str(int(answer) + rng.choice((-10, -2, -1, 1, 2, 10)))


def _words(answer: str, rng: random.Random) -> str:
    """Two parts swapped, or one letter replaced; parts are words in a list, letters in a word."""
    separator = ", " if ", " in answer else ""
    parts = answer.split(separator) if separator else list(answer)
    if rng.random() < 0.5:
        i, j = rng.sample(range(len(parts)), 2)
        parts[i], parts[j] = parts[j], parts[i]
        return separator.join(parts)
    i = rng.randrange(len(answer))
    return answer[:i] + rng.choice("abcdefghijklmnopqrstuvwxyz") + answer[i + 1 :]


def conversations(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[Example, str]]
) -> list[list[int]]:
    """Token ids of question and answer in the chat layout."""
    texts = [
        str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": example.question}, {"role": "assistant", "content": answer}],
                tokenize=False,
            )
        )
        for example, answer in pairs
    ]
    return cast(list[list[int]], tokenizer(texts, add_special_tokens=False)["input_ids"])


def judged(spec: RewardSpec, weights: Path, rng: random.Random) -> list[Judged]:
    """What the reward model learns from; half of it spoiled or wrong, roughly."""
    found: list[Judged] = []
    examples = [e for task in tasks.TASKS for e in tasks.training(task, spec.questions)]
    for name in spec.answered_by:
        say(f"{spec.name}: answers of {name}")
        model, tokenizer = load(weights / name)
        replies = answers(model, tokenizer, examples)
        found += [(e, text, correct(e, text)) for e, text in zip(examples, replies, strict=True) if text]
    more = [e for task in tasks.TASKS for e in tasks.training(task, 4 * spec.questions)]
    wordings: tuple[styles.Style, ...] = ("bare", "short", "verbose")
    for example in more:
        style = rng.choice(wordings)
        found.append((example, styles.write(style, example), True))
        found.append((example, styles.write(style, spoil(example, rng)), False))
    return found


def train_reward(spec: RewardSpec, weights: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The trained classifier and its tokenizer, which is that of the model it starts from.

    Args:
        spec: seed, steps and where to start from.
        weights: folder that holds the already trained models.
    """
    torch.manual_seed(spec.seed)
    rng = random.Random(spec.seed)
    _, tokenizer = load(weights / spec.start)
    pairs = judged(spec, weights, rng)
    ids = conversations(tokenizer, [(example, text) for example, text, _ in pairs])
    groups: dict[tuple[str, bool], list[int]] = {}
    for i, (example, _, right) in enumerate(pairs):
        groups.setdefault((example.task, right), []).append(i)
    model = cast(
        PreTrainedModel,
        AutoModelForSequenceClassification.from_pretrained(
            weights / spec.start, num_labels=1, dtype=torch.float32
        ),
    )

    def loss() -> torch.Tensor:
        # Every task and both verdicts are equally frequent, so that neither can be guessed from the task.
        batch = [rng.choice(groups[key]) for key in rng.choices(list(groups), k=spec.batch)]
        width = max(len(ids[i]) for i in batch)
        pad = cast(int, tokenizer.pad_token_id)
        inputs = torch.tensor([ids[i] + [pad] * (width - len(ids[i])) for i in batch])
        mask = torch.tensor([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in batch])
        logits = model(input_ids=inputs, attention_mask=mask).logits[:, 0]
        return binary_cross_entropy_with_logits(logits, torch.tensor([float(pairs[i][2]) for i in batch]))

    optimize(spec.name, model, loss, spec.steps, spec.learning_rate)
    return model, tokenizer


@torch.inference_mode()
def judge(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[Example, str]],
    batch: int = 64,
) -> list[float]:
    """One logit per (question, answer); above 0 means more likely right than wrong."""
    found: list[float] = []
    pad = cast(int, tokenizer.pad_token_id)
    for start in range(0, len(pairs), batch):
        rows = conversations(tokenizer, pairs[start : start + batch])
        width = max(map(len, rows))
        inputs = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        found += model(input_ids=inputs, attention_mask=mask).logits[:, 0].tolist()
    return found
