"""The router's encoder: a language model without its head, read at the last token of the prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.models.batching import pad
from engine.models.loading import load_tokenizer, load_weights
from engine.models.model_info import check, context_length, fingerprint

DEFAULT_MAX_TOKENS = 8192
"""Limit for a backbone whose config names no context."""


@dataclass(slots=True)
class Backbone:
    """A loaded encoder and what identifies it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ref: str
    revision: str
    sha: str
    """`engine.models.model_info.fingerprint`."""
    dtype: str
    max_tokens: int
    """Its context, or `DEFAULT_MAX_TOKENS`."""
    hidden: int
    """H, the width of its hidden states."""


def load_backbone(
    ref: str,
    *,
    revision: str = "",
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Backbone:
    """Return the encoder in eval mode on its device.

    Arguments and errors are those of `engine.models.loading.load_causal_lm`.
    """
    tokenizer = load_tokenizer(ref, revision, trust_remote_code)
    found = check(ref, revision=revision)
    model = load_weights(found, "AutoModel", dtype, device, trust_remote_code)
    return Backbone(
        model=model,
        tokenizer=tokenizer,
        ref=ref,
        revision=revision,
        sha=fingerprint(ref, revision),
        dtype=str(model.dtype).removeprefix("torch."),
        max_tokens=context_length(model) or DEFAULT_MAX_TOKENS,
        hidden=int(model.config.get_text_config().hidden_size),
    )


def pool(model: PreTrainedModel, batch: Sequence[Sequence[int]]) -> Tensor:
    """Return the hidden states (B, H) of each prompt's last token, in float32.

    The last token is found by length, never by comparing ids with the pad token: where pad = EOS, a prompt
    may well end in that id. A new, untrained pooling token would say nothing on a frozen backbone.

    Args:
        model: the encoder.
        batch: B lists of token ids, none of them empty.
    """
    ids, mask = pad(batch, model.device)
    lengths = mask.sum(1)
    padded = bool((lengths < ids.shape[1]).any())
    states = model(input_ids=ids, attention_mask=mask if padded else None, use_cache=False).last_hidden_state
    pooled: Tensor = states[torch.arange(len(batch), device=model.device), lengths - 1].float()
    return pooled


def cut_middle(ids: Sequence[int], limit: int) -> list[int]:
    """Return at most `limit` ids: the head and the tail, in halves, without the middle.

    A prompt's instruction stands at its start or at its end; the router reads its last token.
    """
    if len(ids) <= limit:
        return list(ids)
    tail = limit - limit // 2
    return [*ids[: limit // 2], *ids[len(ids) - tail :]]
