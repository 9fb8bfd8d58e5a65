"""LoRA training: tokens per second of this project's loop against TRL's SFTTrainer and a plain accelerate loop.

All train the same student from the same adapter on the same rows with the same learning rates, rows of a step and
clipping, and must end at about the same loss on those rows. The peers get what makes them fast: batches of like length,
no gradient checkpointing, attention without a mask where a batch has no padding. Packing is left out: without flash
attention its rows see each other. `qlora` is ours beside weights in 4 bits: its speed, memory and fall of the loss are
reported beside those of ours, and `qlora over ours` is what it costs and saves. Memory is that of a process of its own
for each (`--memory`): the bytes of the weights, and the most that the process took, with torch and all that it loads.

TRL "as it comes" is reported, too. `ours over the best peer` is the ratio of tokens
per second of processor time in each number format, in one run.

    python benchmarks/lora.py [ROWS.jsonl] [--model zoo:smollm2-135m]
    python benchmarks/lora.py --model tiny       a random Llama of 3 layers, for a look at the script

ROWS is a JSONL file whose rows have `question`/`answer`, `prompt`/`response` or `problem`/`solution`, or a folder that
holds `gsm8k_train.jsonl` (see `_published.py`); where there is none random words are learned, which is said. Needs
`trl` (extra `dev`). Prints one JSON object on stdout, narration on stderr.
"""

import argparse
import contextlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import _published
import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    get_linear_schedule_with_warmup,
)
from trl import SFTConfig, SFTTrainer

from engine.distill.batches import cut_step, padding_share, plan_epoch
from engine.distill.data import Examples, Rows, tokenise
from engine.distill.forward import mean_loss, pass_cost
from engine.distill.loop import train
from engine.distill.lora import Tuning, make_trainable
from engine.distill.optimizer import OptimizerConfig
from engine.distill.settings import Settings
from engine.models.forward import split_model
from engine.models.loading import load_causal_lm, load_tokenizer
from engine.models.quantization import is_quantised, weight_bytes

Row = _published.Item
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|> ' + m['role'] + ' ' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> assistant ' }}{% endif %}"
)


def build_tiny(folder: Path) -> None:
    """Save a random Llama of 3 layers and a tokenizer of whole words into `folder`."""
    words = [
        "<|im_start|>",
        "<|im_end|>",
        "<unk>",
        "user",
        "assistant",
        *(f"w{index}" for index in range(2043)),
    ]
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=170,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_rows(place: str, count: int, tokenizer: Any) -> list[Row]:
    """`count` published rows; random words where there are none."""
    if found := _published.answered(place, count):
        return found
    special = set(tokenizer.all_special_tokens)
    words = sorted(word for word in tokenizer.get_vocab() if word.isalnum() and word not in special)
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for _ in range(count):
        length = int(np.exp(rng.uniform(np.log(20), np.log(400))))
        prompt = " ".join(rng.choice(words, size=int(rng.integers(20, 60))))
        rows.append((_published.user(prompt), " ".join(rng.choice(words, size=length))))
    return rows


@dataclass(frozen=True)
class Task:
    """What every way is given."""

    ref: str
    rows: list[Row]
    data: Examples
    settings: Settings
    folder: Path

    def batches(self) -> list[list[int]]:
        """Rows of like length in every step, the steps mixed: the least padding that a peer can have."""
        by_length = np.argsort(self.data.lengths, kind="stable")
        size = self.settings.batch_rows
        cuts = [by_length[begin : begin + size].tolist() for begin in range(0, len(by_length), size)]
        return [cuts[index] for index in np.random.default_rng(self.settings.seed).permutation(len(cuts))]


@dataclass(frozen=True)
class Run:
    """One training run; times are of the training alone, ours with reading the rows and saving the adapter."""

    student: Any
    seconds: float
    cpu_seconds: float


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    began, cpu_began = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(sys.stderr):
        work()
    return time.perf_counter() - began, time.process_time() - cpu_began


def ours(task: Task, dtype: str, method: Literal["lora", "qlora"] = "lora") -> Run:
    model, tokenizer = load_causal_lm(task.ref, dtype=dtype, four_bit=method == "qlora")
    folder = Path(tempfile.mkdtemp(dir=task.folder))
    settings = replace(task.settings, tuning=replace(task.settings.tuning, method=method))
    return Run(model, *timed(lambda: train(model, tokenizer, Rows(task.rows), folder, settings)))


def trl(task: Task, dtype: str, as_it_comes: bool = False) -> Run:
    model, tokenizer = load_causal_lm(task.ref, dtype="float32" if as_it_comes else dtype)
    student = make_trainable(model, task.settings.tuning, task.settings.seed)
    if as_it_comes:
        plan = plan_epoch(len(task.data), task.settings.batch_rows, task.settings.seed, 0)
        batches, more = [batch.tolist() for batch in plan], {}
    else:
        batches, more = task.batches(), {"bf16": dtype == "bfloat16", "gradient_checkpointing": False}
    # Ids and labels are given, so that all train on the same tokens: TRL would also put the newline that some
    # templates write after the end of a turn under the loss.
    examples = [
        {
            "input_ids": task.data[row].ids.tolist(),
            "labels": [-100] * task.data[row].boundary
            + task.data[row].ids[task.data[row].boundary :].tolist(),
        }
        for batch in batches
        for row in batch
    ]
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(dir=task.folder),
        num_train_epochs=1,
        per_device_train_batch_size=task.settings.batch_rows,
        learning_rate=task.settings.optimizer.learning_rate,
        max_length=task.settings.max_length,
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        use_liger_kernel=torch.cuda.is_available() and find_spec("liger_kernel") is not None,
        **more,
    )
    trainer = SFTTrainer(
        model=student, args=config, train_dataset=Dataset.from_list(examples), processing_class=tokenizer
    )
    return Run(model, *timed(trainer.train))


def accelerate(task: Task, dtype: str) -> Run:
    """The loop that one writes by hand: transformers' own loss over padded batches, AdamW, a linear schedule."""
    plain, _ = load_causal_lm(task.ref, dtype=dtype)
    student = make_trainable(plain, task.settings.tuning, task.settings.seed)
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    batches = task.batches()
    optimizer = torch.optim.AdamW(
        parameters, lr=task.settings.optimizer.learning_rate, weight_decay=0.0, fused=True
    )
    mixed = "bf16" if dtype == "bfloat16" else "no"
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=mixed)
    student, optimizer = accelerator.prepare(student, optimizer)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, len(batches))  # type: ignore[no-untyped-call]

    def work() -> None:
        student.train()
        for batch in batches:
            examples = [task.data[row] for row in batch]
            width = max(len(example.ids) for example in examples)
            ids = torch.zeros((len(batch), width), dtype=torch.long)
            labels = torch.full_like(ids, -100)
            for place, example in enumerate(examples):
                ids[place, : len(example.ids)] = torch.from_numpy(example.ids.astype(np.int64))
                labels[place, example.boundary : len(example.ids)] = ids[
                    place, example.boundary : len(example.ids)
                ]
            # Padding lies to the right of causal attention: no mask is the faster way.
            loss = student(input_ids=ids.to(accelerator.device), labels=labels.to(accelerator.device)).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    return Run(plain, *timed(work))


def loss_on(model: Any, data: Examples) -> float:
    if not is_quantised(model):
        model.float()
    model.eval()
    return mean_loss(split_model(model), data, 4096)


def the_task(options: argparse.Namespace, work: Path) -> tuple[Task, Any]:
    """(what every way is given, the tokenizer)."""
    ref = options.model
    if ref == "tiny":
        ref = str(work / "student")
        build_tiny(Path(ref))
    tokenizer = load_tokenizer(ref)
    rows = read_rows(options.rows_file, options.rows, tokenizer)
    settings = Settings(
        tuning=Tuning(rank=options.rank, alpha=2 * options.rank),
        batch_rows=options.batch,
        optimizer=OptimizerConfig(learning_rate=2e-4, warmup=0.0),
        epochs=1,
        max_length=2048,
        checkpoint_every=0,
    )
    data = tokenise(tokenizer, rows, work / "rows", settings.max_length)
    return Task(ref, rows, data, settings, work), tokenizer


def memory(options: argparse.Namespace, work: Path) -> dict[str, float]:
    """Bytes of the weights, and the most that this process took while it trained by `options.memory`."""
    task, _ = the_task(options, work)
    student = ours(task, "float32", options.memory).student
    frozen = weight_bytes(student) - sum(w.nbytes for w in student.parameters() if w.requires_grad)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"bytes_of_weights": frozen, "peak_bytes": peak}


def measured_apart(options: argparse.Namespace, method: str) -> dict[str, float]:
    told = [sys.argv[0], *sys.argv[1:], "--memory", method]
    done = subprocess.run([sys.executable, *told], stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def qlora(options: argparse.Namespace, task: Task, plain: dict[str, float]) -> dict[str, Any]:
    """Figures of training beside 4-bit weights, and what they are of those of `plain`, which is ours in float32."""
    before = loss_on(load_causal_lm(task.ref, four_bit=True)[0], task.data)
    run = ours(task, "float32", "qlora")
    found = {
        "tokens_per_second": task.data.counts.tokens / run.seconds,
        "tokens_per_cpu_second": task.data.counts.tokens / run.cpu_seconds,
        "loss_before": before,
        "loss_fallen": before - loss_on(run.student, task.data),
    }
    sizes = {method: measured_apart(options, method) for method in ("lora", "qlora")}
    over = {key: found[key] / plain[key] for key in ("tokens_per_cpu_second", "loss_fallen")}
    over |= {key: value / sizes["lora"][key] for key, value in sizes["qlora"].items()}
    return {**found, "memory": sizes, "qlora over ours": over}


def compare(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    task, tokenizer = the_task(options, work)
    settings, data, rows = task.settings, task.data, task.rows
    model, _ = load_causal_lm(task.ref)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    before = loss_on(model, data)
    plan = plan_epoch(len(data), settings.batch_rows, settings.seed, 0)
    cost = pass_cost(parameters, next(model.parameters()).device)
    passes = [cut for step in plan for cut in cut_step(step, data.lengths, settings.pass_tokens, cost)]
    report: dict[str, Any] = {
        "model": options.model,
        "parameters": parameters,
        "threads": torch.get_num_threads(),
        "rows": len(data),
        "tokens": data.counts.tokens,
        "target_tokens": data.counts.target_tokens,
        "padding": {
            "ours": padding_share(passes, data.lengths),
            "peers, sorted": padding_share([np.array(batch) for batch in task.batches()], data.lengths),
            "unsorted": padding_share(plan, data.lengths),
        },
        "loss_before": before,
        "runs": {},
    }
    # Two rows each first: allocators, thread pools and lazy imports are not what is compared.
    few = rows[:2]
    warm = replace(task, rows=few, data=tokenise(tokenizer, few, work / "few", settings.max_length))
    for way in (ours, trl, accelerate):
        way(replace(warm, settings=replace(settings, batch_rows=2)), "float32")

    ways: dict[str, Callable[[], Run]] = {}
    for dtype in options.dtypes:
        ways |= {f"{way.__name__} {dtype}": partial(way, task, dtype) for way in (ours, trl, accelerate)}
    if "bfloat16" in options.dtypes:
        ways["trl as it comes"] = partial(trl, task, "bfloat16", as_it_comes=True)
    for name, run_it in ways.items():
        run = run_it()
        after = loss_on(run.student, data)
        report["runs"][name] = {
            "tokens_per_second": data.counts.tokens / run.seconds,
            "tokens_per_cpu_second": data.counts.tokens / run.cpu_seconds,
            "loss_fallen": before - after,
        }
        print(f"{name}: {report['runs'][name]}", file=sys.stderr)
    for dtype in options.dtypes:
        own = report["runs"][f"ours {dtype}"]
        peers = [report["runs"][f"{name} {dtype}"] for name in ("trl", "accelerate")]
        best = max(peer["tokens_per_cpu_second"] for peer in peers)
        report[f"ours over the best peer, {dtype}"] = own["tokens_per_cpu_second"] / best
        check_losses([own, *peers], options.tolerance, report)
    if "float32" in options.dtypes:
        report["qlora float32"] = qlora(options, task, report["runs"]["ours float32"])
    return report


def check_losses(runs: Sequence[dict[str, float]], tolerance: float, report: dict[str, Any]) -> None:
    fallen = [run["loss_fallen"] for run in runs]
    if max(fallen) - min(fallen) > tolerance * max(fallen):
        raise SystemExit(f"not the same loss, so the speeds cannot be compared: {report}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows_file", nargs="?", default="")
    parser.add_argument(
        "--model", default="tiny", help="zoo:NAME, a folder or a hub id; tiny: a random Llama"
    )
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=("float32", "bfloat16"),
        default=["float32", "bfloat16"],
        help="number formats; a CPU without bfloat16 instructions takes eight times as long in it",
    )
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as the environment says")
    parser.add_argument("--tolerance", type=float, default=0.15, help="of the fall of the loss")
    parser.add_argument("--memory", choices=("lora", "qlora"), help="only the memory of one of ours")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")

    work = Path(tempfile.mkdtemp(prefix="persyn-lora-"))
    try:
        print(json.dumps(memory(options, work) if options.memory else compare(options, work), indent=1))
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
