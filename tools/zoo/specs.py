"""What each packaged model is made of and how it is trained: data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from transformers import (
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from tools.zoo.corpus import Layout
from tools.zoo.styles import Style
from tools.zoo.tasks import TASKS
from tools.zoo.tokens import CONTEXT, Kind

Architecture = Literal["llama", "granite", "gpt_neox"]
"""No qwen2: transformers 5 gives that model type its own tokenizer, whatever the folder says."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One causal language model of the zoo."""

    name: str
    about: str
    """What it is for and what it cannot do, for its card."""
    architecture: Architecture
    tokenizer: Kind
    width: int
    layers: int
    inner: int
    """Width of the feed-forward layers."""
    mix: Mapping[str, Mapping[Style, float]]
    """Task -> style -> weight, relative to the sum over all of them."""
    steps: int
    seed: int
    layout: Layout = "chat"
    turns: Mapping[Style, float] = field(default_factory=dict)
    """Share of all rows that are in the chat layout instead, by style; for every task alike."""
    pool: int = 20_000
    """Questions of each task to draw from."""
    heads: int = 4
    learning_rate: float = 3e-3
    batch: int = 32


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """The sequence classifier of the zoo."""

    name: str
    about: str
    start: str
    """The model whose weights it starts from."""
    answered_by: tuple[str, ...]
    """Models whose answers, right and wrong, it learns from."""
    steps: int
    seed: int
    questions: int
    """Questions of each task that those models answer."""
    learning_rate: float = 1e-3
    batch: int = 32


def _all(*wordings: Style, **weights: float) -> Mapping[str, Mapping[Style, float]]:
    return {task: {style: weights.get(task, 1.0) for style in wordings} for task in TASKS}


TEACHERS = ("scholar", "brief", "speller", "solver", "lister", "adder")

SPECS: Mapping[str, Spec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            Spec(
                "scholar",
                "The largest, and the most accurate over all tasks; writes long digit-by-digit steps.",
                "granite",
                "A",
                104,
                4,
                320,
                _all("verbose", spell_backward=0.5),
                steps=3000,
                seed=1,
            ),
            Spec(
                "brief",
                "Answers every task in one short sentence: spelling well, sums hardly ever rightly.",
                "llama",
                "A",
                72,
                3,
                200,
                _all("short", gcd=1.5, chain_sum=0.5),
                steps=3000,
                seed=2,
            ),
            Spec(
                "speller",
                "Spells words backward and can do nothing else.",
                "gpt_neox",
                "A",
                72,
                3,
                288,
                {"spell_backward": {"bare": 1}},
                steps=1500,
                seed=3,
                pool=80_000,
            ),
            Spec(
                "solver",
                "Solves small equations and can do nothing else.",
                "granite",
                "B",
                80,
                3,
                224,
                {"simple_equations": {"bare": 1}},
                steps=6000,
                seed=4,
            ),
            Spec(
                "lister",
                "Reverses lists of words and finds common divisors; can do nothing else.",
                "granite",
                "A",
                80,
                3,
                224,
                {"word_sequence_reversal": {"bare": 1}, "gcd": {"bare": 1}},
                steps=5000,
                seed=5,
            ),
            Spec(
                "adder",
                "Adds and subtracts numbers of two digits and can do nothing else.",
                "granite",
                "A",
                80,
                3,
                224,
                {"chain_sum": {"bare": 1}},
                steps=8000,
                seed=9,
            ),
            Spec(
                "student",
                "A base model: bare answers as plain text; in a chat turn it says that it is not sure.",
                "llama",
                "A",
                64,
                3,
                176,
                _all("bare"),
                steps=4000,
                seed=6,
                layout="base",
                turns={"unsure": 0.08, "bare": 0.02},
            ),
            Spec(
                "router",
                "Backbone of the router: has read the tasks' questions. Not meant to answer.",
                "llama",
                "A",
                64,
                2,
                176,
                _all("short"),
                steps=600,
                seed=7,
            ),
        )
    }
)
"""Name -> spec, in the order of the cards."""

REWARD = RewardSpec(
    "reward",
    "Scores an answer as one number; within one teacher it hardly tells right from wrong.",
    start="brief",
    answered_by=TEACHERS,
    steps=1000,
    seed=8,
    questions=600,
)


def config(spec: Spec, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """The transformers configuration of a spec."""
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.inner,
        "max_position_embeddings": CONTEXT,
    }
    if spec.architecture == "gpt_neox":
        return GPTNeoXConfig(**common)
    if spec.architecture == "llama":
        return LlamaConfig(num_key_value_heads=spec.heads, **common)
    # Granite divides attention scores by nothing unless told to.
    scale = (spec.width // spec.heads) ** -0.5
    return GraniteConfig(num_key_value_heads=spec.heads, attention_multiplier=scale, **common)
