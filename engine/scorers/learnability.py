"""Learnability: how likely each response is under the untrained student, in nats per token.

    l(y | x) = (1/|y|) Σ_t log p_θ(y_t | y_<t, x)          (Zhang et al., ACL 2026, arXiv 2510.10925, §3)

Sum and token count are kept apart, so that any other weighting stays possible.

Three things make it fast, and none changes a number beyond float rounding: only hidden states at response
positions meet the vocabulary matrix, in chunks of bounded size; rows of similar length share a batch; and a
prompt with several responses is encoded once, its keys and values serving all of them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from engine.errors import ScoreError
from engine.models import check_dtype, context_length, fingerprint, load_causal_lm
from engine.scorers import Progress, check_settings
from engine.scorers._forward import StudentForward
from engine.templates import BOUNDARY_VERSION, encode
from storage.records import Messages, Prompt, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERSION = 1
"""Raised when the same settings would give other numbers."""

BATCH_TOKENS = 8192
"""Default number of token positions in one forward pass, padding included."""

_DEFAULTS: Mapping[str, Any] = {
    "model": "",
    "revision": "",
    "dtype": "float32",
    "device": "auto",
    "trust_remote_code": False,
    "count_end_of_turn": True,
    "thinking": None,
    "max_length": None,
    "batch_tokens": BATCH_TOKENS,
}


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """Log-likelihood of one response."""

    sum: float
    """Σ log p in nats; 0.0 unless `status` is `ok`."""
    tokens: int
    """Response tokens the sum runs over; for `too_long`, how many there would have been."""
    status: Literal["ok", "too_long", "empty"] = "ok"
    """`too_long`: prompt and response do not fit the model. `empty`: no token to score."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One response to score: where its result goes, and its ids."""

    item: int
    ids: list[int]
    boundary: int

    @property
    def prompt(self) -> list[int]:
        return self.ids[: self.boundary]

    @property
    def response(self) -> list[int]:
        return self.ids[self.boundary :]


def score(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    items: Sequence[tuple[Messages, str]],
    *,
    count_end_of_turn: bool = True,
    batch_tokens: int = BATCH_TOKENS,
    max_length: int | None = None,
    thinking: bool | None = None,
    share_prompts: bool = True,
    progress: Progress | None = None,
) -> list[LogLikelihood]:
    """Log-likelihoods of responses under a causal language model, in the items' order.

    Args:
        model: the student, in eval mode, on its device.
        tokenizer: the student's, with its chat template.
        items: (messages of the prompt, text of the response).
        count_end_of_turn: whether the end-of-turn token is a term of the sum.
        batch_tokens: token positions in one forward pass, padding included; results do not depend on it.
        max_length: tokens that prompt and response may take; None: what the model's config allows.
        thinking: passed to the template as `enable_thinking`.
        share_prompts: encode a prompt that several items share only once; results do not depend on it.
        progress: called with (items finished, items in all).

    Raises:
        TemplateError: the template breaks the boundary between prompt and response.
        ScoreError: NaN or infinity, naming the item.
    """
    limit = max_length if max_length is not None else context_length(model)
    results: list[LogLikelihood | None] = [None] * len(items)
    groups: dict[tuple[int, ...], list[_Row]] = defaultdict(list)
    for index, (messages, text) in enumerate(items):
        encoded = encode(tokenizer, messages, text, count_end_of_turn, thinking=thinking)
        tokens = len(encoded.ids) - encoded.boundary
        if tokens == 0:
            results[index] = LogLikelihood(0.0, 0, "empty")
        elif limit is not None and len(encoded.ids) > limit:
            results[index] = LogLikelihood(0.0, tokens, "too_long")
        else:
            row = _Row(index, encoded.ids, encoded.boundary)
            groups[tuple(row.prompt)].append(row)

    if groups:
        forward = StudentForward(model, next(iter(groups.values()))[0].ids)
        for row, total in _sums(forward, list(groups.values()), batch_tokens, share_prompts):
            tokens = len(row.ids) - row.boundary
            if not math.isfinite(total):
                raise ScoreError(
                    f"the log-likelihood of item {row.item} is {total} ({tokens} tokens)",
                    "load the student in float32; if it stays, its weights are broken",
                )
            results[row.item] = LogLikelihood(total, tokens)
            if progress is not None:
                progress(sum(result is not None for result in results), len(items))
    return [result for result in results if result is not None]
