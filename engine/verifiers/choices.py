"""The choices of a multiple-choice question, in each form that data sets have."""

from typing import Any

from engine.base import foreign_json
from engine.base.errors import ConfigError
from engine.base.foreign_json import Value, WrongShape


def labelled(choices: Any, at: str) -> tuple[list[str], list[str]]:
    """(texts, labels) of choices.

    Forms: a list of texts; ARC's `{"text": […], "label": […]}`; objects with `text` and `label`; MedQA's letters and
    texts in one object; each also as JSON text, as CSV has it. There are no labels in the first form.
    """
    try:
        given = foreign_json.parse(choices) if isinstance(choices, str) else Value(choices, "choices")
        if given.raw is None:
            return [], []
        if isinstance(given.raw, dict):
            if given.get("text") is None:
                letters = [key for key, text in given.raw.items() if text is not None]
                return [given[key].text() for key in letters], [key.strip().upper() for key in letters]
            texts, marks = given["text"].list(), given["label"].list()
        elif given.list() and all(isinstance(one, dict) for one in given.raw):
            texts, marks = [one["text"] for one in given.list()], [one["label"] for one in given.list()]
        else:
            texts = marks = given.list()
        labels = [] if marks is texts else [mark.text().strip().upper() for mark in marks]
        if marks is not texts and len(labels) != len(texts):
            raise WrongShape(f"{len(texts)} texts have {len(labels)} labels")
        return [text.text() for text in texts], labels
    except WrongShape as problem:
        raise ConfigError(
            f"prompts: {at}: the choices are not a list of texts: {problem}", "write a list of texts"
        ) from None


def listed(choices: Any, at: str) -> str:
    """The choices as a prompt shows them, a line each: `A. iron`."""
    texts, labels = labelled(choices, at)
    return "\n".join(
        f"{labels[place] if labels else chr(ord('A') + place)}. {text}"
        for place, text in enumerate(texts[:26])
    )
