"""Learnability: how likely each response is under the untrained student, in nats per token.

    l(y | x) = (1/|y|) Σ_t log p_θ(y_t | y_<t, x)          (Zhang et al., ACL 2026, arXiv 2510.10925, §3)

Sum and token count are kept apart, so that any other weighting stays possible.

Three things make it fast, and none changes a number beyond float rounding: only hidden states at response
positions meet the vocabulary matrix, in chunks of bounded size; rows of similar length share a batch; and a
prompt with several responses is encoded once, its keys and values serving all of them. The passes through the
model are in `engine.scorers.likelihood_batches`, imported when first needed: identities are asked for without torch.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engine.base.errors import ConfigError, ScoreError
from engine.config.kinds import ScorerKind
from engine.config.section import Section
from engine.models.chat_template import BOUNDARY_VERSION, encode, with_system
from engine.models.loading import load_causal_lm
from engine.models.model_info import context_length, fingerprint
from engine.models.precision import settled_dtype
from engine.scorers.scorer_kinds import ShouldStop, checked, never
from storage.records import Messages, Prompt, Score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERSION = 1
"""Raised when the same settings would give other numbers."""


class Settings(Section):
    """What this scorer is made with; the run fills it in from `student` and `learnability`."""

    model: str = ""
    """Required: `zoo:NAME`, a folder, a hub id."""
    revision: str = ""
    dtype: str | None = None
    """None: auto, 16 bits on a GPU where its files have them, else float32."""
    device: str = "auto"
    trust_remote_code: bool = False
    count_end_of_turn: bool = True
    thinking: bool | None = None
    system: str = ""
    """Put before every prompt."""
    context: int | None = None
    """Tokens that prompt and response may take."""
    student: dict[str, Any] | None = None
    """What identifies the student, where an identity is asked for without `model`."""
    batch_tokens: int | None = None


KIND = ScorerKind(settings=Settings, of_student=True)


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
class Options:
    """How likelihoods are taken."""

    count_end_of_turn: bool = True
    """Whether the end-of-turn token is a term of the sum."""
    max_length: int | None = None
    """Tokens that prompt and response may take; None: what the model's config allows."""
    thinking: bool | None = None
    """Passed to the template as `enable_thinking`."""
    batch_tokens: int | None = None
    """Token positions in one forward pass, padding included; None: `engine.models.memory.batch_tokens`. Changes no
    result."""
    share_prompts: bool = True
    """Whether a prompt that several items share is encoded only once. Changes no result."""


def score(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    items: Sequence[tuple[Messages, str]],
    options: Options = Options(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[LogLikelihood]:
    """Log-likelihoods of responses under a causal language model, in the items' order.

    Args:
        model: the student, in eval mode, on its device.
        tokenizer: the student's, with its chat template.
        items: (messages of the prompt, text of the response).
        options: how.
        progress: called with (items finished, items in all) after each of them.

    Raises:
        TemplateError: the template breaks the boundary between prompt and response.
        ScoreError: NaN or infinity, naming the item.
    """
    found: dict[int, LogLikelihood] = {}
    for place, likelihood in log_likelihoods(model, tokenizer, items, options):
        found[place] = likelihood
        progress(len(found), len(items))
    return [found[place] for place in range(len(items))]


def log_likelihoods(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    items: Sequence[tuple[Messages, str]],
    options: Options = Options(),
    should_stop: ShouldStop = never,
) -> Iterator[tuple[int, LogLikelihood]]:
    """(place in `items`, log-likelihood) of each item once, after its forward pass; the rest is as in `score`.

    Args:
        should_stop: asked before every layer of the model.

    Raises:
        Cancelled: `should_stop` said so.
    """
    from engine.models.memory import batch_tokens
    from engine.scorers import likelihood_batches
    from engine.scorers.likelihood_batches import Row

    limit = options.max_length if options.max_length is not None else context_length(model)
    budget = options.batch_tokens or batch_tokens(model)
    groups: dict[tuple[int, ...], list[Row]] = defaultdict(list)
    for index, (messages, text) in enumerate(items):
        encoded = encode(tokenizer, messages, text, options.count_end_of_turn, thinking=options.thinking)
        tokens = len(encoded.ids) - encoded.boundary
        if tokens == 0:
            yield index, LogLikelihood(0.0, 0, "empty")
        elif limit is not None and len(encoded.ids) > limit:
            yield index, LogLikelihood(0.0, tokens, "too_long")
        else:
            row = Row(index, encoded.ids[: encoded.boundary], encoded.ids[encoded.boundary :])
            groups[tuple(row.prompt)].append(row)

    rows = list(groups.values())
    for done in likelihood_batches.log_likelihoods(model, rows, budget, options.share_prompts, should_stop):
        for row, total in done:
            if not math.isfinite(total):
                raise ScoreError(
                    f"the log-likelihood of item {row.item} is {total} ({len(row.response)} tokens)",
                    "load the student in float32; if it stays, its weights are broken",
                )
            yield row.item, LogLikelihood(total, len(row.response))


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that shapes a learnability score, as JSON, without loading the student.

    Args:
        settings: those of `create`; `student`, a mapping that identifies the student, may stand for `model`.
    """
    chosen = _settings(settings)
    return {
        "kind": "learnability",
        "version": VERSION,
        "boundary_version": BOUNDARY_VERSION,
        "student": chosen.student or fingerprint(chosen.model, chosen.revision),
        **{
            key: getattr(chosen, key)
            for key in ("dtype", "count_end_of_turn", "thinking", "system", "context")
        },
    }


def create(settings: Mapping[str, Any]) -> "Learnability":
    """The scorer, with the student loaded."""
    return Learnability(_settings(settings))


class Learnability:
    """Scorer of kind `learnability`: value = mean log-likelihood, with its sum and count."""

    def __init__(self, chosen: Settings) -> None:
        self._chosen = chosen
        self._model, self._tokenizer = load_causal_lm(
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
        found = log_likelihoods(
            self._model,
            self._tokenizer,
            [(with_system(self._chosen.system, prompt.messages), text) for prompt, text in items],
            Options(
                count_end_of_turn=self._chosen.count_end_of_turn,
                max_length=self._chosen.context,
                thinking=self._chosen.thinking,
                batch_tokens=self.pass_tokens,
            ),
            should_stop,
        )
        for place, likelihood in found:
            yield place, _score_of(likelihood)

    def close(self) -> None:
        """Let go of the student."""
        self._model = self._tokenizer = None  # type: ignore[assignment]


def _score_of(found: LogLikelihood) -> Score:
    if found.status == "ok":
        return Score(value=found.sum / found.tokens, sum=found.sum, count=found.tokens)
    if found.status == "too_long":
        return Score(value=None, count=found.tokens, status="too_long")
    return Score(value=None, count=0, status="unverifiable", detail={"reason": "no token to score"})


def _settings(settings: Mapping[str, Any]) -> Settings:
    chosen = checked("learnability", Settings, settings)
    if not chosen.model and not chosen.student:
        raise ConfigError("scorer 'learnability' has no student", "set `model` to the student's model")
    dtype = settled_dtype(chosen.dtype, chosen.device, chosen.model, chosen.revision)
    return chosen.model_copy(update={"dtype": dtype})
