"""Requests as token ids: what a local model is given, whether it runs in this process or in a server of its own."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.base.errors import TemplateError
from engine.models import text_size
from engine.models.chat_template import end_of_turn_ids, prompt_ids, token_ids, with_system
from engine.teachers.local.decode import Row
from engine.teachers.response_status import failed
from storage.records import Request, Response

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns requests into rows that fit a model."""

    tokenizer: "PreTrainedTokenizerBase"
    thinking: bool | None
    """Passed to the chat template as `enable_thinking`; None leaves the template's default."""
    context: int | None
    """Tokens of prompt and response together; None where nothing says."""

    def check(self, system: str) -> None:
        """Raises TemplateError where the template refuses the system prompt, which every request will carry."""
        if system:
            turns = with_system(system, [{"role": "user", "content": "?"}])
            prompt_ids(self.tokenizer, turns, thinking=self.thinking)

    def row(self, request: Request) -> Row | Response:
        """The request as token ids, with the tokens that its response may have, or why it cannot be answered."""
        words = text_size.words_of(request.messages)
        try:
            if self.context is not None and len(words) > text_size.SLICE:
                tokens = text_size.tokens_of(words, self.context, self._count)
                if tokens >= self.context:
                    return self._too_long(request, tokens)
            ids = prompt_ids(self.tokenizer, request.messages, thinking=self.thinking)
        except TemplateError as error:
            return failed(request, "error", error.message)
        limit = request.sampling.max_tokens
        if self.context is not None:
            limit = min(limit, self.context - len(ids))
        if limit < 1:
            return self._too_long(request, len(ids))
        return Row(ids, request.sampling, limit)

    def _count(self, text: str) -> int:
        return len(token_ids(self.tokenizer, text))

    def _too_long(self, request: Request, tokens: int) -> Response:
        reason = f"the prompt has {tokens} tokens, the model's context is {self.context}"
        return failed(request, "too_long", reason, tokens)

    def ending_ids(self, configured: "GenerationConfig | None") -> list[int]:
        """Ids that end an answer: the model's own, the tokenizer's EOS, and what the template puts after a turn."""
        own: Any = getattr(configured, "eos_token_id", None)
        ends = set(own if isinstance(own, list) else [own])
        ends.add(self.tokenizer.eos_token_id)
        ends.update(end_of_turn_ids(self.tokenizer, thinking=self.thinking)[:1])
        return [token for token in ends if token is not None]
