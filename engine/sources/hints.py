"""Which key of the run file reads a column, by the names that columns have in public data sets."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from engine.base.errors import ConfigError
from engine.base.foreign_json import WrongShape
from engine.config.sources import FieldsConfig, RowsConfig
from engine.sources.cells import choices_of
from engine.verifiers.choices import labelled

_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "messages": ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns"),
    "prompt": ("prompt", "instruction", "question", "problem", "query", "input", "text", "goal", "ctx"),
    "answer": (
        *(
            "answer",
            "output",
            "solution",
            "final_answer",
            "answers",
            "ground_truth",
            "target",
            "answerKey",
            "label",
        ),
        *("reference", "expected", "correct_answer", "expected_answer", "gold", "completion", "response"),
    ),
    "choices": ("choices", "options", "endings"),
    "response": (
        *(
            "response",
            "output",
            "completion",
            "generation",
            "generated_text",
            "prediction",
            "model_output",
            "text",
        ),
        "answer",
    ),
    "model": ("model", "model_name", "generator", "model_id", "teacher", "source_model"),
    "reward": ("reward", "score", "rating", "preference", "is_correct", "correct"),
}
"""Key of `fields` → what its column is called, the likeliest first."""


_OTHERWISE: Final = {"messages": "prompt", "response": "model: …, response"}
"""Key that is missing → what a remedy names where no column is likely."""


def have(row: Mapping[str, Any]) -> str:
    """What a row has, for messages."""
    return f"the row has: {', '.join(map(str, row))}"[:400]


def fields_remedy(row: Mapping[str, Any], fields: FieldsConfig, missing: str) -> str:
    """How to name the columns of a row, that of the missing key first, by the row's own names where they are known."""
    given = {str(name).strip().casefold(): str(name) for name in row}
    keys = type(fields).model_fields
    found: dict[str, str] = {}
    for key in (missing, *_COLUMNS):
        if (
            key in found
            or key not in keys
            or getattr(fields, key) in row
            or (key == "prompt" and "messages" in found)
        ):
            continue
        likely = next((given[name.casefold()] for name in _COLUMNS[key] if name.casefold() in given), None)
        if likely is not None and likely not in found.values():
            found[key] = likely
    named = (
        ", ".join(f"{key}: {name}" for key, name in found.items()) or f"{_OTHERWISE.get(missing, missing)}: …"
    )
    return f"name the columns with `fields: {{{named}}}`"


_COMPANIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("input", "context", "passage", "article", "document", "paragraph", "premise", "code"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
}
"""Key of `fields` → columns that belong to a prompt in public data sets."""
COMPANIONS: Final = frozenset(_COLUMNS["choices"]).union(*_COMPANIONS.values())


def unread(row: Mapping[str, Any], source: RowsConfig, prompt: str) -> list[str]:
    """What a row has beside its prompt and is not read, a line each.

    Args:
        row: with the `COMPANIONS` that it has.
        prompt: the text of its prompt.
    """
    lines, fields = [], source.fields
    for key, names in _COMPANIONS.items():
        if row.get(fields.messages) and key != "system":
            continue  # messages are whole without it
        for name in names:
            text = row.get(name)
            used = name in (fields.prompt, fields.answer) or (
                isinstance(text, str) and text.strip() in prompt
            )
            if text and not used and getattr(fields, key) is None:
                lines.append(
                    f"the column `{name}` is not read: `fields: {{{key}: {name}}}` adds it to the prompt"
                )
                break
    column = next((name for name in (fields.choices, *_COLUMNS["choices"]) if row.get(name)), fields.choices)
    if not source.show_choices:
        with suppress(ConfigError, WrongShape):
            choices = choices_of(row, fields) or row.get(column)
            if not all(text.strip() in prompt for text in labelled(choices, "")[0]):
                named = "" if column == fields.choices else f"`fields: {{choices: {column}}}` and "
                lines.append(
                    f"the prompt does not show its choices: {named}`show_choices: true` lists them under it"
                )
    return lines
