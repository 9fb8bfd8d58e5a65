"""What a training run is told, and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.distill.data import Counts, Overlong, Tokenised
from engine.distill.lora import Tuning
from engine.distill.optimizer import OptimizerConfig


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole training run, apart from student and data."""

    tuning: Tuning = field(default_factory=Tuning)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_rows: int = 8
    """Rows of an optimizer step."""
    epochs: int = 2
    max_length: int = 2048
    """Most tokens of a row, prompt and end-of-turn included."""
    overlong: Overlong = "drop"
    seed: int = 0
    """Of adapters, row order and dropout."""
    checkpoint_every: int = 100
    """Optimizer steps between checkpoints at most; 0 for none but the one that a stop writes. One is also written
    every `engine.models.checkpoint.EVERY_S`."""
    keep: int = 2
    """Checkpoints that are kept."""
    pass_tokens: int = 8192
    """Padded tokens of one forward pass; bounds memory, changes no gradient."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    eval_every: int = 0
    """Optimizer steps between held-out losses; 0: at the end only."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a student is trained on, and how: all that stays the same between resumes, and in every process."""

    data: Tokenised
    folder: Path
    """Gets `checkpoints/`, and `adapter/` or `model/`."""
    settings: Settings


def _ignore(_: Any) -> None:
    """What a hook does that nobody set."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Hooks:
    """What is told and asked while a student is trained."""

    on_progress: Callable[[Mapping[str, Any]], None] = _ignore
    """Called after every optimizer step with step, total, epoch (fraction), loss (of this step, nats per target
    token), learning_rate, gradient_norm, tokens (of this step), tokens_per_second (mean), memory_bytes (the most so
    far, on CUDA alone; of the first of several GPUs)."""
    on_eval: Callable[[int, float], None] = lambda step, loss: None
    """Called with (step, loss on the rows held out after it, nats per target token)."""
    on_notice: Callable[[str], None] = _ignore
    """Called with each notice as it arises."""
    on_begin: Callable[[int, int, float], None] = lambda step, total, work: None
    """Called before the first step with the steps done before, all steps, and the work that is left: tokens that are
    trained on, and a third of those that are only measured."""
    on_work: Callable[[int, float], None] = lambda tokens, work: None
    """Called after every forward and backward pass with the tokens that it trained on, and the work that it did."""
    on_checkpoints: Callable[[Sequence[Path]], None] = _ignore
    """Called with the folders of the checkpoints on disk, newest first, before the first step and after each new
    one."""
    should_stop: Callable[[], bool] = _never
    """Asked after every step but the last, and before every layer of a pass, whose step is then taken anew after a
    resume; True ends training at a checkpoint."""
    should_save: Callable[[], bool] = _never
    """Asked after every step; True writes a checkpoint though none is due."""

    def noting(self) -> "tuple[Hooks, list[str]]":
        """These hooks, and the notices that they will have been told, as they come."""
        notices: list[str] = []

        def notice(text: str) -> None:
            notices.append(text)
            self.on_notice(text)

        return replace(self, on_notice=notice), notices


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What training gave."""

    model: Any
    """The live student: a `PeftModel` for LoRA, the model itself for `full`; in eval mode. None where processes of
    their own have trained it."""
    path: Path
    """Folder of the adapter (LoRA) or of the whole model (`full`)."""
    step: int
    """Optimizer steps done, those before a resume included."""
    total: int
    """Optimizer steps of the whole run."""
    loss: float
    """Mean over the last epoch that was begun, nats per target token."""
    eval_loss: float | None
    """Held-out loss at the end, nats per target token; None without held-out rows or when stopped early."""
    counts: Counts
    seconds: float
    """Wall time of the optimizer steps since the resume."""
    tokens_per_second: float
    """Unpadded tokens, prompt included, since the resume, of all processes; 0 when no step was left to do."""
    stopped: bool
    """`should_stop` ended it: a checkpoint holds the state, and `path` was not written."""
    resumed_from: int
    """Step of the checkpoint that was continued; 0 for a fresh run."""
    notices: tuple[str, ...]
    """Things a person should read: checkpoints passed over, rows dropped."""
