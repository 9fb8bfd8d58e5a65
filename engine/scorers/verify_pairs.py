"""References tried before a run: pairs of a reference and an answer, judged by the run's own code.

A pair is an object with `verifier`, `reference` and `answer`; `choices` or `pattern` where the verifier has them, and
`expected` (1 or 0) where it is known whether the answer is right.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, Any

from engine.base import foreign_json
from engine.base.errors import ConfigError
from engine.base.foreign_json import Value, WrongShape
from engine.base.suggest import hint
from engine.config.kinds import verifiers
from engine.scorers.verify_process import Worker
from engine.sources import references

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes; a longer line is refused without being read as a whole."""
KEYS = ("verifier", "reference", "answer", "choices", "pattern", "expected")
_EXAMPLE = (
    'each line is one JSON object, e.g. {"verifier": "math", "reference": "1/2", "answer": "It is 0.5."}'
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A reference and an answer."""

    verifier: Mapping[str, Any]
    """As it is stored with a prompt."""
    reference: str | None
    answer: str
    expected: bool | None = None
    """Whether the answer is right; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of a pair."""

    at: str
    """`FILE:LINE`."""
    status: str
    """`ok`; `unverifiable`, `timeout` or `error` as of a run's scores; `refused`: a run would not start with it."""
    value: float | None = None
    """1.0 for a right answer, 0.0 for a wrong one, None where the status is not `ok`."""
    verifier: str = ""
    reference: str | None = None
    extracted: str = ""
    """The answer that was read."""
    why: str = ""
    """Where it was read, or why nothing could be judged."""
    remedy: str = ""
    expected: bool | None = None


@dataclass(slots=True)
class Tally:
    """How often a verifier was right, over pairs with `expected`."""

    counts: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    """By (expected, judged)."""

    def add(self, judged: Judged) -> None:
        """Counts a pair; one that could not be judged counts as judged wrong."""
        if judged.expected is not None:
            self.counts[judged.expected, judged.value == 1.0] += 1

    @property
    def precision(self) -> float | None:
        """Share of those judged right that are; None without any."""
        return _share(self.counts[True, True], self.counts[False, True])

    @property
    def recall(self) -> float | None:
        """Share of those that are right that are judged so; None without any."""
        return _share(self.counts[True, True], self.counts[True, False])

    @property
    def agreeing(self) -> tuple[int, int]:
        """(pairs judged as expected, all pairs)."""
        return self.counts[True, True] + self.counts[False, False], self.counts.total()


def judge(lines: Iterable[tuple[str, bytes | Mapping[str, Any]]], timeout_s: float) -> Iterator[Judged]:
    """What comes of each pair, as it is judged.

    Args:
        lines: (place, a line of JSON or the object); empty lines are left out.
        timeout_s: seconds that one answer may take, as of `exact_answer`.
    """
    with closing(Worker(timeout_s)) as worker:
        for at, line in lines:
            if isinstance(line, bytes) and not line.strip():
                continue
            try:
                pair = _pair(line, at)
            except ConfigError as error:
                yield Judged(
                    at, "refused", why=error.message.removeprefix(f"prompts: {at}: "), remedy=error.remedy
                )
                continue
            outcome = worker.judge(pair.verifier, pair.reference, pair.answer)
            detail = outcome["detail"]
            late = f"longer than {detail['limit_s']:g} s" if "limit_s" in detail else ""
            yield Judged(
                at=at,
                status=outcome["status"],
                value=outcome["value"],
                verifier=str(pair.verifier.get("kind")),
                reference=pair.verifier.get("answer", pair.reference),
                extracted=detail.get("extracted", ""),
                why=detail.get("why") or detail.get("reason") or late,
                expected=pair.expected,
            )


def lines_of(file: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """(`FILE:LINE`, line), read as they are asked for; of a line that is too long its first bytes."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        rest = line
        while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE + 1)
        yield f"{name}:{number}", line


def _pair(line: bytes | Mapping[str, Any], at: str) -> Pair:
    if isinstance(line, Mapping):
        row = line
    elif len(line) > LONGEST_LINE:
        raise ConfigError(f"longer than {LONGEST_LINE // 2**20} MiB", "one pair is one line: split it")
    else:
        try:
            row = foreign_json.parse(line.removeprefix(b"\xef\xbb\xbf")).object()
        except WrongShape as problem:
            raise ConfigError(f"malformed JSONL: {problem}", _EXAMPLE) from None
    try:
        return _read(row, at)
    except WrongShape as problem:
        near = hint(str(problem).partition(" ")[0], [key for key in row if key not in KEYS])
        raise ConfigError(f"{problem}{near}", _EXAMPLE) from None


def _read(row: Mapping[str, Any], at: str) -> Pair:
    given = Value(dict(row))
    answer = given["answer"].text()
    expected = given.get("expected")
    right = None if expected is None else bool(expected.raw)
    if isinstance(row.get("verifier"), dict):  # as `persyn data show --json` has it
        reference = row.get("reference")
        return Pair(row["verifier"], None if reference is None else str(reference), answer, right)
    kind = given["verifier"].text()
    if kind not in verifiers():
        raise ConfigError(
            f"unknown verifier `{kind}`{hint(kind, verifiers())}", f"use one of: {', '.join(verifiers())}"
        )
    written = given["reference" if row.get("pattern") is None else "pattern"].raw
    reference, verifier = references.reference(written, row.get("choices"), kind, at)
    return Pair(verifier or {}, reference, answer, right)


def _share(of: int, others: int) -> float | None:
    return of / (of + others) if of + others else None
