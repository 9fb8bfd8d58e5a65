"""Forward passes of a sequence classifier with one output, in batches of similar length."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from engine.models.batching import cut, pad
from engine.models.memory import halving

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def rewards(model: "PreTrainedModel", rows: list[list[int]], batch_tokens: int) -> Iterator[float]:
    """The model's one output for each row of token ids, in the rows' order.

    Args:
        model: in eval mode; one with a `score` head on its hidden states, or one that pools by itself.
        rows: the longest first, so that batches have little padding and too large a batch shows at once.
        batch_tokens: token positions in one forward pass, padding included.
    """
    for batch in cut(rows, len, batch_tokens):
        yield from halving(batch, lambda part: iter(_pass(model, part)))


@torch.inference_mode()
def _pass(model: "PreTrainedModel", rows: Sequence[Sequence[int]]) -> list[float]:
    config = model.config.get_text_config()
    ids, mask = pad(rows, model.device, value=config.pad_token_id or 0)
    head: Any = getattr(model, "score", None)
    if head is None:
        return _numbers(model(input_ids=ids, attention_mask=mask).logits)
    body: Any = getattr(model, model.base_model_prefix)
    hidden = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    places = [_pooled(row, config.pad_token_id) for row in rows]
    pooled = hidden[torch.arange(len(rows), device=hidden.device), places]
    return _numbers(head(pooled))


def _numbers(logits: torch.Tensor) -> list[float]:
    """(B, 1) as B numbers."""
    values: list[float] = logits[:, 0].float().tolist()
    return values


def _pooled(row: Sequence[int], pad: int | None) -> int:
    """Where transformers pools this row alone: a model whose pad is its EOS was trained before its last token."""
    return next((place for place in range(len(row) - 1, -1, -1) if row[place] != pad), len(row) - 1)
