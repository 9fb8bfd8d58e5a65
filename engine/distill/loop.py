"""Fine-tune a student on responses: resumable, stoppable, and the same every time on a CPU."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.base.errors import Cancelled, TrainingError
from engine.distill import card
from engine.distill.batches import deal_step, plan_epoch
from engine.distill.checkpoints import Checkpoints
from engine.distill.checkpoints import fingerprint as fingerprint
from engine.distill.data import Examples, Rows, tokenise_rows
from engine.distill.forward import backward, mean_loss, pass_cost
from engine.distill.layouts import Copies, Layout
from engine.distill.lora import make_trainable, trainable
from engine.distill.optimizer import Optimizer
from engine.distill.settings import Hooks, Settings, Task, TrainResult
from engine.models.checkpoint import Pace, paths, write_sealed
from engine.models.forward import MEASURED_COST, SplitModel, split_model
from engine.models.quantization import is_quantised
from engine.models.stoppable import stoppable
from engine.models.threads import threads


def train(
    model: Any, tokenizer: Any, rows: Rows, folder: Path, settings: Settings, hooks: Hooks | None = None
) -> TrainResult:
    """Return the trained student, saved under `folder`; call again with the same arguments to resume.

    On a CPU with the same number of threads, a run that was killed and resumed ends with the same bits as an
    undisturbed one.

    Args:
        model: the plain student; adapters are put into it in place.
        tokenizer: its tokenizer, with a chat template.
        rows: what it learns from.
        folder: gets `rows/`, `checkpoints/`, and `adapter/` or `model/`.
        settings: see `Settings`.
        hooks: see `Hooks`.

    Raises:
        TrainingError: a loss or gradient is not finite (the step is named; the last checkpoint stays), or no
            row is left.
        ConfigError: the folder belongs to a run with other data or settings.
    """
    noting, notices = (hooks or Hooks()).noting()
    data = tokenise_rows(tokenizer, rows, folder, settings.max_length, settings.overlong, noting.on_notice)
    result = train_tokenised(model, tokenizer, Task(data, folder, settings), noting)
    return replace(result, notices=tuple(notices))


def train_tokenised(
    model: Any,
    tokenizer: Any,
    task: Task,
    hooks: Hooks,
    lay_out: Callable[[Any], Layout] = lambda student: Copies(trainable(student)),
) -> TrainResult:
    """As `train`, of rows that are token ids already, alone or as one of several processes.

    Its `notices` are empty: the hooks are told them.

    Args:
        model: the plain student; adapters are put into it in place. The same one in every process; after that, what
            each keeps of it is up to `lay_out`.
        tokenizer: its tokenizer, which is saved beside it.
        task: see `Task`.
        hooks: see `Hooks`; those of the first process alone hear of more than its passes.
        lay_out: how the student, ready to be trained, lies on the processes that train it together.
    """
    data, folder, settings = task.data.training, task.folder, task.settings
    student = make_trainable(model, settings.tuning, settings.seed)
    split = split_model(model)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    quantised = f"nf4 in {model.dtype}" if is_quantised(model) else ""
    known = fingerprint(data, settings, trainable(student), quantised)
    dtype = str(model.dtype).removeprefix("torch.")
    size = model.num_parameters()  # of 4-bit weights as many as they stand for
    layout = lay_out(student)
    ranks = layout.ranks
    device = split.device
    plan = [
        (epoch, members)
        for epoch in range(settings.epochs)
        for members in plan_epoch(len(data), settings.batch_rows, settings.seed, epoch)
    ]
    optimizer = Optimizer(layout.parameters, settings.optimizer, len(plan))
    run = _Run(
        split=split,
        data=data,
        held_out=task.data.held_out,
        plan=plan,
        optimizer=optimizer,
        settings=settings,
        hooks=hooks,
        checkpoints=Checkpoints(
            folder=folder / "checkpoints",
            fingerprint=known,
            optimizer=optimizer,
            layout=layout,
            device=device,
            keep=settings.keep,
            on_change=hooks.on_checkpoints,
        ),
        device=device,
        cost=pass_cost(size, device),
        layout=layout,
    )
    torch.manual_seed(settings.seed)
    start, running = run.checkpoints.resume(hooks.on_notice)

    hooks.on_begin(start, len(plan), _work_left(run, start))
    began = time.perf_counter()
    student.train()
    with threads(size), stoppable(student, layout.asked(hooks.should_stop)):
        end = _train_steps(run, start, running)
    seconds = time.perf_counter() - began

    student.eval()
    path = folder / ("model" if settings.tuning.method == "full" else "adapter")
    if not end.stopped:
        layout.restore()
    if ranks.first and not end.stopped:
        readme = card.text(model.name_or_path, dtype, settings, data.counts, end.step, end.running["loss"])
        extra: dict[str, Any] = {"steps": end.step, "fingerprint": run.checkpoints.fingerprint}
        if quantised:
            extra["quantization"] = "nf4"
        _save(student, tokenizer, path, readme, extra)
    return TrainResult(
        model=student,
        path=path,
        step=end.step,
        total=len(plan),
        loss=end.running["loss"],
        eval_loss=end.eval_loss,
        counts=data.counts,
        seconds=seconds,
        tokens_per_second=end.tokens / seconds if end.tokens else 0.0,
        stopped=end.stopped,
        resumed_from=start,
        notices=(),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same from the first step to the last."""

    split: SplitModel
    data: Examples
    held_out: Examples | None
    plan: list[tuple[int, NDArray[np.int64]]]
    """Epoch and rows of every optimizer step."""
    optimizer: Optimizer
    settings: Settings
    hooks: Hooks
    checkpoints: Checkpoints
    device: torch.device
    cost: int
    """See `pass_cost`."""
    layout: Layout


@dataclass(frozen=True, slots=True)
class _End:
    """Where the steps ended."""

    step: int
    tokens: int
    running: Mapping[str, float]
    eval_loss: float | None
    stopped: bool


def _train_steps(run: _Run, start: int, running: Mapping[str, float]) -> _End:
    """Take the optimizer steps after `start`."""
    settings, data, total, ranks = run.settings, run.data, len(run.plan), run.layout.ranks
    began, tokens, step, stopped = time.perf_counter(), 0, start, False
    pace = Pace(start)

    def after_pass(fed: int) -> None:
        run.optimizer.collect()
        run.hooks.on_work(fed, fed)

    for step in range(start + 1, total + 1):
        epoch, members = run.plan[step - 1]
        ranks.seed_step(settings.seed, step)
        random = run.checkpoints.random()
        try:
            # Before the next step, not after the last: one that a stop or a kill ended is taken when it goes on.
            if run.held_out and _is_measured(run, step - 1):
                run.hooks.on_eval(step - 1, _measure(run, run.held_out))
            loss = _backward(run, members, after_pass)
        except Cancelled:
            run.layout.settle()
            run.optimizer.drop()
            step, stopped = step - 1, True
            if step > pace.step:
                _write(run, step, running, random)
            break
        norm = run.optimizer.norm(run.layout.norm) if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            raise _not_finite(run, step, loss)
        rate = run.optimizer.step(step - 1)

        fed = int(data.lengths[members].sum())
        tokens += fed
        running = _running_mean(running, epoch, loss, int(data.targets[members].sum()))
        report: dict[str, Any] = {
            "step": step,
            "total": total,
            "epoch": step * settings.epochs / total,
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens": fed,
            "tokens_per_second": tokens / (time.perf_counter() - began),
        }
        if run.device.type == "cuda":
            report["memory_bytes"] = torch.cuda.max_memory_allocated(run.device)
        run.hooks.on_progress(report)

        stopped = step < total and ranks.any(run.hooks.should_stop())
        asked, every = run.hooks.should_save(), settings.checkpoint_every
        due = asked or (every and (step % every == 0 or pace.due))
        if stopped or ranks.any(bool(due and ranks.first)):
            began_writing = time.monotonic()
            _write(run, step, running, run.checkpoints.random())
            pace.wrote(step, began_writing)
        if stopped:
            break
    eval_loss = None
    if run.held_out and not stopped:
        try:
            eval_loss = _measure(run, run.held_out)
            run.hooks.on_eval(step, eval_loss)
        except Cancelled:
            run.layout.settle()
            stopped = True
            if step > pace.step:
                _write(run, step, running, run.checkpoints.random())
    return _End(step, tokens, running, eval_loss, stopped)


def _backward(run: _Run, members: NDArray[np.int64], after_pass: Callable[[int], None]) -> float:
    """The loss of a step, nats per target token, with its gradients in the parameters, the same in every process.

    Raises:
        Cancelled: a stop came, in whichever process.
    """
    layout, data = run.layout, run.data
    ranks = layout.ranks
    most, cost = run.settings.pass_tokens, run.cost
    passes = deal_step(members, data.lengths, most, cost, ranks.count, layout.lockstep)[ranks.rank]
    targets = int(data.targets[members].sum())
    own = ranks.together(lambda: backward(run.split, data, passes, after_pass, targets, layout))
    layout.sum_gradients(run.optimizer.masters)
    (loss,) = ranks.sum([own])
    return loss


def _is_measured(run: _Run, step: int) -> bool:
    """Whether the loss on the rows held out belongs to the curve after this step, which is not the last."""
    return bool(step and run.settings.eval_every) and step % run.settings.eval_every == 0


def _measure(run: _Run, held_out: Examples) -> float:
    """The loss on the rows held out, nats per target token. Raises Cancelled where a stop comes in between."""

    def after_pass(fed: int) -> None:
        run.hooks.on_work(0, fed * MEASURED_COST)

    loss = mean_loss(run.split, held_out, run.settings.pass_tokens, after_pass, run.layout)
    run.layout.settle()
    return loss


def _work_left(run: _Run, start: int) -> float:
    """Tokens to train on after step `start`, and `MEASURED_COST` of those to be measured."""
    trained = sum(int(run.data.lengths[members].sum()) for _, members in run.plan[start:])
    if run.held_out is None:
        return trained
    times = 1 + sum(_is_measured(run, step) for step in range(start, len(run.plan)))
    return trained + times * MEASURED_COST * run.held_out.counts.tokens


def _write(run: _Run, step: int, running: Mapping[str, float], random: Mapping[str, Tensor]) -> None:
    """Write a checkpoint, which every process does at the same step."""
    finite = all(bool(torch.isfinite(weights).all()) for weights in run.optimizer.masters.values())
    if run.layout.ranks.any(not finite):
        raise _not_finite(run, step, math.nan)
    run.checkpoints.write(step, running, random)


def _running_mean(running: Mapping[str, float], epoch: int, loss: float, targets: int) -> dict[str, float]:
    """Return the mean loss per target token of the epoch so far."""
    if running["epoch"] != epoch:
        running = {"loss": 0.0, "targets": 0}
    seen = running["targets"] + targets
    mean = running["loss"] + (loss - running["loss"]) * targets / seen
    return {"epoch": epoch, "loss": mean, "targets": seen}


def _not_finite(run: _Run, step: int, loss: float) -> TrainingError:
    found = paths(run.checkpoints.folder)
    kept = f"the last finite checkpoint is {found[0].name}" if found else "no checkpoint had been written yet"
    what = f"the gradient of step {step}" if math.isfinite(loss) else f"the loss of step {step}"
    members = ", ".join(str(row) for row in sorted(run.plan[step - 1][1])[:16])
    return TrainingError(
        f"{what} is not a finite number; {kept}; rows of the step, counted after filtering: {members}",
        "lower distill.learning_rate, raise distill.warmup_ratio, or look at these rows",
    )


def _save(student: Any, tokenizer: Any, path: Path, readme: str, extra: Mapping[str, Any]) -> None:
    def fill(temporary: Path) -> None:
        student.save_pretrained(temporary)
        (temporary / "README.md").write_text(readme, encoding="utf-8")  # over PEFT's empty form
        tokenizer.save_pretrained(temporary)

    write_sealed(path, fill, extra)
