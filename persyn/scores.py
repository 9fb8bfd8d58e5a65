"""Learnability: how likely responses are under a student."""

from collections.abc import Callable, Sequence

from engine.models.loading import load_causal_lm
from engine.scorers.kinds import learnability
from engine.scorers.kinds.learnability import LogLikelihood
from storage.records import Messages


def score(
    student: str,
    items: Sequence[tuple[Messages, str]],
    *,
    revision: str = "",
    dtype: str = "auto",
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[LogLikelihood]:
    """Per item, Σ log p of the response's tokens under the student given the prompt, in nats, and their number.

    The mean, `sum / tokens`, is the learnability of the paper (arXiv 2510.10925). Items that share a prompt share its
    forward pass when they stand beside each other.

    Args:
        student: a folder, a hub id, a .gguf file or `zoo:NAME`; it needs a chat template.
        items: (messages that end with a user turn, response) per item.
        revision: of a hub id.
        dtype: of the weights: "float32", "bfloat16", "float16", or "auto": the student's own 16 bits on a GPU, float32
            on the CPU. Sums are float32 whatever it is.
        device: "auto", "cpu", "cuda", "mps" …
        on_progress: called with (items done, items in all).

    Raises:
        ModelError: the student cannot be loaded, or its chat template leaves open where a response begins.
        ScoreError: a sum is not finite.
    """
    model, tokenizer = load_causal_lm(student, revision=revision, dtype=dtype, device=device)
    return learnability.score(model, tokenizer, items, progress=on_progress or (lambda done, total: None))
