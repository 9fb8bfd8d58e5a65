"""Measures the packaged models and rewrites their cards: `python -m tools.zoo.measure [--only NAME ...]`.

Questions are those of `tasks.measurement`: in no training set, in no demo, and not what settings were
chosen on. Decoding is greedy. The result is `cards.json` and the tables in `README.md`.
"""

import argparse
import json
import math
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from engine.methods.reward import combine
from engine.zoo.resolve import CARDS, WEIGHTS
from tools.zoo.answering import answers, correct, likelihoods, load
from tools.zoo.corpus import Layout
from tools.zoo.optimize import say
from tools.zoo.specs import REWARD, SPECS, TEACHERS
from tools.zoo.tasks import HELD_OUT, TASKS, Example, measurement
from tools.zoo.train import RECORD

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
ALPHA = 0.4

Card = dict[str, Any]


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95% interval of a proportion (Wilson 1927, J. Am. Stat. Assoc. 22, 209)."""
    centre = (hits + z * z / 2) / (n + z * z)
    half = z * math.sqrt(hits * (n - hits) / n + z * z / 4) / (n + z * z)
    return max(0.0, centre - half), min(1.0, centre + half)


def area(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Chance that a right answer scores above a wrong one, ties half: the area under the ROC curve."""
    r, w = np.asarray(right)[:, None], np.asarray(wrong)[None, :]
    return float(np.mean((r > w) + 0.5 * (r == w)))


def questions(per_task: int = HELD_OUT) -> list[Example]:
    """The first `per_task` measurement questions of every task."""
    return list(chain.from_iterable(measurement(task)[:per_task] for task in TASKS))


def accuracy(examples: Sequence[Example], replies: Sequence[str | None]) -> dict[str, Card]:
    """Task -> right answers, n, accuracy and its 95% interval."""
    result = {}
    for task in TASKS:
        verdicts = [correct(e, reply) for e, reply in zip(examples, replies, strict=True) if e.task == task]
        result[task] = _proportion(sum(verdicts), len(verdicts))
    return result


def _proportion(hits: int, n: int) -> Card:
    low, high = wilson(hits, n)
    return {
        "right": hits,
        "n": n,
        "accuracy": round(hits / n, 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def baselines(examples: Sequence[Example]) -> dict[str, Card]:
    """Task -> options, and how often its most frequent answer is right."""
    result = {}
    for task, options in TASKS.items():
        (answer, hits), *_ = Counter(e.answer for e in examples if e.task == task).most_common(1)
        n = sum(e.task == task for e in examples)
        result[task] = {
            "options": dict(options),
            "majority_answer": answer,
            "majority": round(hits / n, 4),
            "n": n,
        }
    return result


def _made_of(folder: Path) -> Card:
    """Architecture, size and training of a packaged model, from its files."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = folder / "model.safetensors"
    with safe_open(weights, "np") as tensors:
        count = sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    return {
        "architecture": config["architectures"][0],
        "parameters": count,
        "bytes": weights.stat().st_size,
        "training": json.loads((folder / RECORD).read_text(encoding="utf-8")),
    }


def language_model(name: str, examples: Sequence[Example]) -> tuple[Card, list[str | None]]:
    """The card of a causal model, and its answers."""
    spec = SPECS[name]
    model, tokenizer = load(WEIGHTS / name)
    card: Card = {
        "about": spec.about,
        "role": name if name not in TEACHERS else "teacher",
        **_made_of(WEIGHTS / name),
        "tokenizer": spec.tokenizer,
        "trained_on": sorted(spec.mix),
        "styles": sorted({style for mix in spec.mix.values() for style in mix}),
    }
    replies: list[str | None] = []
    layouts: tuple[Layout, ...] = ("chat",) if spec.layout == "chat" else ("base", "chat")
    for layout in layouts:
        started = time.monotonic()
        replies = answers(model, tokenizer, examples, layout)
        seconds = time.monotonic() - started
        tokens = [
            len(tokenizer(reply, add_special_tokens=False)["input_ids"]) + 1 for reply in replies if reply
        ]
        card["accuracy" if layout == "chat" else "accuracy_base_layout"] = accuracy(examples, replies)
        if layout == "chat":
            card |= {
                "unfinished": sum(reply is None for reply in replies),
                "tokens_per_answer": round(float(np.mean(tokens)), 1) if tokens else None,
                "longest_answer": max(tokens, default=0),
                "tokens_per_second": round(sum(tokens) / seconds),
            }
    return card, replies


def reward_model(examples: Sequence[Example], replies: Mapping[str, Sequence[str | None]]) -> Card:
    """The card of the reward model: area under the ROC curve on the teachers' real answers."""
    from tools.zoo.reward_model import judge

    folder = WEIGHTS / REWARD.name
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    pairs = [
        (e, reply) for name in TEACHERS for e, reply in zip(examples, replies[name], strict=True) if reply
    ]
    scores = judge(cast(PreTrainedModel, model).eval(), AutoTokenizer.from_pretrained(folder), pairs)  # type: ignore[no-untyped-call]
    found: dict[str, tuple[list[float], list[float]]] = {task: ([], []) for task in TASKS}
    for (example, reply), score in zip(pairs, scores, strict=True):
        found[example.task][0 if correct(example, reply) else 1].append(score)
    everything = [list(chain.from_iterable(side)) for side in zip(*found.values(), strict=True)]
    return {
        "about": REWARD.about,
        "role": "reward_model",
        **_made_of(folder),
        "tokenizer": SPECS[REWARD.start].tokenizer,
        "area_under_roc": {
            task: {"area": round(area(right, wrong), 4), "right": len(right), "wrong": len(wrong)}
            for task, (right, wrong) in {**found, "all": (everything[0], everything[1])}.items()
        },
    }


def for_student(examples: Sequence[Example], replies: Mapping[str, Sequence[str | None]]) -> Card:
    """How the teachers' answers suit the student, with 0/1 correctness as quality.

    An unfinished answer is missing, as it is in the pipeline. Prompts that nobody answers correctly are
    left out of `best_for`, since only fluency would decide there.
    """
    student, tokenizer = load(WEIGHTS / "student")
    quality = np.array(
        [[correct(e, r) for e, r in zip(examples, replies[name], strict=True)] for name in TEACHERS]
    )
    present = np.array([[reply is not None for reply in replies[name]] for name in TEACHERS]).T
    learnability = np.array(
        [
            likelihoods(student, tokenizer, examples, [reply or "" for reply in replies[name]])
            for name in TEACHERS
        ]
    ).T
    q, ll = np.where(present, quality.T, np.nan), np.where(present, learnability, np.nan)
    reward = combine(q, ll, alpha=ALPHA)
    solved = quality.any(0)
    best = np.bincount(np.nanargmax(reward[solved], 1), minlength=len(TEACHERS))
    return {
        "alpha": ALPHA,
        "prompts": len(examples),
        "solved_by_someone": int(solved.sum()),
        "teachers": {
            name: {
                "quality": round(float(np.nanmean(q[:, m])), 4),
                "learnability": round(float(np.nanmean(ll[:, m])), 4),
                "reward": round(float(np.nanmean(reward[solved, m])), 4),
                "best_for": round(float(best[m] / solved.sum()), 4),
            }
            for m, name in enumerate(TEACHERS)
        },
    }


def measure(only: Sequence[str], per_task: int = HELD_OUT) -> Card:
    """Cards of the named models, over the ones on disk; everything that depends on several, when all are named."""
    cards: Card = json.loads(CARDS.read_text(encoding="utf-8")) if CARDS.is_file() else {"models": {}}
    examples = questions(per_task)
    cards |= {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
        "decoding": "greedy",
        "tasks": baselines(examples),
    }
    replies = {}
    for name in SPECS:
        if name in only:
            say(f"measuring {name}")
            cards["models"][name], replies[name] = language_model(name, examples)
    if set(TEACHERS) <= replies.keys():
        say("measuring what suits the student, and the reward model")
        cards["for_student"] = for_student(examples, replies)
        cards["models"][REWARD.name] = reward_model(examples, replies)
    return cards


def tables(cards: Card) -> str:
    """The cards as Markdown tables."""
    tasks = list(cards["tasks"])
    lines = [
        "| model | architecture | weights | kB | tokenizer | answer tokens | " + " | ".join(tasks) + " |"
    ]
    lines.append("|---" * (6 + len(tasks)) + "|")
    lines.append(
        "| *most frequent answer* | | | | | | "
        + " | ".join(f"*{cards['tasks'][task]['majority']:.2f}*" for task in tasks)
        + " |"
    )
    for name, card in cards["models"].items():
        for key, suffix in (("accuracy_base_layout", " (base layout)"), ("accuracy", "")):
            if key in card:
                cells = [f"{a['accuracy']:.2f} ({a['low']:.2f}–{a['high']:.2f})" for a in card[key].values()]
                kind = card["architecture"].removesuffix("ForCausalLM")
                lines.append(
                    f"| `{name}`{suffix} | {kind} | {card['parameters']:,} | {card['bytes'] // 1000} | "
                    f"{card['tokenizer']} | {card['tokens_per_answer']} | {' | '.join(cells)} |"
                )
    lines += ["", "| model | trained (steps, CPU seconds on one thread) | what it is |", "|---|---|---|"]
    for name, card in cards["models"].items():
        training = card["training"]
        lines.append(f"| `{name}` | {training['steps']}, {training['cpu_seconds']} | {card['about']} |")
    if "for_student" in cards:
        suits = cards["for_student"]
        lines += [
            "",
            f"| teacher | quality | learnability (nats per token) | reward (α = {suits['alpha']}) | "
            "best teacher of |",
            "|---|---|---|---|---|",
        ]
        for name, row in suits["teachers"].items():
            lines.append(
                f"| `{name}` | {row['quality']:.3f} | {row['learnability']:.2f} | {row['reward']:.2f} | "
                f"{row['best_for']:.0%} |"
            )
    if REWARD.name in cards["models"]:
        areas = cards["models"][REWARD.name]["area_under_roc"]
        lines += [
            "",
            "Reward model, area under the ROC curve on the teachers' real answers (right/wrong ones): "
            + ", ".join(f"{task} {a['area']:.2f} ({a['right']}/{a['wrong']})" for task, a in areas.items())
            + ".",
        ]
    return "\n".join(lines)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[*SPECS], default=[*SPECS], metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cards = measure(options.only)
    CARDS.write_text(json.dumps(cards, indent=1) + "\n", encoding="utf-8")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{tables(cards)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
