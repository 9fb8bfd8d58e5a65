"""Which verifier fits the reference answers of a file of prompts, from its first rows."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from engine.config.sources import FieldsConfig
from engine.sources import files
from engine.sources.rows import FORMS

LOOKED_AT = 200
"""Rows that are read."""
_NUMBER = re.compile(r"[-+−]?[\d][\d,. ]*(?:e[-+]?\d+)?(?:\s*/\s*\d+)?", re.IGNORECASE)
_MARKED = re.compile(r"####\s*(.+)\s*$|\\boxed\{(.+)\}\s*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class References:
    """What the first rows hold."""

    rows: int
    answers: int
    """Rows with a reference answer."""
    numbers: int
    """Rows whose reference answer is a number, perhaps at the end of its reasoning."""
    choices: int
    """Rows with an answer and the texts of a multiple choice."""

    @property
    def verifier(self) -> str:
        """The one that judges none of these answers wrongly."""
        if not self.answers:
            return "none"
        if self.choices == self.answers:
            return "choice"
        return "math" if self.numbers == self.answers else "text"

    @property
    def why(self) -> str:
        """What the choice rests on."""
        if not self.answers:
            return f"no answer in the first {self.rows} rows: nothing is right or wrong"
        of = f"of {self.answers} answers looked at"
        if self.verifier == "choice":
            return f"all {of} are choices"
        return f"{'all' if self.numbers == self.answers else self.numbers} {of} are numbers"

    def doubt(self, verifier: str) -> str:
        """Why another verifier may judge wrongly; empty where it cannot."""
        if verifier == "math" and self.numbers < self.answers:
            return f"▲ {self.answers - self.numbers} of {self.answers} answers looked at are no numbers"
        if verifier == "none" and self.answers:
            return f"▲ the {self.answers} answers looked at are not used"
        if verifier not in ("none", "math") and not self.answers:
            return f"▲ {self.why}"
        return ""


def look(path: Path, kind: str) -> References:
    """What the first rows of a `jsonl`, `csv` or `parquet` file, folder or pattern hold.

    Raises:
        ConfigError: no such file, or a malformed row.
    """
    fields = FieldsConfig()
    found = [dict(row) for _, row in islice(_rows(path, kind), LOOKED_AT)]
    answers = [row for row in found if str(row.get(fields.answer) or "").strip()]
    return References(
        rows=len(found),
        answers=len(answers),
        numbers=sum(_is_number(row[fields.answer]) for row in answers),
        choices=sum(bool(row.get(fields.choices)) for row in answers),
    )


def _rows(path: Path, kind: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    form = FORMS[kind]
    for file in files.named(str(path), (), form.endings):
        yield from form.rows(file, ())


def _is_number(answer: Any) -> bool:
    text = str(answer).strip()
    marked = _MARKED.search(text)
    if marked:
        text = marked[1] or marked[2]
    return _NUMBER.fullmatch(text.strip().strip("$€£%").rstrip(".").strip()) is not None
