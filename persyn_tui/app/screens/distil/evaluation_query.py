"""The student's responses to the evaluation prompts: read from the store, before training beside after."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple

from engine.base.sanitize import strip_control
from engine.job import adapters_of_run
from persyn_tui.app.base.common_prefix import apart
from persyn_tui.app.screens.distil.query import BEFORE
from persyn_tui.app.state import context_cache
from persyn_tui.app.state.cached_query import QueryCache
from storage import jobs, prompts, results
from storage.records import Evaluation, Prompt, Result
from storage.store import Store

KINDS = ("all", "newly right", "newly wrong", "wrong")
"""Which prompts are listed: all, those that training has mended or spoilt, those that are answered wrong now."""
RIGHT = 1.0
"""A value from here on is right, as the engine counts them."""
CHARACTERS = 300
"""How much of a prompt a line holds."""


class Question(NamedTuple):
    """What the screen wants to see."""

    job_id: int
    strategy: str
    """A strategy's name, or `BEFORE`."""
    kind: str
    """One of `KINDS`."""
    prompt_id: int | None
    """The prompt under the cursor."""
    width: int
    """Cells for a prompt in the list."""


@dataclass(frozen=True, slots=True)
class Line:
    """An evaluation prompt."""

    prompt_id: int
    prompt: str
    """The beginning of its last turn, or the words that tell it from others."""
    reference: str
    before: float | None
    """1 right, 0 wrong, in between graded; None where it is not judged, or there is no response yet."""
    after: float | None
    """The same of the strategy's student."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those of `KINDS` that it is of."""
        found = ["all"]
        if self.before is not None and self.after is not None and _right(self.before) != _right(self.after):
            found.append("newly right" if _right(self.after) else "newly wrong")
        if self.after is not None and not _right(self.after):
            found.append("wrong")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Side:
    """How many responses are right, before training or after."""

    right: float | None
    """Share of those that are judged; None without any."""
    judged: int
    unjudged: int
    complete: bool
    """Whether there is one to every prompt."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The prompts of one kind, which change only while responses come in."""

    kind: str
    """One of `KINDS`: the one that was asked for, or all where it has none."""
    lines: tuple[Line, ...]
    counts: Mapping[str, int]
    """How many prompts each of `KINDS` has."""
    before: Side
    after: Side


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the screen shows."""

    strategy: str
    listed: Listed
    prompt: Prompt | None
    """The one under the cursor, whole; None where nothing is listed."""
    before: Result | None
    """The response to it before training."""
    after: Result | None


def read(store: Store, question: Question, cache: QueryCache) -> Evaluated | None:
    """What to show; None where nothing of the strategy is evaluated."""
    job = jobs.get(store, question.job_id)
    context = None if job is None else context_cache.of(store, job)
    if job is None or context is None:
        return None
    before = results.evaluation(store, context.identity.evaluation_sha(None))
    after = before
    if question.strategy != BEFORE:
        found = adapters_of_run.trained(context, question.strategy)
        adapter = found.whole or found.now
        sha = None if adapter is None else context.identity.evaluation_sha(adapter.spec_sha)
        after = None if sha is None else results.evaluation(store, sha)
    if after is None:
        return None
    whole = after.complete, before is None or before.complete
    listed = cache.get(
        "listed",
        (after.id, before and before.id, whole, question.kind, question.width),
        lambda: _listed(store, before, after, question, cache.keep("prompts", dict[int, tuple[str, str]])),
        lasts=inf if all(whole) else 0.0,
    )
    if not listed.counts["all"]:
        return None
    ids = [line.prompt_id for line in listed.lines]
    at = question.prompt_id if question.prompt_id in ids else next(iter(ids), None)
    return Evaluated(
        strategy=question.strategy,
        listed=listed,
        prompt=None if at is None else prompts.get(store, [at]).get(at),
        before=None if at is None or before is None else results.result(store, before.id, at),
        after=None if at is None else results.result(store, after.id, at),
    )


def _listed(
    store: Store,
    before: Evaluation | None,
    after: Evaluation,
    question: Question,
    known: dict[int, tuple[str, str]],
) -> Listed:
    """`known` keeps what a line shows of a prompt, and its reference: they never change."""
    now = results.values(store, after.id)
    then = {} if before is None else results.values(store, before.id)
    for id, prompt in prompts.get(store, [id for id in now if id not in known]).items():
        words = str(prompt.messages[-1]["content"]) if prompt.messages else ""
        known[id] = (
            strip_control(" ".join(words[: 2 * CHARACTERS].split())[:CHARACTERS]),
            strip_control((prompt.answer or "")[:CHARACTERS]),
        )
    every = [Line(id, *known.get(id, ("", "")), then.get(id), value) for id, value in now.items()]
    counts = {kind: sum(kind in line.kinds for line in every) for kind in KINDS}
    kind = question.kind if counts[question.kind] else KINDS[0]  # an empty list has nothing to read
    lines = [line for line in every if kind in line.kinds]
    shown = apart([line.prompt for line in lines], question.width)
    return Listed(
        kind=kind,
        lines=tuple(replace(line, prompt=text) for line, text in zip(lines, shown, strict=True)),
        counts=counts,
        before=_side(then, before is None or before.complete),
        after=_side(now, after.complete),
    )


def _right(value: float) -> bool:
    return value >= RIGHT


def _side(values: Mapping[int, float | None], complete: bool) -> Side:
    judged = [_right(value) for value in values.values() if value is not None]
    share = sum(judged) / len(judged) if judged else None
    return Side(share, len(judged), len(values) - len(judged), complete)
