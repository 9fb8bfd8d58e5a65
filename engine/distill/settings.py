"""What a training run is told, and what it gives back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.base.errors import ConfigError
from engine.distill.batches import Batching
from engine.distill.data import Counts, Overlong
from engine.distill.lora import Tuning
from engine.distill.optimizer import OptimizerConfig


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole training run, apart from student and data."""

    tuning: Tuning = field(default_factory=Tuning)
    batching: Batching = field(default_factory=Batching)
    descent: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: int = 2
    max_length: int = 2048
    """Most tokens of a row, prompt and end-of-turn included."""
    overlong: Overlong = "drop"
    seed: int = 0
    """Of adapters, row order and dropout."""
    checkpoint_every: int = 100
    """Optimizer steps between checkpoints; 0 for none but the one that a stop writes."""
    keep: int = 2
    """Checkpoints that are kept."""
    pass_tokens: int = 8192
    """Padded tokens of one forward pass; bounds memory, changes no gradient."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    threads: int = 0
    """Torch threads while training on a CPU; 0: one for small students, else what the process has. A resume is
    bit-exact with the same number of threads."""
    eval_every: int = 0
    """Optimizer steps between held-out losses; 0: at the end only."""

    def check(self) -> None:
        """Raise ConfigError for a number that makes no sense."""
        least_one = {
            "distill.epochs": self.epochs,
            "distill.rank": self.tuning.rank,
            "distill.batch_size": self.batching.rows,
            "distill.keep_checkpoints": self.keep,
            "distill.max_length": self.max_length - 1,
            "distill.pass_tokens": self.pass_tokens,
        }
        for key, value in least_one.items():
            if value < 1:
                raise ConfigError(f"{key} is too small", f"give {key} a larger value")
        if not self.descent.learning_rate > 0:
            raise ConfigError("distill.learning_rate must be above 0", "2e-4 is usual for LoRA")


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What training gave."""

    model: Any
    """The live student: a `PeftModel` for LoRA, the model itself for `full`; in eval mode."""
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
    """Wall time of the optimizer steps done in this process."""
    tokens_per_second: float
    """Unpadded tokens, prompt included, in this process; 0 when no step was left to do."""
    stopped: bool
    """`should_stop` ended it: a checkpoint holds the state, and `path` was not written."""
    resumed_from: int
    """Step of the checkpoint that was continued; 0 for a fresh run."""
    notices: tuple[str, ...]
    """Things a person should read: checkpoints passed over, rows dropped."""
