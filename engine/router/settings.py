"""How a router is trained, as plain values."""

from dataclasses import dataclass
from typing import Literal

from engine.base.errors import ConfigError

Ties = Literal["drop", "half"]
Tune = Literal["frozen", "lora", "full"]

CPU_TOKENS, GPU_TOKENS = 2048, 16384
"""Padded tokens per batch when none are given. On a CPU small batches stay in cache and pad less: 2048 tokens
ran 1.3 times as fast as 8192 on a Llama of width 192. A GPU wants more work at a time."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a router is trained. Settings named `head_*` concern the head alone, on a frozen backbone."""

    tune: Tune = "frozen"
    temperature: float | None = None
    """Of soft targets, in reward units; None for hard labels."""
    ties: Ties = "drop"
    folds: int = 5
    """With a frozen backbone as many heads are trained, each stopped early on the part it did not see, and
    averaged; with a tuned one the first part is held out."""
    head_epochs: int = 100
    head_learning_rate: float | None = None
    """None: 0.02/√H, so that a step changes strengths by about as much for any width H."""
    head_batch_prompts: int = 32
    epochs: int = 3
    """Of a tuned backbone."""
    learning_rate: float = 2e-4
    """Of a tuned backbone's weights; its head has the same."""
    batch_prompts: int = 16
    """Prompts per optimizer step of a tuned backbone."""
    evaluations_per_epoch: int = 2
    weight_decay: float = 0.01
    patience: int = 20
    """Evaluations without a better one before training stops."""
    lora_rank: int = 16
    lora_alpha: float = 32.0
    max_tokens: int = 0
    """Longer prompts are cut in the middle; 0: the backbone's context."""
    token_budget: int = 0
    """Padded tokens per batch without gradients; 0: `CPU_TOKENS` or `GPU_TOKENS`."""
    dtype: str = "float32"
    device: str = "auto"
    seed: int = 0

    def check(self) -> None:
        """Return when every setting is usable.

        Raises:
            ConfigError: naming the setting.
        """
        counts = ("head_epochs", "head_batch_prompts", "epochs", "batch_prompts", "evaluations_per_epoch")
        for name in (*counts, "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"router.{name} is {getattr(self, name)}", "choose at least 1")
        if self.temperature is not None and not self.temperature > 0:
            raise ConfigError(f"router.temperature is {self.temperature}", "choose a temperature above 0")
        if self.folds < 2:
            raise ConfigError(
                f"router.folds is {self.folds}", "choose at least 2: early stop needs a held-out part"
            )
