"""Chat templates, and the one rule for where a prompt ends and a response begins.

Scoring, training and generation all get their token ids here, so that a response is scored and learned after
exactly the ids that the model sees when it answers. The rule, version `BOUNDARY_VERSION`:

1. The prompt is the rendered template with its generation prompt; prompt + response is the rendered
   template with the response as the last assistant turn. The first text must be a prefix of the second, and
   what follows it must be the response (whitespace at its ends may be trimmed) and the template's own end of
   turn. Thinking templates that rewrite turns break this and are refused.
2. Rendered templates already hold BOS: they are tokenized without adding special tokens.
3. The ids of the prompt must be a prefix of the ids of prompt + response. Where a tokenizer merges characters
   across the boundary (a response that starts with a newline), the response is tokenized on its own, as a
   model that answers token by token would see it, if its ids decode back to the same text; else it is
   refused.
4. The end-of-turn token belongs to the response when `count_end_of_turn`; whitespace that the template
   puts after it never does.
5. The text of a control token within a message is text: only those that the template writes become the control token.

The date that some templates print is fixed: a prompt must not change overnight.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from engine.base.errors import TemplateError
from storage.records import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOUNDARY_VERSION = 1
"""Version of the rule above; part of the identity of every score and adapter that depends on it."""

DATE_STRING = "26 Jul 2024"
"""Given to templates that print a date (the Llama 3 family, whose own default it is)."""

_PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a prompt and its response."""

    ids: list[int]
    """The prompt's ids, then the response's."""
    boundary: int
    """Number of prompt ids: the response is `ids[boundary:]`."""


def with_system(system: str, messages: Messages) -> Messages:
    """The conversation with a model's own system prompt before it; `messages` as they are when it is empty.

    A conversation that begins with a system message keeps one: the model's text, a blank line, its own. Many
    templates refuse two.
    """
    if not system:
        return messages
    if messages and messages[0]["role"] == "system":
        system, messages = f"{system}\n\n{messages[0]['content']}", messages[1:]
    return ({"role": "system", "content": system}, *messages)


def render_prompt(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, *, thinking: bool | None = None
) -> str:
    """The text a model is given before it answers: the rendered chat template with its generation prompt.

    Args:
        tokenizer: one with a chat template.
        messages: the conversation so far; its last message is the user's.
        thinking: passed to the template as `enable_thinking`; None leaves the template's default.

    Raises:
        TemplateError: no messages, a template that refuses or silently drops the system prompt or the
            last message.
    """
    return _control_texts(tokenizer).unmark(_prompt(tokenizer, messages, thinking))


def _prompt(tokenizer: "PreTrainedTokenizerBase", messages: Messages, thinking: bool | None) -> str:
    """`render_prompt`, with the marks of `_ControlTexts`."""
    if not messages:
        raise TemplateError("a prompt has no messages", "give at least one user message")
    text = _render(tokenizer, messages, thinking, generation_prompt=True)
    for message in messages:
        kept = message["role"] != "system" and message is not messages[-1]
        if not kept and _content(tokenizer, message["content"]).strip() not in text:
            system = message["role"] == "system"
            raise TemplateError(
                f"the chat template of {_name(tokenizer)} drops or rewrites the {message['role']} message",
                _SYSTEM_REMEDY if system else "use a model whose template keeps it as it is",
            )
    return text


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, *, thinking: bool | None = None
) -> list[int]:
    """Token ids of `render_prompt`; BOS appears only where the template puts it."""
    return token_ids(tokenizer, _prompt(tokenizer, messages, thinking))


def encode(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Messages,
    response: str,
    count_end_of_turn: bool = True,
    *,
    thinking: bool | None = None,
) -> Encoded:
    """Token ids of a prompt with a response, and where the response begins.

    Args:
        tokenizer, messages, thinking: see `render_prompt`.
        response: the assistant's answer.
        count_end_of_turn: whether the template's end-of-turn token(s) are part of the response.

    Raises:
        TemplateError: the template or the tokenizer breaks the boundary; see the module's rule.
    """
    prompt = _prompt(tokenizer, messages, thinking)
    turn = {"role": "assistant", "content": response}
    full = _render(tokenizer, [*messages, turn], thinking, generation_prompt=False)
    suffix = _turn_suffix(tokenizer, _template(tokenizer), thinking)
    if not full.startswith(prompt) or not full.endswith(suffix):
        raise _rewritten(tokenizer)
    text = _content(tokenizer, response)
    body = full[len(prompt) : len(full) - len(suffix)]
    if body not in (text, text.rstrip(), text.lstrip(), text.strip()):
        raise _rewritten(tokenizer)
    tail = body + suffix.rstrip() if count_end_of_turn else body

    head = token_ids(tokenizer, prompt)
    ids = token_ids(tokenizer, prompt + tail)
    if ids[: len(head)] != head:
        alone = token_ids(tokenizer, tail)
        if _decode(tokenizer, head + alone) != _decode(tokenizer, ids):
            raise TemplateError(
                f"the tokenizer of {_name(tokenizer)} merges the end of the prompt with the start of a "
                "response in a way that cannot be undone",
                "use a template whose generation prompt ends with a special token or a newline",
            )
        ids = head + alone
    return Encoded(ids=ids, boundary=len(head))


def conversation_ids(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, response: str, *, thinking: bool | None = None
) -> list[int]:
    """Token ids of a whole conversation as the template renders it, the answer as its last turn.

    This is what a reward model reads: unlike `encode` it keeps all that the template puts after the answer.

    Raises:
        TemplateError: the template refuses the conversation, or drops or rewrites the answer.
    """
    turns = [*messages, {"role": "assistant", "content": response}]
    text = _render(tokenizer, turns, thinking, generation_prompt=False)
    if _content(tokenizer, response).strip() not in text:
        raise TemplateError(
            f"the chat template of {_name(tokenizer)} drops or rewrites the answer",
            "use a reward model whose template keeps it as it is",
        )
    return token_ids(tokenizer, text)


def end_of_turn_ids(tokenizer: "PreTrainedTokenizerBase", *, thinking: bool | None = None) -> list[int]:
    """Ids of the special tokens that the template puts after an assistant turn; empty when it puts none.

    A model whose template has none learns from its data no place to stop.
    """
    suffix = _turn_suffix(tokenizer, _template(tokenizer), thinking).strip()
    special = set(tokenizer.added_tokens_decoder) | set(tokenizer.all_special_ids)
    return [token for token in token_ids(tokenizer, suffix) if token in special]


def clean(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD: tokenizers refuse them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, slots=True)
class _ControlTexts:
    """How transformers is told which texts of control tokens are a message's own (from its version 5.23 on)."""

    pattern: re.Pattern[str]
    marks: tuple[str, str]
    """Characters of private use that transformers puts around them."""

    def unmark(self, text: str) -> str:
        """The text without marks."""
        return text.replace(self.marks[0], "").replace(self.marks[1], "")


def _plain_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a text in which no special token is seen."""
    found = tokenizer(text, add_special_tokens=False, split_special_tokens=True)
    return list(found["input_ids"])


@lru_cache(maxsize=16)
def _control_texts(tokenizer: "PreTrainedTokenizerBase") -> _ControlTexts:
    from transformers.utils.chat_template_utils import mark_control_tokens

    special = {
        token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    # What plain text gives too cannot be told apart from it.
    told = [text for text, number in special.items() if number not in _plain_ids(tokenizer, text)]
    longest_first = sorted(told, key=len, reverse=True)
    start, end = mark_control_tokens("?", re.compile(r"\?")).split("?")
    return _ControlTexts(re.compile("|".join(map(re.escape, longest_first)) or "(?!)"), (start, end))


def _content(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    """A message's text as it is given to the template: with marks around the text of control tokens."""
    from transformers.utils.chat_template_utils import mark_control_tokens

    text, control = clean(text), _control_texts(tokenizer)
    return str(mark_control_tokens(text, control.pattern)) if control.pattern.search(text) else text


_SYSTEM_REMEDY = "leave `system` empty for this model, or put its text into the user's message"


def _render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Mapping[str, str]],
    thinking: bool | None,
    *,
    generation_prompt: bool,
) -> str:
    turns = [
        {"role": message["role"], "content": _content(tokenizer, message["content"])} for message in messages
    ]
    extra: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
    try:
        text = tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=generation_prompt,
            date_string=DATE_STRING,
            **extra,
        )
    except Exception as error:  # a template is a program that others wrote
        system = any(message["role"] == "system" for message in messages)
        raise TemplateError(
            f"the chat template of {_name(tokenizer)} refuses this conversation: {error}",
            _SYSTEM_REMEDY if system else "roles must alternate user, assistant, …, and start with user",
        ) from error
    return str(text)


def _template(tokenizer: "PreTrainedTokenizerBase") -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise TemplateError(
            f"the tokenizer of {_name(tokenizer)} has no chat template", "use an instruct model"
        ) from error


@lru_cache(maxsize=16)
def _turn_suffix(tokenizer: "PreTrainedTokenizerBase", template: str, thinking: bool | None) -> str:
    """What the template puts after an assistant's answer, whitespace included.

    `template` is part of the cache's key only: a tokenizer's template can be replaced.
    """
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
    return _render(tokenizer, turns, thinking, generation_prompt=False).rpartition(_PROBE)[2]


def token_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a text as it is, without BOS, EOS, or a template; marked texts of control tokens stay text."""
    marked = {"sanitize_control_tokens": True} if _control_texts(tokenizer).marks[0] in text else {}
    try:
        ids = tokenizer(
            text, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, **marked
        )
    except ValueError as error:
        raise TemplateError(
            f"the tokenizer of {_name(tokenizer)} cannot read a control token's text as text: {error}",
            "take that text out of the prompt or the response",
        ) from error
    return list(ids["input_ids"])


def _decode(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _name(tokenizer: "PreTrainedTokenizerBase") -> str:
    return repr(tokenizer.name_or_path or type(tokenizer).__name__)


def _rewritten(tokenizer: "PreTrainedTokenizerBase") -> TemplateError:
    return TemplateError(
        f"the chat template of {_name(tokenizer)} rewrites the prompt or the response when the answer is "
        "added, so there is no boundary between them",
        "for a thinking model set `thinking: false`, or give it a template that keeps turns as they are",
    )
