"""Response log-probabilities of a causal language model, without logits anywhere else.

The decoder gives hidden states; only those that predict a response token meet the vocabulary matrix, a
bounded number at a time, so the memory peak does not depend on vocabulary × batch. Rows are padded on the
right and causal, so padding needs no mask and touches nothing. For prompts with several responses the prompts
are encoded once, padded on the left so that every response follows its prompt directly, and their keys and
values are repeated for the responses.

Whether the model allows either is not guessed from its name: a few tokens go through the model both ways when
it is first used, and the plain way is taken where they differ.
"""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from transformers import DynamicCache

from engine.base.errors import NotAvailable
from engine.models.batching import gather, pad
from engine.models.forward import SplitModel, close, split_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

Row = tuple[Sequence[int], int]
"""Token ids of prompt and response, and the number of prompt ids."""

_LOGITS_BYTES = {"cpu": 4 * 2**20}
"""Float32 logits that exist at once, by type of device: on a CPU what its caches hold."""
_LOGITS_BYTES_ELSEWHERE = 256 * 2**20
_STATES = 2048
"""Hidden states that meet the vocabulary at once: enough for a fast matrix product."""
_EAGER_BYTES = 256 * 2**20
_PROBE_TOKENS = 12
_ALLOWED: WeakKeyDictionary["PreTrainedModel", tuple[SplitModel | None, bool]] = WeakKeyDictionary()
"""What has been found out about each model: see `StudentForward`."""


@dataclass(frozen=True, slots=True)
class EncodedPrompts:
    """What G prompts left behind, to be continued by `StudentForward.continue_prompts`."""

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    """One (keys, values) a layer, each (G, heads, P, width)."""
    mask: torch.Tensor
    """(G, P): 1 at tokens, 0 at the padding on the left."""
    last: torch.Tensor
    """(G, H): hidden state of each prompt's last token."""


class StudentForward:
    """Sums of response log-probabilities under one model.

    Args:
        model: in eval mode.
        probe: a few token ids of the model, to find out what it allows; at least two.
    """

    def __init__(self, model: "PreTrainedModel", probe: Sequence[int]) -> None:
        self._model = model
        untyped: Any = model
        self._decoder: Any = untyped.get_decoder()
        if model not in _ALLOWED:
            split = _split(model)
            _ALLOWED[model] = (split, False)
            ids = list(probe[:_PROBE_TOKENS])
            _ALLOWED[model] = (split, split is not None and len(ids) > 1 and self._cache_matches(ids))
        self.split, self.shares_prompts = _ALLOWED[model]
        """Backbone and head, None where they do not give the model's logits; and whether a prompt's keys and values
        can serve several responses."""

    @torch.inference_mode()
    def plain(self, rows: Sequence[Row]) -> list[float]:
        """Σ log p of each row's response, in nats; prompts and responses in one padded pass."""
        inputs, _ = pad([ids[:-1] for ids, _ in rows], self._model.device)
        starts = [boundary - 1 for _, boundary in rows]
        counts = [len(ids) - boundary for ids, boundary in rows]
        targets = [token for ids, boundary in rows for token in ids[boundary:]]
        if self.split is not None:
            values = self._log_probs(self.split, gather(self.split.hidden(inputs), starts, counts), targets)
        else:
            logits = self._model(input_ids=inputs, use_cache=False).logits
            values = _pick(gather(logits, starts, counts).float(), self._tensor(targets))
        return _sums(values, counts)

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[Sequence[int]]) -> EncodedPrompts:
        """Keys, values and last hidden states of prompts, padded on the left in one pass."""
        inputs, mask = pad(prompts, self._model.device, left=True)
        cache: Any = DynamicCache()
        hidden = self._decoder(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return EncodedPrompts([(layer.keys, layer.values) for layer in cache.layers], mask, hidden[:, -1])

    @torch.inference_mode()
    def continue_prompts(
        self, prompts: EncodedPrompts, rows: Sequence[tuple[int, Sequence[int]]]
    ) -> list[float]:
        """Σ log p of each response, in nats; only where `shares_prompts`.

        Args:
            prompts: from `encode_prompts`.
            rows: (index of the prompt, token ids of the response).
        """
        assert self.split is not None
        owner = self._tensor([index for index, _ in rows])
        sums = self._log_probs(self.split, prompts.last[owner], [response[0] for _, response in rows])
        counts = [len(response) - 1 for _, response in rows]
        if not any(counts):
            return sums.double().tolist()
        hidden = self._after(prompts, owner, [response[:-1] for _, response in rows])
        targets = [token for _, response in rows for token in response[1:]]
        values = self._log_probs(self.split, gather(hidden, [0] * len(rows), counts), targets)
        return [first + more for first, more in zip(sums.tolist(), _sums(values, counts), strict=True)]

    def _after(
        self, prompts: EncodedPrompts, owner: torch.Tensor, tokens: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Hidden states (B, width, H) of tokens that follow their prompts."""
        inputs, _ = pad(tokens, self._model.device)
        mask, width = prompts.mask[owner], inputs.shape[1]
        hidden: torch.Tensor = self._decoder(
            input_ids=inputs,
            attention_mask=torch.cat([mask, mask.new_ones(len(tokens), width)], dim=1),
            position_ids=mask.sum(1, keepdim=True) + torch.arange(width, device=mask.device),
            past_key_values=DynamicCache([(keys[owner], values[owner]) for keys, values in prompts.layers]),
            use_cache=True,
        ).last_hidden_state
        return hidden

    def _log_probs(self, split: SplitModel, hidden: torch.Tensor, targets: Sequence[int]) -> torch.Tensor:
        """log p of each target: (n, H) and n ids -> (n,) float32."""
        memory = _LOGITS_BYTES.get(hidden.device.type, _LOGITS_BYTES_ELSEWHERE)
        pairs = zip(torch.split(hidden, _STATES), torch.split(self._tensor(targets), _STATES), strict=True)
        return torch.cat([split.log_probs(states, ids, memory) for states, ids in pairs])

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)

    @torch.inference_mode()
    def _cache_matches(self, tokens: list[int]) -> bool:
        """Whether tokens after a cached prompt have the hidden states that they have in one pass."""
        config = self._model.config.get_text_config(decoder=True)
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        accepted = inspect.signature(self._decoder.forward).parameters
        if not kinds <= {"full_attention", "sliding_attention"} or not {
            "position_ids",
            "past_key_values",
        } <= set(accepted):
            return False
        half = len(tokens) // 2
        # The second prompt is shorter, so the probe has padding on the left too.
        prompts = self.encode_prompts([tokens[:half] + tokens[:1], tokens[:half]])
        found = self._after(prompts, self._tensor([1]), [tokens[half:]])
        ids = self._tensor(tokens)[None]
        expected = self._decoder(input_ids=ids, use_cache=False).last_hidden_state[:, half:]
        return close(found.float(), expected.float(), expected.dtype)


@contextmanager
def fast_attention(model: "PreTrainedModel", positions: int, longest: int) -> Iterator[None]:
    """Within it, `model` computes attention in the way that is faster here; the same function either way.

    PyTorch's fused attention in 16 bits on a CPU takes longer than the matrix products it stands for (a quarter
    of the whole on a 135M model). So these are used, while the weights of a batch stay small; elsewhere fused
    attention is the faster one and remains.

    Args:
        model: the model.
        positions: token positions in a batch.
        longest: tokens of the longest row.
    """
    configured = model.config._attn_implementation
    heads = getattr(model.config.get_text_config(decoder=True), "num_attention_heads", None) or 1
    small = 4 * positions * longest * heads <= _EAGER_BYTES
    if model.device.type != "cpu" or model.dtype == torch.float32 or configured != "sdpa" or not small:
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(configured)


def _split(model: "PreTrainedModel") -> SplitModel | None:
    try:
        return split_model(model)
    except NotAvailable as error:
        log.warning("%s: it is scored with full logits, slower", error.message)
        return None


def _sums(values: torch.Tensor, counts: Sequence[int]) -> list[float]:
    """(n,) log-probabilities, `counts[b]` of each row, as B sums in float64."""
    return [part.sum().item() for part in torch.split(values.double(), list(counts))]


def _pick(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log softmax at the targets: (n, V) float32 and (n,) -> (n,)."""
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)
