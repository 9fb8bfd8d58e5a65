"""Decoding of a batch of prompts, token by token, for any causal model of transformers with a key/value cache.

Two things make it faster than `generate` on the batches of this project: keys and values are written into
buffers with room to grow instead of being copied with every token, and rows that have finished leave the batch.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from engine.base.errors import Cancelled, ModelError
from engine.models.batching import pad
from engine.models.stoppable import stoppable
from engine.teachers.local.sampling import draw, stream_seed, uniforms
from storage.records import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROOM = 64
"""Positions that a buffer is enlarged by at least."""
_DEAD_SHARE = 0.125
"""Share of finished rows at which the batch is made smaller."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt to be answered."""

    prompt: Sequence[int]
    sampling: Sampling
    """Rows of one batch may differ in `seed` only."""
    limit: int
    """Tokens that may be generated: `max_tokens`, or what the context leaves."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was generated for one row of the batch."""

    row: int
    ids: list[int]
    """Generated ids, the ending token included."""
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class StopTest:
    """How to find a stop string in what has been generated."""

    span: int
    """Number of last ids that can hold it."""
    hit: Callable[[list[int]], bool]
    """Whether these ids hold one."""


class _Room(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer in buffers that are larger than what they hold."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self._used = 0
        self._buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self._used = self._used, self._used + key_states.shape[-2]
        if not self._buffers or self._used > self._buffers[0].shape[-2]:
            self._enlarge(key_states, value_states, start)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start : self._used] = states
        return self._show()

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._buffers = [buffer.index_select(0, indices) for buffer in self._buffers]
        self._show()

    def _enlarge(self, keys: torch.Tensor, values: torch.Tensor, filled: int) -> None:
        size = self._used + max(_ROOM, self._used // 2)
        old = self._buffers
        self._buffers = [
            states.new_empty((*states.shape[:2], size, states.shape[-1])) for states in (keys, values)
        ]
        for buffer, previous in zip(self._buffers, old, strict=False):
            buffer[:, :, :filled] = previous[:, :, :filled]

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (buffer[:, :, : self._used] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


@torch.inference_mode()
def decode(
    model: "PreTrainedModel",
    rows: Sequence[Row],
    ends: Sequence[int],
    stop: StopTest | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    made_tokens: Callable[[int], None] = lambda tokens: None,
) -> Iterator[Answer]:
    """Answers to one batch of prompts, each as soon as it is finished.

    Args:
        model: in eval mode.
        rows: prompts, of similar length and equal sampling but for the seed.
        ends: token ids that end an answer.
        stop: asked after every token of every row.
        interrupted: asked before every layer; True ends the batch without its unfinished answers.
        made_tokens: called after every forward pass with the tokens that came of it, one a row.

    Raises:
        ModelError: the model does not work with keys and values that are kept between tokens, or its logits after
            a prompt are NaN.
    """
    with stoppable(model, interrupted), suppress(Cancelled):
        yield from _decode(model, rows, ends, stop, interrupted, made_tokens)


def _decode(
    model: "PreTrainedModel",
    rows: Sequence[Row],
    ends: Sequence[int],
    stop: StopTest | None,
    interrupted: Callable[[], bool],
    made_tokens: Callable[[int], None],
) -> Iterator[Answer]:
    forward = _Forward(model, [row.prompt for row in rows])
    sampling = rows[0].sampling
    seeds = np.array([stream_seed(row.sampling.seed, row.prompt) for row in rows], dtype=np.uint64)
    limits = torch.tensor([row.limit for row in rows], device=model.device)
    end_ids = torch.tensor(sorted(ends), dtype=torch.long, device=model.device)
    made = torch.empty((len(rows), int(limits.max())), dtype=torch.long, device=model.device)
    places = torch.arange(len(rows), device=model.device)
    alive = torch.ones(len(rows), dtype=torch.bool, device=model.device)

    count = len(rows)

    logits = forward.start()
    if torch.isnan(logits).any():
        # The largest of them is the first id of the vocabulary, over and over: a long answer of nothing.
        raise ModelError(
            f"model {model.name_or_path!r} computes NaN in {str(model.dtype).removeprefix('torch.')}",
            "set its `dtype` to float32 or bfloat16; if it stays, its weights are broken: copy them again",
        )
    for step in range(made.shape[1]):
        if interrupted():
            return
        chance = torch.from_numpy(uniforms(seeds, step)).to(model.device) if sampling.temperature else logits
        tokens = draw(logits, chance, sampling.temperature, sampling.top_p, sampling.top_k)
        made[places, step] = tokens
        made_tokens(count)
        ended = torch.isin(tokens, end_ids)
        if stop is not None:
            last = made[places, max(0, step + 1 - stop.span) : step + 1].tolist()
            ended |= torch.tensor([stop.hit(ids) for ids in last], device=ended.device)
        finished = alive & (ended | (limits <= step + 1))
        if finished.any():
            for index in finished.nonzero()[:, 0].tolist():
                place = int(places[index])
                reason: Literal["stop", "length"] = "stop" if ended[index] else "length"
                yield Answer(place, made[place, : step + 1].tolist(), reason)
            alive &= ~finished
            count = int(alive.sum())
            if count == 0:
                return
            if forward.can_drop and len(alive) - count >= _DEAD_SHARE * len(alive):
                keep = alive.nonzero()[:, 0]
                forward.keep(keep)
                seeds = seeds[keep.cpu().numpy()]
                tokens, limits, places, alive = tokens[keep], limits[keep], places[keep], alive[keep]
        logits = forward.step(tokens)


class _Forward:
    """A model with the keys and values of a batch: prompts in, then one token per row at a time."""

    def __init__(self, model: "PreTrainedModel", prompts: Sequence[Sequence[int]]) -> None:
        accepted = inspect.signature(model.forward).parameters
        if "past_key_values" not in accepted:
            raise ModelError(
                f"{type(model).__name__} keeps no keys and values between tokens",
                "serve this model with vLLM or another endpoint",
            )
        self._model: Any = model
        self._takes_positions = "position_ids" in accepted
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        kinds = set(getattr(model.config.get_text_config(decoder=True), "layer_types", None) or [])
        self.can_drop = kinds <= {"full_attention", "sliding_attention"}
        """Whether rows can leave the batch: not with recurrent layers, whose state has another form."""
        self._cache: Cache = (
            Cache(layer_class_to_replicate=_Room) if self.can_drop else DynamicCache(config=model.config)
        )
        self._ids, self._mask = pad(prompts, model.device, left=True)
        self._lengths = self._mask.sum(1, keepdim=True)

    def start(self) -> torch.Tensor:
        """(B, V) logits after the prompts."""
        return self._run(self._ids, (self._mask.cumsum(1) - 1).clamp(min=0))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, V) logits after one more token of each row."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        logits = self._run(tokens[:, None], self._lengths)
        self._lengths = self._lengths + 1
        return logits

    def keep(self, rows: torch.Tensor) -> None:
        """Forget all rows but these."""
        self._mask, self._lengths = self._mask[rows], self._lengths[rows]
        self._cache.batch_select_indices(rows)

    def _run(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        where = {"position_ids": positions} if self._takes_positions else {}
        output = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            **where,
            **self._last_only,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits
