"""Stage `distill`: the student is fine-tuned on each strategy's dataset, from the same start."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, islice
from math import ceil
from pathlib import Path
from typing import Any

from engine.base import foreign_json
from engine.base.errors import Cancelled, ConfigError, TrainingError
from engine.base.foreign_json import WrongShape
from engine.config.stages import DistillConfig
from engine.distill import loop, merge, parallel
from engine.distill.data import Rows
from engine.distill.lora import Tuning
from engine.distill.optimizer import OptimizerConfig
from engine.distill.settings import Hooks, Settings, TrainResult
from engine.job import adapters_of_run
from engine.job.context import RunContext
from engine.models import loading
from engine.models.adapters import MANIFEST
from engine.models.chat_template import encode, with_system
from engine.models.reasoning import target
from storage import datasets, results
from storage.hashing import sha
from storage.records import Checkpoint, Dataset, Messages

PAGE = 500
EVALUATED = 10
"""How many times the loss on the rows held out is measured in a training."""
PROBES = 8
"""Training rows on which the merged model is compared with the live one."""


def run(context: RunContext) -> None:
    """Trains what is not trained yet; an interrupted training goes on from its newest whole checkpoint."""
    context.servers.close()  # all teachers have answered
    for strategy in context.run.strategies:
        _expect(context, strategy)
    for strategy in context.run.strategies:
        context.control.check()
        dataset = datasets.find(context.store, context.identity.dataset_sha(strategy))
        if dataset is None or not dataset.complete:
            raise ConfigError(
                f"strategy `{strategy}`: its dataset has not been built", "run build_dataset first"
            )
        adapter = results.open_adapter(
            context.store, context.lease, context.adapter_sha(strategy), dataset.id, context.student_id
        )
        if adapter.complete:
            context.progress.say(
                f"distill: {strategy}: trained before, loss {adapter.metrics.get('loss', 0):.3f}"
            )
            continue
        _distill(context, strategy, dataset, adapter.id)


def _expect(context: RunContext, strategy: str) -> None:
    """Announces a training to come, so that the ETA is the stage's; rows that are too long are not known yet."""
    dataset = datasets.find(context.store, context.identity.dataset_sha(strategy))
    trained = results.adapter(context.store, context.adapter_sha(strategy))
    if dataset is None or (trained is not None and trained.complete):
        return
    config, rows = context.run.distill, datasets.count(context.store, dataset.id)
    steps = ceil(rows * (1 - config.held_out) / config.batch_size) * config.epochs
    context.progress.expect(steps, row=strategy, unit="steps", lane=0)


def _distill(context: RunContext, strategy: str, dataset: Dataset, adapter_id: int) -> None:
    context.progress.works_on(strategy)
    context.progress.doing(f"loading {context.student.name} ({strategy})", strategy)
    folder = context.folder("students", context.adapter_sha(strategy))
    if not datasets.count(context.store, dataset.id):
        raise TrainingError(
            f"distill: the dataset of `{strategy}` has no rows",
            "see build_dataset's line for why rows were left out (truncated: raise generation.max_tokens)",
        )

    def begin(step: int, total: int, work: float) -> None:
        if step:
            context.progress.say(
                f"distill: {strategy}: goes on from the checkpoint of step {step:,} of {total:,}"
            )
        context.progress.expect(total, done=step, row=strategy, unit="steps", lane=0, work=work)

    def report(values: Mapping[str, Any]) -> None:
        context.progress.advance(row=strategy)
        shown = ("loss", "learning_rate", "gradient_norm", "memory_bytes")
        found = {f"{strategy}/{key}": values[key] for key in shown if key in values}
        context.progress.values(int(values["step"]), found)

    def save() -> bool:
        asked = context.control.take_checkpoint()
        if asked:
            context.progress.say(f"distill: {strategy}: a checkpoint is written, as asked")
        return asked

    result, tokenizer = _train(
        context,
        Rows(_rows(context, strategy, dataset), _held_out_rows(context, strategy, dataset)),
        folder,
        replace(training_settings(context.run.distill), eval_every=_eval_every(context, dataset)),
        Hooks(
            on_begin=begin,
            on_work=lambda tokens, work: context.progress.advance(0, tokens=tokens, row=strategy, work=work),
            on_progress=report,
            on_eval=lambda step, loss: context.progress.values(step, {f"{strategy}/eval_loss": loss}),
            on_notice=lambda text: context.progress.say(f"distill: {strategy}: {text}", "warning"),
            on_checkpoints=lambda folders: _record(context, adapter_id, folders),
            should_stop=context.control.cancelled,
            should_save=save,
        ),
    )
    if result.stopped:
        raise Cancelled(
            f"cancelled at step {result.step} of {result.total}; a checkpoint holds it",
            "run the same command again to go on",
        )
    merged = _merge(context, result, tokenizer, _rows(context, strategy, dataset), folder)
    metrics = {
        "loss": result.loss,
        "eval_loss": result.eval_loss,
        "steps": result.step,
        "resumed_from": result.resumed_from,
        "tokens_per_second": result.tokens_per_second,
        "seconds": result.seconds,
        "rows": asdict(result.counts),
        "merged": merged,
        adapters_of_run.TRAINING: context.identity.adapter_sha(strategy),
    }
    path = str(result.path.relative_to(context.store.folder))
    results.finish_adapter(context.store, context.lease, adapter_id, path, metrics)
    context.progress.say(
        f"distill: {strategy}: {result.counts.kept:,} rows, {result.step:,} steps, loss {result.loss:.3f}, "
        f"{result.tokens_per_second:,.0f} tok/s"
    )


def _train(
    context: RunContext, rows: Rows, folder: Path, settings: Settings, hooks: Hooks
) -> tuple[TrainResult, Any]:
    """What the training gave, and the student's tokenizer: here on one device, on several in processes of their own."""
    student, four_bit = context.student, context.run.distill.method == "qlora"
    # With more processes than a step has rows, some would have nothing to do.
    devices = context.places(student.options.get("device"))[: settings.batch_rows]
    if len(devices) > 1:
        tokenizer = loading.load_tokenizer(student.model, student.revision)
        copied = parallel.Student(student.model, _dtype(context), devices, student.revision, four_bit)
        return parallel.train(copied, tokenizer, rows, folder, settings, hooks), tokenizer
    with context.control.at_once():
        model, tokenizer = loading.load_causal_lm(
            student.model,
            dtype=_dtype(context),
            device=devices[0],
            revision=student.revision,
            four_bit=four_bit,
        )
    return loop.train(model, tokenizer, rows, folder, settings, hooks), tokenizer


def _record(context: RunContext, adapter_id: int, folders: Sequence[Path]) -> None:
    """The store lists the checkpoints that are on disk."""
    known = {
        checkpoint.step: checkpoint.sha256 for checkpoint in results.checkpoints(context.store, adapter_id)
    }
    steps = []
    for folder in folders:
        try:
            text = (folder / MANIFEST).read_bytes()
            manifest = foreign_json.parse(text)
            step, state = manifest["step"].integer(), manifest["state"].object()
        except (OSError, WrongShape):
            continue  # damaged; the loop removes it when it comes to it
        steps.append(step)
        digest = hashlib.sha256(text).hexdigest()
        if known.get(step) != digest:
            path = str(folder.relative_to(context.store.folder))
            results.add_checkpoint(
                context.store, context.lease, Checkpoint(adapter_id, step, path, digest, state)
            )
    if known.keys() - set(steps):
        results.keep_checkpoints(context.store, context.lease, adapter_id, steps)


def _held_out_rows(
    context: RunContext, strategy: str, dataset: Dataset
) -> Iterator[tuple[Messages, str]] | None:
    """The rows that are measured only; None where there are none."""
    rows = _rows(context, strategy, dataset, held_out=True)
    first = next(rows, None) if context.run.distill.held_out else None
    return None if first is None else chain([first], rows)


def _eval_every(context: RunContext, dataset: Dataset) -> int:
    """Optimizer steps between two losses on the rows held out."""
    config = context.run.distill
    steps = config.epochs * datasets.count(context.store, dataset.id) / config.batch_size
    return max(1, round(steps / EVALUATED))


def _is_held_out(messages: Messages, share: float) -> bool:
    """By the prompt's content: the same prompts for every strategy, in every store, after every restart."""
    if not share:
        return False  # the usual case: no row need be hashed
    digest = sha([dict(message) for message in messages])
    return int(digest[:8], 16) < share * 2**32


def _rows(
    context: RunContext, strategy: str, dataset: Dataset, *, held_out: bool = False
) -> Iterator[tuple[Messages, str]]:
    share = context.run.distill.held_out
    excluded, after = frozenset(context.excluded(strategy)), 0
    # Not the rows that are excluded now: those that were when the adapter got its name.
    while page := datasets.rows(
        context.store, dataset.id, after_prompt_id=after, limit=PAGE, include_excluded=True
    ):
        for row in page:
            if row.prompt.id in excluded or _is_held_out(row.prompt.messages, share) != held_out:
                continue
            yield with_system(context.student.system, row.prompt.messages), target(dataset, row)
        after = page[-1].prompt.id or 0


def _merge(
    context: RunContext,
    result: TrainResult,
    tokenizer: Any,
    rows: Iterator[tuple[Messages, str]],
    folder: Path,
) -> str:
    """Relative folder of the merged model; empty when there is nothing to merge."""
    config = context.run.distill
    if not config.merge or config.method == "full":
        return ""
    # Texts it was trained on: there the adapter changes the logits most, and a bad merge shows.
    probes = [
        encode(tokenizer, messages, response).ids[: config.max_length]
        for messages, response in islice(rows, PROBES)
    ]
    target = folder / "merged"
    context.progress.doing("merging the adapter and comparing logits")
    try:
        with context.control.at_once():  # what it writes is sealed when it is whole
            merge.merge(_base(context), result.path, target, probes)
    except Cancelled:
        merge.discard(target)
        raise
    return str(target.relative_to(context.store.folder))


def _base(context: RunContext) -> merge.Base:
    """The student where it would be trained in this process."""
    student = context.placed(context.student)
    device = str(student.options.get("device") or "auto")
    return merge.Base(student.model, student.revision, _dtype(context), device)


def _dtype(context: RunContext) -> str:
    return str(context.run.distill.dtype or context.student.options.get("dtype", "float32"))


def training_settings(config: DistillConfig) -> Settings:
    """The run file's `distill` section as the training loop's arguments."""
    return Settings(
        tuning=Tuning(
            method=config.method,
            rank=config.rank,
            alpha=config.alpha if config.alpha is not None else 2.0 * config.rank,
            dropout=config.dropout,
        ),
        batch_rows=config.batch_size,
        optimizer=OptimizerConfig(
            learning_rate=config.learning_rate,
            schedule=config.schedule,
            warmup=config.warmup_ratio,
            weight_decay=config.weight_decay,
            max_norm=config.gradient_clip,
        ),
        epochs=config.epochs,
        max_length=config.max_length,
        overlong=config.overlong,
        seed=config.seed,
        checkpoint_every=config.checkpoint_steps,
        keep=config.keep_checkpoints,
        pass_tokens=config.pass_tokens,
        gradient_checkpointing=config.gradient_checkpointing,
    )
