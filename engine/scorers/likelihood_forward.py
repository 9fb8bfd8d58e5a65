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
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from transformers import DynamicCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

Row = tuple[Sequence[int], int]
"""Token ids of prompt and response, and the number of prompt ids."""

_LOGITS_BYTES = {"cpu": 16 * 2**20}
"""Float32 logits that exist at once, by type of device: on a CPU what its caches hold."""
_LOGITS_BYTES_ELSEWHERE = 256 * 2**20
_EAGER_BYTES = 256 * 2**20
_PROBE_TOKENS = 12
_ALLOWED: WeakKeyDictionary["PreTrainedModel", tuple[bool, bool]] = WeakKeyDictionary()
"""What has been found out about each model: see `StudentForward`."""
_PADDING_ID = 0
"""Any valid id: its position is never attended to by a real one."""


class EncodedPrompts:
    """What G prompts left behind, to be continued by `StudentForward.continue_prompts`."""

    def __init__(
        self, layers: list[tuple[torch.Tensor, torch.Tensor]], mask: torch.Tensor, last: torch.Tensor
    ) -> None:
        self.layers = layers
        """One (keys, values) a layer, each (G, heads, P, width)."""
        self.mask = mask
        """(G, P): 1 at tokens, 0 at the padding on the left."""
        self.last = last
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
        self._head: Any = untyped.get_output_embeddings()
        self._scale, self._cap = _logit_changes(model)
        if model not in _ALLOWED:
            _ALLOWED[model] = self._find_out(probe)
        self.split_head, self.shares_prompts = _ALLOWED[model]
        """Whether hidden states and the output embedding give the model's logits; and whether a prompt's keys
        and values can serve several responses."""

    @torch.inference_mode()
    def plain(self, rows: Sequence[Row]) -> list[float]:
        """Σ log p of each row's response, in nats; prompts and responses in one padded pass."""
        width = max(len(ids) for ids, _ in rows) - 1
        inputs = torch.full((len(rows), width), _PADDING_ID)
        for index, (ids, _) in enumerate(rows):
            inputs[index, : len(ids) - 1] = torch.tensor(ids[:-1])
        counts = [len(ids) - boundary for ids, boundary in rows]
        flat = [
            index * width + position
            for index, (ids, boundary) in enumerate(rows)
            for position in range(boundary - 1, len(ids) - 1)
        ]
        targets = [token for ids, boundary in rows for token in ids[boundary:]]
        inputs = inputs.to(self._model.device)
        if self.split_head:
            hidden = self._decoder(input_ids=inputs, use_cache=False).last_hidden_state
            values = self._log_probs(_rows_of(hidden, flat), targets)
        else:
            logits = self._model(input_ids=inputs, use_cache=False).logits
            values = _pick(_rows_of(logits, flat).float(), self._tensor(targets))
        return [part.sum().item() for part in torch.split(values.double(), counts)]

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[Sequence[int]]) -> EncodedPrompts:
        """Keys, values and last hidden states of prompts, padded on the left in one pass."""
        width = max(map(len, prompts))
        inputs = torch.full((len(prompts), width), _PADDING_ID)
        mask = torch.zeros((len(prompts), width), dtype=torch.long)
        for index, ids in enumerate(prompts):
            inputs[index, width - len(ids) :] = torch.tensor(ids)
            mask[index, width - len(ids) :] = 1
        inputs, mask = inputs.to(self._model.device), mask.to(self._model.device)
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
        """Σ log p of each response, in nats.

        Args:
            prompts: from `encode_prompts`.
            rows: (index of the prompt, token ids of the response).
        """
        owner = self._tensor([index for index, _ in rows])
        firsts = [response[0] for _, response in rows]
        sums = self._log_probs(prompts.last[owner], firsts).double()
        width = max(len(response) for _, response in rows) - 1
        if width == 0:
            return [float(value) for value in sums]
        hidden = self._after(prompts, owner, [list(response[:-1]) for _, response in rows], width)
        counts = [len(response) - 1 for _, response in rows]
        flat = [index * width + position for index, count in enumerate(counts) for position in range(count)]
        targets = [token for _, response in rows for token in response[1:]]
        values = self._log_probs(_rows_of(hidden, flat), targets)
        rest = [part.sum().item() for part in torch.split(values.double(), counts)]
        return [first + more for first, more in zip(sums.tolist(), rest, strict=True)]

    def _after(
        self, prompts: EncodedPrompts, owner: torch.Tensor, tokens: Sequence[Sequence[int]], width: int
    ) -> torch.Tensor:
        """Hidden states (B, width, H) of tokens that follow their prompts."""
        inputs = torch.full((len(tokens), width), _PADDING_ID)
        for index, ids in enumerate(tokens):
            inputs[index, : len(ids)] = torch.tensor(ids, dtype=torch.long)
        mask = prompts.mask[owner]
        steps = torch.arange(width, device=mask.device)
        hidden: torch.Tensor = self._decoder(
            input_ids=inputs.to(mask.device),
            attention_mask=torch.cat([mask, mask.new_ones(len(tokens), width)], dim=1),
            position_ids=mask.sum(1, keepdim=True) + steps,
            past_key_values=DynamicCache([(keys[owner], values[owner]) for keys, values in prompts.layers]),
            use_cache=True,
        ).last_hidden_state
        return hidden

    def _log_probs(self, hidden: torch.Tensor, targets: Sequence[int]) -> torch.Tensor:
        """log p of each target: (n, H) and n ids -> (n,) float32."""
        wanted = self._tensor(targets)
        memory = _LOGITS_BYTES.get(hidden.device.type, _LOGITS_BYTES_ELSEWHERE)
        chunk = max(1, memory // (4 * self._head.weight.shape[0]))
        parts = [
            _pick(self._logits(states), ids)
            for states, ids in zip(torch.split(hidden, chunk), torch.split(wanted, chunk), strict=True)
        ]
        return torch.cat(parts)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._head(hidden).float()
        if self._scale != 1.0:
            logits = logits * self._scale
        if self._cap is not None:
            logits = torch.tanh(logits / self._cap) * self._cap
        return logits

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)

    @torch.inference_mode()
    def _find_out(self, probe: Sequence[int]) -> tuple[bool, bool]:
        ids = torch.tensor([list(probe[:_PROBE_TOKENS])], device=self._model.device)
        split_head = self._head_matches(ids)
        if not split_head:
            log.warning(
                "%s changes its logits in a way unknown here: scoring it with full logits, slower",
                type(self._model).__name__,
            )
        return split_head, split_head and ids.shape[1] >= 2 and self._cache_matches(ids)

    def _head_matches(self, ids: torch.Tensor) -> bool:
        if self._head is None or self._decoder is self._model:
            return False
        expected = self._model(input_ids=ids, use_cache=False).logits.float()
        hidden = self._decoder(input_ids=ids, use_cache=False).last_hidden_state
        found = self._logits(hidden)
        return found.shape == expected.shape and _close(found, expected, hidden.dtype)

    def _cache_matches(self, ids: torch.Tensor) -> bool:
        config = self._model.config.get_text_config(decoder=True)
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        accepted = inspect.signature(self._decoder.forward).parameters
        if not kinds <= {"full_attention", "sliding_attention"} or not {
            "position_ids",
            "past_key_values",
        } <= set(accepted):
            return False
        tokens = ids[0].tolist()
        half = len(tokens) // 2
        # The second prompt is shorter, so the probe has padding on the left too.
        prompts = self.encode_prompts([tokens[:half] + tokens[:1], tokens[:half]])
        found = self._after(prompts, self._tensor([1]), [tokens[half:]], len(tokens) - half)
        expected = self._decoder(input_ids=ids, use_cache=False).last_hidden_state[:, half:]
        return _close(found.float(), expected.float(), expected.dtype)


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


def _logit_changes(model: "PreTrainedModel") -> tuple[float, float | None]:
    """What known models do to logits after the output embedding: a factor, then a soft cap.

    Granite divides by `logits_scaling`, Cohere multiplies by `logit_scale`, Gemma 2 and 3 cap with tanh.
    """
    config = model.config.get_text_config(decoder=True)
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return scale, float(cap) if cap else None


def _close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> bool:
    """Equal up to the rounding of a computation in `dtype`; both tensors are already float32."""
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def _rows_of(states: torch.Tensor, flat: Sequence[int]) -> torch.Tensor:
    """(B, L, H) -> (n, H) at flat positions."""
    index = torch.tensor(flat, dtype=torch.long, device=states.device)
    return states.reshape(-1, states.shape[-1])[index]


def _pick(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log softmax at the targets: (n, V) float32 and (n,) -> (n,)."""
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(1)
