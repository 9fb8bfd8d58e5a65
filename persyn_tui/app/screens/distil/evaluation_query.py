"""What a student answered to the evaluation prompts: read from the store, before training beside after."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.base.sanitize import strip_control
from persyn_tui.app.base.common_prefix import apart
from persyn_tui.app.screens.distil.query import BEFORE
from persyn_tui.app.state import context_cache
from storage import jobs, prompts, results
from storage.records import Evaluation, Prompt, Result
from storage.store import Store

SHOWN = ("all", "newly right", "newly wrong", "wrong")
"""Which prompts are listed: all, those whose answer training has mended or spoilt, those that are wrong now."""
RIGHT = 1.0
"""A value from here on is right, as the engine counts them."""
CHARACTERS = 300
"""How much of a prompt a line holds."""


@dataclass(frozen=True, slots=True)
class Line:
    """An evaluation prompt."""

    prompt_id: int
    prompt: str
    """The beginning of its last turn, or the words that tell it from others."""
    reference: str
    before: float | None
    """1 right, 0 wrong, in between graded; None where it is not judged, or not answered yet."""
    after: float | None
    """The same of the strategy's student."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those of `SHOWN` that it is of."""
        found = ["all"]
        if self.before is not None and self.after is not None and _right(self.before) != _right(self.after):
            found.append("newly right" if _right(self.after) else "newly wrong")
        if self.after is not None and not _right(self.after):
            found.append("wrong")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Side:
    """How many answers are right, before training or after."""

    right: float | None
    """Share of those that are judged; None without any."""
    judged: int
    unjudged: int
    complete: bool
    """Whether every prompt is answered."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The prompt under the cursor, whole."""

    prompt: Prompt
    before: Result | None
    after: Result | None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the screen shows."""

    name: str
    """The strategy."""
    strategies: tuple[str, ...]
    """Of the run, the student before training first."""
    shown: str
    """One of `SHOWN`: the one that was asked for, or all where it has none."""
    lines: tuple[Line, ...]
    """Those to list."""
    counts: Mapping[str, int]
    """How many prompts each of `SHOWN` has."""
    before: Side
    after: Side
    answers: Answers | None


@dataclass(frozen=True, slots=True)
class _Listed:
    """What changes only while answers come in."""

    key: tuple[object, ...]
    lines: tuple[Line, ...]
    counts: Mapping[str, int]
    shown: str
    before: Side
    after: Side


class Reader:
    """Reads for one screen; for one thread at a time."""

    def __init__(self) -> None:
        self._prompts: dict[int, tuple[str, str]] = {}
        """Prompt id → what a line shows of it, and its reference."""
        self._listed: _Listed | None = None

    def read(
        self, store: Store, job_id: int, name: str, shown: str, prompt_id: int | None, width: int
    ) -> Evaluated | None:
        """What to show; None where nothing of the strategy is evaluated.

        Args:
            store: an open store.
            job_id: whose evaluations.
            name: a strategy, or `BEFORE`.
            shown: one of `SHOWN`.
            prompt_id: the prompt under the cursor.
            width: cells for a prompt in the list.
        """
        job = jobs.get(store, job_id)
        context = None if job is None else context_cache.of(store, job)
        if job is None or context is None:
            return None
        from engine.job import adapters_of_run

        before = results.evaluation(store, context.identity.evaluation_sha(None))
        after = before
        if name != BEFORE:
            found = adapters_of_run.trained(context, name)
            adapter = found.whole or found.now
            sha = None if adapter is None else context.identity.evaluation_sha(adapter.spec_sha)
            after = None if sha is None else results.evaluation(store, sha)
        if after is None:
            return None
        whole = after.complete, before is None or before.complete
        key = (after.id, None if before is None else before.id, whole, shown, width)
        final = all(whole)
        if self._listed is None or self._listed.key != key or not final:
            self._listed = self._list(store, key, before, after, shown, width)
        listed = self._listed
        if not listed.counts["all"]:
            return None
        ids = {line.prompt_id for line in listed.lines}
        at = prompt_id if prompt_id in ids else listed.lines[0].prompt_id if listed.lines else None
        return Evaluated(
            name=name,
            strategies=(BEFORE, *map(str, job.spec.get("strategies", ()))),
            shown=listed.shown,
            lines=listed.lines,
            counts=listed.counts,
            before=listed.before,
            after=listed.after,
            answers=None if at is None else _answers(store, at, before, after),
        )

    def _list(
        self,
        store: Store,
        key: tuple[object, ...],
        before: Evaluation | None,
        after: Evaluation,
        shown: str,
        width: int,
    ) -> _Listed:
        now = results.values(store, after.id)
        then = {} if before is None else results.values(store, before.id)
        self._learn(store, now)
        every = [Line(id, *self._prompts.get(id, ("", "")), then.get(id), value) for id, value in now.items()]
        if not any(shown in line.kinds for line in every):
            shown = SHOWN[0]  # an empty list has nothing to read
        lines = [line for line in every if shown in line.kinds]
        words = apart([line.prompt for line in lines], width)
        return _Listed(
            key,
            tuple(replace(line, prompt=text) for line, text in zip(lines, words, strict=True)),
            {kind: sum(kind in line.kinds for line in every) for kind in SHOWN},
            shown,
            _side(then, before is None or before.complete),
            _side(now, after.complete),
        )

    def _learn(self, store: Store, ids: Mapping[int, object]) -> None:
        """Reads the prompts that are not known yet: they never change."""
        for id, prompt in prompts.get(store, [id for id in ids if id not in self._prompts]).items():
            words = str(prompt.messages[-1]["content"]) if prompt.messages else ""
            self._prompts[id] = (
                strip_control(" ".join(words[: 2 * CHARACTERS].split())[:CHARACTERS]),
                strip_control((prompt.answer or "")[:CHARACTERS]),
            )


def _answers(store: Store, id: int, before: Evaluation | None, after: Evaluation) -> Answers | None:
    prompt = prompts.get(store, [id]).get(id)
    if prompt is None:
        return None
    first = None if before is None else results.result(store, before.id, id)
    return Answers(prompt, first, results.result(store, after.id, id))


def _right(value: float) -> bool:
    return value >= RIGHT


def _side(values: Mapping[int, float | None], complete: bool) -> Side:
    judged = [_right(value) for value in values.values() if value is not None]
    share = sum(judged) / len(judged) if judged else None
    return Side(share, len(judged), len(values) - len(judged), complete)
