"""Which key of the run file reads a column, by the names that columns have in public data sets."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

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


def have(row: Mapping[str, Any]) -> str:
    """What a row has, for messages."""
    return f"the row has: {', '.join(map(str, row))}"[:400]


def fields_remedy(row: Mapping[str, Any], fields: BaseModel) -> str:
    """How to name the columns of a row, by its own names where they are known."""
    given = {str(name).strip().casefold(): str(name) for name in row}
    keys = type(fields).model_fields
    found: dict[str, str] = {}
    for key in _COLUMNS:
        if key not in keys or getattr(fields, key) in row or (key == "prompt" and "messages" in found):
            continue
        likely = next((given[name.casefold()] for name in _COLUMNS[key] if name.casefold() in given), None)
        if likely is not None and likely not in found.values():
            found[key] = likely
    named = ", ".join(f"{key}: {name}" for key, name in found.items()) or "prompt: …"
    return f"name the columns with `fields: {{{named}}}`"
