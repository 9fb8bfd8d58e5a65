"""Fine-tune a student on responses: resumable, stoppable, and the same every time on a CPU."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.base.errors import Cancelled, ConfigError, TrainingError
from engine.distill import card
from engine.distill.batches import cut_step, plan_epoch
from engine.distill.data import Examples, Rows, tokenise
from engine.distill.forward import backward, mean_loss, pass_cost
from engine.distill.lora import ALL_LINEAR, make_trainable, trainable
from engine.distill.optimizer import BETAS, EPSILON, Optimizer
from engine.distill.settings import Hooks, Settings, TrainResult
from engine.models.checkpoint import Checkpoint, Pace, paths, read_newest, write_checkpoint, write_sealed
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
    hooks = hooks or Hooks()
    notices: list[str] = []

    def notice(text: str) -> None:
        notices.append(text)
        hooks.on_notice(text)

    data = tokenise(tokenizer, rows.training, folder / "rows", settings.max_length, settings.overlong)
    held_out = None
    if rows.held_out is not None:
        place = folder / "eval_rows"
        held_out = tokenise(tokenizer, rows.held_out, place, settings.max_length, settings.overlong)
    _tell_counts(data, settings, notice)

    student = make_trainable(model, settings.tuning, settings.seed)
    split = split_model(model)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    quantised = f"nf4 in {model.dtype}" if is_quantised(model) else ""
    parameters = trainable(student)
    size = model.num_parameters()  # of 4-bit weights as many as they stand for
    device = next(iter(parameters.values())).device
    plan = [
        (epoch, members)
        for epoch in range(settings.epochs)
        for members in plan_epoch(len(data), settings.batch_rows, settings.seed, epoch)
    ]
    run = _Run(
        split=split,
        data=data,
        held_out=held_out,
        plan=plan,
        optimizer=Optimizer(parameters, settings.optimizer, len(plan)),
        settings=settings,
        hooks=hooks,
        checkpoints=folder / "checkpoints",
        fingerprint=fingerprint(data, settings, parameters, quantised),
        device=device,
        cost=pass_cost(size, device),
    )
    torch.manual_seed(settings.seed)
    start, running = _resume(run, notice)

    hooks.on_begin(start, len(plan), _work_left(run, start))
    began = time.perf_counter()
    student.train()
    with threads(size), stoppable(student, hooks.should_stop):
        end = _train_steps(run, start, running)
    seconds = time.perf_counter() - began

    student.eval()
    path = folder / ("model" if settings.tuning.method == "full" else "adapter")
    if not end.stopped:
        readme = card.text(
            model.name_or_path,
            str(model.dtype).removeprefix("torch."),
            settings,
            data.counts,
            end.step,
            end.running["loss"],
        )
        extra: dict[str, Any] = {"steps": end.step, "fingerprint": run.fingerprint}
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
        notices=tuple(notices),
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
    checkpoints: Path
    fingerprint: str
    device: torch.device
    cost: int
    """See `pass_cost`."""


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
    settings, data, total = run.settings, run.data, len(run.plan)
    began, tokens, step, stopped = time.perf_counter(), 0, start, False
    pace = Pace(start)

    def after_pass(fed: int) -> None:
        run.optimizer.collect()
        run.hooks.on_work(fed, fed)

    for step in range(start + 1, total + 1):
        epoch, members = run.plan[step - 1]
        passes = cut_step(members, data.lengths, settings.pass_tokens, run.cost)
        random = _random(run.device)
        try:
            # Before the next step, not after the last: one that a stop or a kill ended is taken when it goes on.
            if run.held_out and _is_measured(run, step - 1):
                run.hooks.on_eval(step - 1, _measure(run, run.held_out))
            loss = backward(run.split, data, passes, run.device, after_pass)
        except Cancelled:
            run.optimizer.drop()
            step, stopped = step - 1, True
            if step > pace.step:
                _write(run, step, running, random)
            break
        norm = run.optimizer.norm() if math.isfinite(loss) else math.nan
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

        stopped = step < total and run.hooks.should_stop()
        asked = run.hooks.should_save()
        every = settings.checkpoint_every
        if stopped or asked or (every and (step % every == 0 or pace.due)):
            began_writing = time.monotonic()
            _write(run, step, running, _random(run.device))
            pace.wrote(step, began_writing)
        if stopped:
            break
    eval_loss = None
    if run.held_out and not stopped:
        try:
            eval_loss = _measure(run, run.held_out)
            run.hooks.on_eval(step, eval_loss)
        except Cancelled:
            stopped = True
            if step > pace.step:
                _write(run, step, running, _random(run.device))
    return _End(step, tokens, running, eval_loss, stopped)


def _is_measured(run: _Run, step: int) -> bool:
    """Whether the loss on the rows held out belongs to the curve after this step, which is not the last."""
    return bool(step and run.settings.eval_every) and step % run.settings.eval_every == 0


def _measure(run: _Run, held_out: Examples) -> float:
    """The loss on the rows held out, nats per target token. Raises Cancelled where a stop comes in between."""

    def after_pass(fed: int) -> None:
        run.hooks.on_work(0, fed * MEASURED_COST)

    return mean_loss(run.split, held_out, run.settings.pass_tokens, run.device, after_pass)


def _work_left(run: _Run, start: int) -> float:
    """Tokens to train on after step `start`, and `MEASURED_COST` of those to be measured."""
    trained = sum(int(run.data.lengths[members].sum()) for _, members in run.plan[start:])
    if run.held_out is None:
        return trained
    times = 1 + sum(_is_measured(run, step) for step in range(start, len(run.plan)))
    return trained + times * MEASURED_COST * run.held_out.counts.tokens


def _random(device: torch.device) -> dict[str, Tensor]:
    """The state of the generators of random numbers."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _write(run: _Run, step: int, running: Mapping[str, float], random: Mapping[str, Tensor]) -> None:
    if not all(bool(torch.isfinite(weights).all()) for weights in run.optimizer.masters.values()):
        raise _not_finite(run, step, math.nan)
    groups = {"weights": run.optimizer.masters, "optimizer": run.optimizer.state(), "random": random}
    write_checkpoint(run.checkpoints, Checkpoint(step, run.fingerprint, groups, running), run.settings.keep)
    run.hooks.on_checkpoints(paths(run.checkpoints))


def _resume(run: _Run, notice: Callable[[str], None]) -> tuple[int, dict[str, float]]:
    """Return the step to continue after and the running loss; weights, moments and generators are set."""
    checkpoint = read_newest(run.checkpoints, notice)
    run.hooks.on_checkpoints(paths(run.checkpoints))
    if checkpoint is None:
        return 0, {"epoch": 0, "loss": 0.0, "targets": 0}
    if checkpoint.fingerprint != run.fingerprint:
        raise ConfigError(
            f"{run.checkpoints} belongs to a run with other rows, settings or another student",
            "train into another folder, or remove this one",
        )
    run.optimizer.load(checkpoint.groups["weights"], checkpoint.groups["optimizer"])
    random = checkpoint.groups["random"]
    torch.set_rng_state(random["cpu"])
    if run.device.type == "cuda" and "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"], run.device)
    return checkpoint.step, dict(checkpoint.state)


def _tell_counts(data: Examples, settings: Settings, notice: Callable[[str], None]) -> None:
    counts = data.counts
    if counts.dropped:
        notice(f"{counts.dropped} of {counts.rows} rows left out: over {settings.max_length} tokens")
    if counts.truncated:
        notice(f"{counts.truncated} of {counts.rows} rows were cut to {settings.max_length} tokens")
    if counts.empty:
        notice(f"{counts.empty} of {counts.rows} rows have an empty response: left out")
    if data.eos_appended:
        notice("the chat template ends no assistant turn: EOS was put after each response")


def fingerprint(
    data: Examples, settings: Settings, parameters: Mapping[str, Tensor], quantised: str = ""
) -> str:
    """Everything that shapes the weights; what only shapes speed or memory may change between resumes.

    Names and places are those of the first version: a run goes on from a checkpoint that an older one wrote.

    Args:
        data: the rows.
        settings: see `Settings`.
        parameters: those that are trained.
        quantised: how the others are stored and computed, where that is not as the trained ones are.
    """
    kept = {
        "tuning": {**asdict(settings.tuning), "targets": ALL_LINEAR},
        "batching": {"rows": settings.batch_rows, "tokens": None, "pool": 1},
        "descent": {
            **asdict(settings.optimizer),
            "beta1": BETAS[0],
            "beta2": BETAS[1],
            "epsilon": EPSILON,
        },
        "epochs": settings.epochs,
        "max_length": settings.max_length,
        "overlong": settings.overlong,
        "seed": settings.seed,
    }
    shapes = {name: [str(value.dtype), *value.shape] for name, value in parameters.items()}
    text = json.dumps([data.sha256, kept, shapes, *([quantised] if quantised else [])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _running_mean(running: Mapping[str, float], epoch: int, loss: float, targets: int) -> dict[str, float]:
    """Return the mean loss per target token of the epoch so far."""
    if running["epoch"] != epoch:
        running = {"loss": 0.0, "targets": 0}
    seen = running["targets"] + targets
    mean = running["loss"] + (loss - running["loss"]) * targets / seen
    return {"epoch": epoch, "loss": mean, "targets": seen}


def _not_finite(run: _Run, step: int, loss: float) -> TrainingError:
    found = paths(run.checkpoints)
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
