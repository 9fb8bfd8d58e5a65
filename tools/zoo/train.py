"""Trains the packaged models from their seeds.

    python -m tools.zoo.train [--only NAME ...] [--out DIR] [--jobs 2]

One thread per model, `--jobs` models at a time. The same seed, thread count, torch version and kind of
CPU give the same weights; another CPU may round differently.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from engine.zoo.resolve import WEIGHTS
from tools.zoo import styles, tasks
from tools.zoo.corpus import IGNORED, Row, build_tokenizer, collate, encode
from tools.zoo.optimize import optimize, say
from tools.zoo.reward_model import train_reward
from tools.zoo.specs import REWARD, SPECS, Spec, config

RECORD = "training.json"


def pools(spec: Spec, tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[Row]], list[float]]:
    """Encoded rows for each (task, style), and the weight of each."""
    rows: list[list[Row]] = []
    weights: list[float] = []
    total = sum(weight for mix in spec.mix.values() for weight in mix.values())
    scale = total / (1 - sum(spec.turns.values())) / len(spec.mix)
    for task, mix in spec.mix.items():
        examples = tasks.training(task, spec.pool)
        wordings = [(spec.layout, style, weight) for style, weight in mix.items()]
        wordings += [("chat", style, share * scale) for style, share in spec.turns.items()]
        for layout, style, weight in wordings:
            answers = [styles.write(style, example) for example in examples]
            rows.append(encode(tokenizer, layout, [example.question for example in examples], answers))
            weights.append(weight)
    return rows, weights


def train(spec: Spec, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A language model trained from its spec; tasks and styles are mixed inside every batch."""
    torch.manual_seed(spec.seed)
    rng = random.Random(spec.seed)
    model = cast(PreTrainedModel, AutoModelForCausalLM.from_config(config(spec, tokenizer)))  # type: ignore[no-untyped-call]
    rows, weights = pools(spec, tokenizer)

    def loss() -> torch.Tensor:
        batch = [rng.choice(pool) for pool in rng.choices(rows, weights, k=spec.batch)]
        inputs, targets = collate(batch, cast(int, tokenizer.pad_token_id))
        # Padding stands to the right and attention is causal, so no mask is needed.
        hidden = model.base_model(input_ids=inputs).last_hidden_state
        counted = targets != IGNORED
        logits = cast(Any, model).get_output_embeddings()(hidden[counted])
        return cross_entropy(logits, targets[counted])

    optimize(spec.name, model, loss, spec.steps, spec.learning_rate)
    return model


def save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, record: dict[str, Any]
) -> None:
    """Writes weights in float16, tokenizer, generation settings and how they came about."""
    if model.can_generate():
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    cast(torch.nn.Module, model).to(torch.float16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)


def run(name: str, out: Path) -> None:
    """Trains one model and saves it in `out`."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    started = time.process_time()
    if name == REWARD.name:
        model, tokenizer = train_reward(REWARD, out)
        seed, steps = REWARD.seed, REWARD.steps
    else:
        spec = SPECS[name]
        tokenizer = build_tokenizer(spec.tokenizer)
        model = train(spec, tokenizer)
        seed, steps = spec.seed, spec.steps
    seconds = round(time.process_time() - started)
    save(
        model,
        tokenizer,
        out / name,
        {"seed": seed, "steps": steps, "threads": 1, "cpu_seconds": seconds, "torch": torch.__version__},
    )
    say(f"{name}: {model.num_parameters()} weights in {seconds} CPU seconds")


def main() -> None:
    """Command line entry."""
    everything = [*SPECS, REWARD.name]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=everything, default=everything, metavar="NAME")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--jobs", type=int, default=2, help="models trained at the same time")
    options = parser.parse_args()
    if len(options.only) == 1:
        run(options.only[0], options.out)
        return
    first = [name for name in everything if name in options.only and name != REWARD.name]
    with ThreadPoolExecutor(options.jobs) as executor:
        list(executor.map(lambda name: _child(name, options.out), first))
    if REWARD.name in options.only:
        _child(REWARD.name, options.out)


def _child(name: str, out: Path) -> None:
    # A process of its own: torch's thread count, seed and determinism are per process.
    command = [sys.executable, "-m", "tools.zoo.train", "--only", name, "--out", str(out)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
