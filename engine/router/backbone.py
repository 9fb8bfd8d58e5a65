"""The router's encoder: a language model without its head, read at the last token of the prompt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from engine.base.errors import ModelError
from engine.models import loading

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
    """`engine.models.loading.fingerprint`."""
    dtype: str
    max_tokens: int
    """Its context, or `DEFAULT_MAX_TOKENS`."""
    hidden: int
    """H, the width of its hidden states."""


def load_backbone(
    ref: str,
    *,
    revision: str = "",
    dtype: str = "float32",
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Backbone:
    """Return the encoder in eval mode on its device.

    Args:
        ref: `zoo:NAME`, a folder, or a hub id; a causal LM's head is left on disk.
        revision: branch, tag or commit of a hub id.
        dtype: one of `engine.models.loading.DTYPES`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        trust_remote_code: run Python that the model's repository brings along.

    Raises:
        ModelError: naming what is missing and the remedy.
    """
    loading.check_dtype(dtype)
    found = loading.check(ref, revision=revision)
    tokenizer = loading.load_tokenizer(ref, revision, trust_remote_code)
    target = loading.pick_device(device)
    source = {"local_files_only": True} if found.folder else {"revision": revision or "main"}
    try:
        with _unreported():
            loaded: Any = AutoModel.from_pretrained(
                found.folder or ref,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                **source,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"model {ref!r} cannot be loaded as the router's backbone: {error}",
            "the folder must come from save_pretrained of transformers",
        ) from error
    model, info = loaded
    if info["missing_keys"]:
        first = sorted(info["missing_keys"])[0]
        raise ModelError(
            f"model {ref!r}: weights are not in its files and would be random, e.g. {first}", "save it whole"
        )
    return Backbone(
        model=model.to(target).eval(),
        tokenizer=tokenizer,
        ref=ref,
        revision=revision,
        sha=loading.fingerprint(ref, revision),
        dtype=dtype,
        max_tokens=loading.context_length(model) or DEFAULT_MAX_TOKENS,
        hidden=int(model.config.get_text_config().hidden_size),
    )


@contextmanager
def _unreported() -> Iterator[None]:
    """Keep transformers from reporting the LM head that is left on disk on purpose."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def pool(model: PreTrainedModel, batch: Sequence[Sequence[int]]) -> Tensor:
    """Return the hidden states (B, H) of each prompt's last token, in float32.

    The last token is found by length, never by comparing ids with the pad token: where pad = EOS, a prompt
    may well end in that id. A new, untrained pooling token would say nothing on a frozen backbone.

    Args:
        model: the encoder.
        batch: B lists of token ids, none of them empty.
    """
    device = model.device
    lengths = torch.tensor([len(ids) for ids in batch], device=device)
    longest = int(lengths.max())
    padded = torch.tensor([[*ids, *([0] * (longest - len(ids)))] for ids in batch], device=device)
    mask = None
    if int(lengths.min()) < longest:
        mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
    states = model(input_ids=padded, attention_mask=mask, use_cache=False).last_hidden_state
    pooled: Tensor = states[torch.arange(len(batch), device=device), lengths - 1].float()
    return pooled


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Yield indices in batches of like length, longest first, each of at most `token_budget` padded tokens.

    Longest first: if memory does not suffice, that shows at once. A prompt above the budget goes alone. A batch
    that fills a quarter of the budget also ends where prompts become a fifth shorter: few prompts of mixed
    length would else be mostly padding.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[batch[0]] if batch else 0
        full = (len(batch) + 1) * longest > token_budget
        shorter = 4 * len(batch) * longest >= token_budget and 5 * lengths[index] < 4 * longest
        if batch and (full or shorter):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def cut_middle(ids: Sequence[int], limit: int) -> list[int]:
    """Return at most `limit` ids: the head and the tail, in halves, without the middle.

    A prompt's instruction stands at its start or at its end; the router reads its last token.
    """
    if len(ids) <= limit:
        return list(ids)
    tail = limit - limit // 2
    return [*ids[: limit // 2], *ids[len(ids) - tail :]]
