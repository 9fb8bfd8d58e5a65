"""How a router is trained, as plain values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Ties = Literal["drop", "half"]
Tune = Literal["frozen", "lora", "full"]

CPU_TOKENS = 2048
"""Padded tokens per batch on a CPU when none are given. Small batches stay in cache and pad less: 2048 tokens ran 1.3
times as fast as 8192 on a Llama of width 192. On a GPU free memory decides (`engine.models.memory.batch_tokens`)."""
TUNE_CPU_TOKENS = 512
"""The same of passes that are trained on, which keep what the backward pass needs: 2 MB a token with SmolLM2-135M
in float32."""


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
    epochs: int = 3
    """Of a tuned backbone."""
    learning_rate: float = 2e-4
    """Of a tuned backbone's weights; its head has the same."""
    batch_prompts: int = 16
    """Prompts per optimizer step of a tuned backbone."""
    weight_decay: float = 0.01
    patience: int = 20
    """Evaluations without a better one before training stops."""
    lora_rank: int = 16
    lora_alpha: float = 32.0
    max_tokens: int = 0
    """Longer prompts are cut in the middle; 0: the backbone's context."""
    dtype: str = "auto"
    device: str = "auto"
    revision: str = ""
    """Of a backbone from the hub."""
    trust_remote_code: bool = False
    seed: int = 0
    keep_in: Path | None = None
    """Folder for what was read and trained so far: a call with the same arguments goes on from there, on a CPU to the
    same bits. Whoever has saved the router removes it. None: nothing is kept."""
