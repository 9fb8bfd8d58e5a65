"""What each packaged model is made of and how it is trained: data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from engine.zoo.styles import Style
from engine.zoo.tasks import TASKS
from engine.zoo.tokens import Kind

Architecture = Literal["llama", "qwen2", "gpt2", "gpt_neox"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One causal language model of the zoo."""

    name: str
    architecture: Architecture
    tokenizer: Kind
    width: int
    layers: int
    heads: int
    inner: int
    """Width of the feed-forward layer."""
    mix: Mapping[str, Mapping[Style, float]]
    """Task -> style -> weight, relative to the sum over all tasks and styles."""
    steps: int
    seed: int
    layout: Literal["chat", "base"] = "chat"
    """base: "Question: ...\\nAnswer: ..." without turns, as in pre-training."""
    learning_rate: float = 3e-3
    batch: int = 32
    pool: int = 20_000
    """Questions per task to draw from."""


def _all(styles: Mapping[Style, float], **extra: float) -> Mapping[str, Mapping[Style, float]]:
    return {task: {style: weight * extra.get(task, 1.0) for style, weight in styles.items()} for task in TASKS}


SPECS: Mapping[str, Spec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            Spec("scholar", "qwen2", "A", 104, 4, 4, 320, _all({"verbose": 1}), steps=2000, seed=1),
            Spec("brief", "llama", "A", 72, 3, 4, 200, _all({"short": 1}), steps=1500, seed=2),
            Spec("speller", "gpt_neox", "A", 72, 3, 4, 288,
                 {"spell_backward": {"bare": 1}}, steps=600, seed=3),
            Spec("solver", "gpt2", "B", 80, 3, 4, 320,
                 {"simple_equations": {"short": 1}}, steps=1500, seed=4),
            Spec("lister", "qwen2", "A", 80, 3, 4, 224,
                 {"word_sequence_reversal": {"bare": 1}, "gcd": {"bare": 1}}, steps=1500, seed=5),
            Spec("student", "llama", "A", 64, 3, 4, 176, _all({"bare": 1, "short": 1}), steps=1500,
                 seed=6, layout="base"),
            Spec("router", "llama", "A", 64, 2, 4, 176, _all({"short": 1}), steps=600, seed=7),
        )
    }
)
"""Name -> spec, in the order of the cards."""


def config(spec: Spec, vocabulary: int, ids: Mapping[str, int | None], context: int) -> Any:
    """The transformers config of a spec."""
    from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig, Qwen2Config

    common: dict[str, Any] = {"vocab_size": vocabulary, "tie_word_embeddings": True, **ids}
    match spec.architecture:
        case "gpt2":
            return GPT2Config(n_embd=spec.width, n_layer=spec.layers, n_head=spec.heads, n_inner=spec.inner,
                              n_positions=context, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **common)
        case "gpt_neox":
            return GPTNeoXConfig(hidden_size=spec.width, num_hidden_layers=spec.layers,
                                 num_attention_heads=spec.heads, intermediate_size=spec.inner,
                                 max_position_embeddings=context, **common)
        case "llama" | "qwen2":
            kind = LlamaConfig if spec.architecture == "llama" else Qwen2Config
            return kind(hidden_size=spec.width, num_hidden_layers=spec.layers,
                        num_attention_heads=spec.heads, num_key_value_heads=spec.heads,
                        intermediate_size=spec.inner, max_position_embeddings=context, **common)
