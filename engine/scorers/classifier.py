"""Forward passes of a sequence classifier with one output, in batches of similar length."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from engine.models.batching import cut, pad, shuffled
from engine.models.memory import halving
from engine.models.stoppable import stoppable

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def rewards(
    model: "PreTrainedModel",
    rows: Sequence[list[int]],
    batch_tokens: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, float]]:
    """(place in `rows`, the model's one output) of each row of token ids, a forward pass at a time.

    Args:
        model: in eval mode; one with a `score` head on its hidden states, or one that pools by itself.
        rows: token ids.
        batch_tokens: token positions in one forward pass, padding included.
        should_stop: asked before every layer.

    Raises:
        Cancelled: `should_stop` said so.
    """

    def run(part: list[int]) -> Iterator[tuple[int, float]]:
        yield from zip(part, _pass(model, [rows[place] for place in part]), strict=True)

    longest_first = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    with stoppable(model, should_stop):
        for batch in shuffled(cut(longest_first, lambda place: len(rows[place]), batch_tokens)):
            yield from halving(batch, run)


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
    return _numbers(_in_float32(head, pooled))


def _in_float32(head: torch.nn.Module, pooled: torch.Tensor) -> torch.Tensor:
    """What `head` makes of hidden states (B, H): in 16 bits its one output would be coarser than two answers differ."""
    weights = {name: weight.float() for name, weight in head.state_dict().items()}
    found: torch.Tensor = torch.func.functional_call(head, weights, (pooled.float(),))
    return found


def _numbers(logits: torch.Tensor) -> list[float]:
    """(B, 1) as B numbers."""
    values: list[float] = logits[:, 0].float().tolist()
    return values


def _pooled(row: Sequence[int], pad: int | None) -> int:
    """Where transformers pools this row alone: a model whose pad is its EOS was trained before its last token."""
    return next((place for place in range(len(row) - 1, -1, -1) if row[place] != pad), len(row) - 1)
