"""The run file's sections that say how each stage works."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config.section import Dtype, Section, Seed, Texts
from engine.config.vllm import ServerConfig


class SplitConfig(Section):
    """How many prompts go where; the choice depends on each prompt's hash, not on its place in a file."""

    calibration: int = Field(100, ge=0)
    """All teachers respond to them; the router learns from them."""
    validation: int = Field(50, ge=0)
    """The router is measured on them; all teachers respond to them, and it never learns from them."""
    evaluation: int = Field(0, ge=0)
    """The student is measured on them; never trained on."""
    synthesis: int | None = Field(None, ge=0)
    """One teacher responds to each; None: all others."""
    seed: Seed = 0
    """Of the shuffle."""


class CalibrationConfig(Section):
    """How many responses the router learns from."""

    prompts: int | None = Field(None, ge=0)
    """Another place for `split.calibration`."""
    teachers_per_prompt: int | None = Field(None, ge=2)
    """k: each calibration prompt is given to k teachers, balanced over teachers and pairs; None: to all.
    Validation prompts are always given to all."""


class LearnabilityConfig(Section):
    """Mean log-likelihood of a response under the untrained student."""

    count_end_of_turn: bool = True


class ReasoningConfig(Section):
    """Who sees what a teacher thought before its response, put before it as `<think>…</think>`; none do by default.

    `exact_answer` never does: a right answer is one that stands in the answer.
    """

    quality: bool = False
    """The reward model and the judge."""
    learnability: bool = False
    """The student's likelihood."""
    dataset: bool = False
    """The training rows, and with them the student and every export: it learns to think aloud."""


class RewardConfig(Section):
    """r = (1 − α)·quality + α·learnability, each normalized within the prompt."""

    alpha: float = Field(0.4, ge=0, le=1, title="α")
    """0: quality alone … 1: learnability alone."""
    normalization: Literal["zscore", "minmax", "rank"] = "zscore"
    """Puts quality and learnability on one scale within each prompt."""
    unusable: Literal["worst", "missing"] = "worst"
    """A truncated, empty or refused response: ranks below every usable one, or drops out of the pairs."""
    exclude_all_wrong: bool = True
    """Leaves out of the router's pairs what no teacher solved."""


class RouterConfig(Section):
    """The Bradley–Terry router."""

    backbone: str = "zoo:router"
    """zoo:NAME, a folder or a hub id."""
    revision: str = ""
    trust_remote_code: bool = False
    tune: Literal["frozen", "lora", "full"] = "lora"
    """What of the backbone is trained."""
    targets: Literal["hard", "soft"] = "hard"
    """`hard`: the better response of a pair wins; `soft`: it wins with probability σ((r_i − r_j)/τ)."""
    temperature: float = Field(0.5, gt=0)
    """τ of soft targets, in reward units."""
    ties: Literal["drop", "half"] = "drop"
    """Equal rewards with hard targets: no pair, or a pair that each side wins half of."""
    folds: int = Field(5, ge=2)
    """Parts of the calibration prompts; training stops early on a part it does not see."""
    epochs: int = Field(3, ge=1)
    """Of a tuned backbone."""
    learning_rate: float = Field(2e-4, gt=0, le=1)
    """Of a tuned backbone."""
    batch_size: int = Field(16, ge=1)
    """Prompts per step of a tuned backbone; each is encoded once, whatever the number of teachers."""
    head_epochs: int = Field(100, ge=1)
    head_learning_rate: float | None = Field(None, gt=0, le=1)
    """None: chosen by the backbone's width."""
    weight_decay: float = Field(0.01, ge=0)
    patience: int = Field(20, ge=1)
    """Evaluations without a better one before training stops."""
    rank: int = Field(16, ge=1, le=8192)
    max_tokens: int = Field(0, ge=0)
    """Longer prompts are cut in the middle, for routing only; 0: the backbone's context."""
    seed: Seed = 0
    dtype: Dtype | None = None
    """Number format of the weights; None: auto, 16 bits on a GPU where its files have them, else float32."""
    device: str = "auto"


class GenerationConfig(Section):
    """How teachers generate unless a teacher says otherwise."""

    temperature: float = Field(0.7, ge=0, le=10)
    """0: the likeliest token each time."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Only the likeliest tokens, of this probability together."""
    top_k: int = Field(0, ge=0)
    """Only so many of the likeliest tokens; 0: all."""
    max_tokens: int = Field(1024, ge=1)
    """Of a response."""
    seed: Seed = 0
    """Of the draws."""
    stop: Texts = ()
    """Texts that end a response."""
    fallbacks: int = Field(1, ge=0)
    """How many next-best teachers may be asked when the chosen one gave no usable response."""
    max_attempts: int = Field(3, ge=1)
    """How often one response that ended in an error is asked for again."""
    budget_usd: float | None = Field(None, gt=0)
    """Dollars that this run's teachers may cost on its prompts in all; None: no limit."""


class DatasetConfig(Section):
    """Which responses become training rows."""

    keep: Literal["usable", "correct"] = "usable"


class DistillConfig(Section):
    """How the student is trained."""

    method: Literal["lora", "qlora", "full"] = "lora"
    """`lora`: adapters beside the weights; `qlora`: beside weights in 4 bits, by bitsandbytes; `full`: all weights."""
    rank: int = Field(16, ge=1, le=8192)
    alpha: float | None = Field(None, gt=0)
    """LoRA scale; None: twice the rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    epochs: int = Field(2, ge=1)
    """Passes over the training rows."""
    learning_rate: float = Field(2e-4, gt=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    batch_size: int = Field(16, ge=1)
    """Rows of an optimizer step."""
    held_out: float = Field(0.0, ge=0, lt=0.5)
    """Share of the prompts that the loss is measured on (the eval curve) instead of being trained on."""
    pass_tokens: int = Field(8192, ge=1)
    """Padded tokens of one forward pass: bounds memory, changes no gradient."""
    gradient_checkpointing: bool = False
    max_length: int = Field(2048, ge=8)
    overlong: Literal["drop", "truncate", "raise"] = "drop"
    gradient_clip: float = Field(1.0, gt=0)
    checkpoint_steps: int = Field(100, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    merge: bool = True
    seed: Seed = 0
    dtype: Dtype | None = None
    """Number format of the weights or, with `qlora`, of what is computed with them; None: the student's; auto is never
    float16, in which small gradients are zero."""


class EvaluationConfig(Section):
    """How the student is measured, before and after."""

    max_tokens: int | None = Field(None, ge=1)
    """None: as `generation`."""
    bootstrap: int = Field(10_000, ge=100, le=1_000_000)
    """Resamplings behind each paired comparison."""
    seed: Seed = 0
    backend: Literal["auto", "transformers", "vllm"] | None = None
    """What runs the student; None: auto, a vLLM server where a CUDA GPU and vLLM are, else transformers."""
    server: ServerConfig = ServerConfig()
    """Of `vllm`: how it is started."""


class EstimateConfig(Section):
    """Only for the dry run, where nothing has been measured yet."""

    prompt_tokens: int = Field(200, ge=1)
    completion_tokens: int = Field(600, ge=1)
