"""The conversation of a row, in each form that data sets have: a prompt, Alpaca's columns, messages, ShareGPT's turns.

Forms, and where they are described:

- OpenAI's messages, `role` and `content`, content as text or as a list of parts (API reference, "Create chat
  completion"); TRL's conversational form has them in `prompt` too (TRL documentation, "Dataset formats");
- ShareGPT, `from` human or gpt and `value`, `system` beside (LLaMA-Factory, data/README.md);
- Alpaca, `instruction`, `input`, `system`, `history` (the same). The input stands on the line after the instruction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.base import foreign_json
from engine.base.foreign_json import Value, WrongShape
from engine.config.sources import FieldsConfig
from engine.sources.cells import cell, has

_ROLES: Final = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""As data sets write a role → as it is stored."""
_TEXTS: Final = frozenset({"text", "input_text", "output_text"})
"""Types of a part that is text."""
_ALPACA: Final = "instruction"
"""The prompt's column whose companions are read without being named."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a row says."""

    messages: tuple[dict[str, str], ...]
    """Up to the last of the user."""
    answer: str | None
    """The assistant's turn after it; None where there is none."""


def conversation(row: Mapping[str, Any], fields: FieldsConfig) -> Conversation | None:
    """A row's conversation; None where it has neither messages nor the text of a prompt.

    Raises:
        WrongShape: it is none, with its place in the row.
    """
    given, place = _list(cell(row, fields.messages), fields.messages), fields.messages
    if not given:
        prompt, place = cell(row, fields.prompt), fields.prompt
        given = prompt if isinstance(prompt, list) else None
    if given:
        turns = [_turn(turn) for turn in Value(given, place).list()]
    elif text := _text(row, fields):
        turns = [*_history(row, fields), {"role": "user", "content": text}]
    else:
        return None
    system = _companion(row, fields, "system") if turns[0]["role"] != "system" else None
    if system is not None and (words := Value(system, "system").text()).strip():
        turns.insert(0, {"role": "system", "content": words})
    answer = turns.pop()["content"] if len(turns) > 1 and turns[-1]["role"] == "assistant" else None
    if turns[-1]["role"] != "user":
        raise WrongShape(f"the last message is from `{turns[-1]['role']}`")
    return Conversation(tuple(turns), answer)


def response_text(value: Any, place: str) -> str:
    """A response: a text, the texts of its parts, or the one message of the assistant that it is.

    Raises:
        WrongShape: it is none of these.
    """
    if isinstance(value, list) and any(
        isinstance(one, Mapping) and {"role", "from"} & one.keys() for one in value
    ):
        turns = [_turn(turn) for turn in Value(value, place).list()]
        if [turn["role"] for turn in turns] != ["assistant"]:
            raise WrongShape(f"{place}: expected one message of the assistant")
        return turns[0]["content"]
    return _content(Value(value, place))


def _turn(turn: Value) -> dict[str, str]:
    keys = (
        ("from", "value") if "role" not in turn.object() and "from" in turn.object() else ("role", "content")
    )
    role = turn[keys[0]].text()
    if role not in _ROLES:
        raise WrongShape(f"{turn.place}: there is no role `{role}`")
    return {"role": _ROLES[role], "content": _content(turn[keys[1]])}


def _content(content: Value) -> str:
    """Text, or the texts of parts, each on a line of its own."""
    if not isinstance(content.raw, list):
        return content.text()
    return "\n".join(_part(part) for part in content.list())


def _part(part: Value) -> str:
    if isinstance(part.raw, str):
        return part.raw
    kind = part.get("type")
    if kind is not None and kind.text() not in _TEXTS:
        raise WrongShape(f"{part.place}: a part of type `{kind.text()}` is no text")
    return part["text"].text()


def _list(value: Any, place: str) -> Any:
    """A list, also one that a table holds as JSON text; None where there is none."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return foreign_json.parse(value).raw
    except WrongShape as problem:
        raise WrongShape(f"`{place}` is {problem}") from None


def _text(row: Mapping[str, Any], fields: FieldsConfig) -> str:
    """The prompt's text with its input; empty where both are missing or blank."""
    parts = [cell(row, fields.prompt), _companion(row, fields, "input")]
    if parts[0] is not None and not isinstance(parts[0], str):
        raise WrongShape(f"{fields.prompt}: expected text, found {parts[0]!r:.40}")
    texts = [Value(part, "input").text() for part in parts if part is not None]
    return "\n".join(text for text in texts if text.strip())


def _history(row: Mapping[str, Any], fields: FieldsConfig) -> Sequence[dict[str, str]]:
    pairs = _list(_companion(row, fields, "history"), "history")
    turns: list[dict[str, str]] = []
    for pair in Value(pairs or [], "history").list():
        asked, said = pair[0].text(), pair[1].text()
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return turns


def _companion(row: Mapping[str, Any], fields: FieldsConfig, name: str) -> Any:
    """What a column beside the prompt holds: the one that is named, else that of the form which the prompt's names."""
    column = getattr(fields, name)
    if column is not None:
        if not has(row, column):
            raise WrongShape(f"there is no column `{column}`")
        return cell(row, column)
    formed = fields.prompt == _ALPACA or (name == "system" and fields.messages == "conversations")
    return cell(row, name) if formed else None
