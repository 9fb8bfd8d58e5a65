"""Quality as a reward model sees it: one number for a whole conversation, higher is better, on its own scale.

Any sequence classifier of transformers with one output and a chat template, such as the Skywork-Reward family
(Liu et al. 2024, arXiv 2410.18451). It reads the template's rendering of prompt and answer, which already holds
BOS. The value is its logit where transformers pools a single conversation: at the last token that is not the
model's pad token. The place is found on the ids before padding, so it does not move with the batch, and a model
without a pad token has one too.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from engine.base.errors import ConfigError, ScoreError
from engine.config.kinds import ScorerKind
from engine.config.paths import RunFolder
from engine.config.section import Section
from engine.models.chat_template import conversation_ids, end_of_turn_ids, prompt_ids
from engine.models.loading import load_reward_model
from engine.models.model_info import context_length, fingerprint
from engine.models.precision import settled_dtype
from engine.scorers.scorer_kinds import ShouldStop, checked, never
from storage.records import Prompt, Score

VERSION = 1
"""Raised when the same settings would give other numbers."""


class Settings(Section):
    """The run file's keys of this scorer."""

    model: str = ""
    """Required: `zoo:NAME`, a folder, a hub id."""
    revision: str = ""
    dtype: str | None = None
    """None: auto, 16 bits on a GPU where its files have them, else float32."""
    device: str = "auto"
    trust_remote_code: bool = False
    context: int | None = None
    """Tokens that prompt and response may take; None: as the model's config says."""
    overlong: Literal["skip", "truncate"] = "skip"
    """`skip`: a response that does not fit has no score; `truncate`: its end is cut, and the score says how much."""
    thinking: bool | None = None
    """Passed to the template as `enable_thinking`."""
    batch_tokens: int | None = None
    """Token positions in one forward pass; scores do not depend on it."""


def _located(settings: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    model = settings.get("model")
    return {"model": folder.reference(model)} if isinstance(model, str) else {}


def _local_model(settings: Mapping[str, Any]) -> tuple[str, str]:
    return str(settings.get("model", "")), str(settings.get("revision", ""))


KIND = ScorerKind(settings=Settings, located=_located, reads_reasoning=True, local_model=_local_model)


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that shapes a score, as JSON, without loading the model."""
    chosen = _settings(settings)
    # In float32 the head always was; in 16 bits another one gave other numbers.
    head = {} if chosen.dtype == "float32" else {"head": "float32"}
    return {
        "kind": "reward_model",
        "version": VERSION,
        "model": fingerprint(chosen.model, chosen.revision),
        **{key: getattr(chosen, key) for key in ("dtype", "context", "overlong", "thinking")},
        **head,
    }


def create(settings: Mapping[str, Any]) -> "RewardModel":
    """The scorer, with the model loaded."""
    return RewardModel(_settings(settings))


class RewardModel:
    """Scorer of kind `reward_model`: value = the model's logit, count = the tokens it read."""

    def __init__(self, chosen: Settings) -> None:
        self._chosen = chosen
        self._model, self._tokenizer = load_reward_model(
            chosen.model,
            dtype=chosen.dtype or "float32",
            device=chosen.device,
            revision=chosen.revision,
            trust_remote_code=chosen.trust_remote_code,
        )

    @property
    def pass_tokens(self) -> int:
        """Tokens of one forward pass."""
        from engine.models.memory import batch_tokens

        return self._chosen.batch_tokens or batch_tokens(self._model)

    def scores(
        self, items: Sequence[tuple[Prompt, str]], should_stop: ShouldStop = never
    ) -> Iterator[tuple[int, Score]]:
        """(place, score) of each response after its forward pass; see `engine.scorers.scorer_kinds.Scorer`."""
        from engine.scorers.classifier import rewards

        rows: list[tuple[int, list[int], int]] = []
        for index, (prompt, text) in enumerate(items):
            ids, cut = self._encode(prompt, text)
            if ids:
                rows.append((index, ids, cut))
            else:
                yield index, Score(value=None, count=cut, status="too_long")
        passes = rewards(self._model, [ids for _, ids, _ in rows], self.pass_tokens, should_stop)
        for place, value in passes:
            index, ids, cut = rows[place]
            if not math.isfinite(value):
                raise ScoreError(
                    f"the reward of item {index} is {value} ({len(ids)} tokens)",
                    "load the reward model in float32; if it stays, its weights are broken",
                )
            detail = {"truncated_tokens": cut} if cut else {}
            yield index, Score(value=value, count=len(ids), detail=detail)

    def close(self) -> None:
        """Let go of the model."""
        self._model = self._tokenizer = None  # type: ignore[assignment]

    def _encode(self, prompt: Prompt, text: str) -> tuple[list[int], int]:
        """(ids to read, how many were cut); no ids and how many there are when they cannot be made to fit."""
        thinking = self._chosen.thinking
        ids = conversation_ids(self._tokenizer, prompt.messages, text, thinking=thinking)
        limit = min(filter(None, (self._chosen.context, context_length(self._model))), default=len(ids))
        if len(ids) <= limit:
            return ids, 0
        if self._chosen.overlong == "truncate":
            # The model was trained to judge where a turn ends: the cut is before that, inside the answer.
            end = end_of_turn_ids(self._tokenizer, thinking=thinking)
            kept = limit - len(end)
            if kept > len(prompt_ids(self._tokenizer, prompt.messages, thinking=thinking)):
                return ids[:kept] + end, len(ids) - limit
        return [], len(ids)


def _settings(settings: Mapping[str, Any]) -> Settings:
    chosen = checked("reward_model", Settings, settings)
    if not chosen.model:
        raise ConfigError(
            "scorer 'reward_model' has no model", "set `model`: zoo:reward, a folder, or a hub id"
        )
    dtype = settled_dtype(chosen.dtype, chosen.device, chosen.model, chosen.revision)
    return chosen.model_copy(update={"dtype": dtype})
