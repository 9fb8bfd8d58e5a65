"""Filling the store with scores: shared by the stage `score` and by the scoring of dataset rows.

What a scorer that asks an endpoint is told is stored as it is paid for: a kill loses only what is in flight.
"""

import queue
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Thread

from engine.base.errors import BudgetSpent, Cancelled, EndpointError, NeedsAttention, UselessReplies
from engine.config.kinds import scorer_kind
from engine.job import scorer_ids, spending
from engine.job.context import RunContext
from engine.job.flush_timer import SERVED_S, FlushTimer
from engine.models.reasoning import with_reasoning
from engine.scorers import scorer_kinds
from engine.teachers.cost import Budget
from storage import scores
from storage import verdicts as replies
from storage.records import Prompt, Scorable, Score, Split

PAGE = 2000


def fill(
    context: RunContext, name: str, splits: Sequence[Split], plan_ids: Sequence[int] | None = None
) -> int:
    """Number of new scores after scoring every usable answer that lacks one by this scorer.

    Verdicts that failed at an endpoint are asked for again, at most `generation.max_attempts` times in all.

    Args:
        name: the scorer.
        splits: which prompts' answers.
        plan_ids: only answers that these plans assign; None for the answers of every teacher.
    """
    kind, settings = context.identity.scorer(name).kind, context.identity.scorer(name).settings
    scorer = scorer_ids.scorer_id(context, name)
    pages = _Pages(context, scorer, kind, splits, plan_ids, whole=scorer_kinds.compares(kind, settings))
    if (other := scorer_ids.same_scorer_other_reasoning(context, name)) is not None:
        scores.carry_over(context.store, context.lease, other, scorer)
    missing = pages.count()
    context.progress.expect(missing, row=name, unit="answers")
    if not missing:
        return 0
    context.progress.flush()
    done = 0
    module = scorer_kinds.load(kind)
    if (device := scorer_kind(kind).settings.model_fields.get("device")) is not None:
        context.servers.evict_for(settings.get("device", device.default))
    with closing(module.create(settings)) as model:
        asked = (
            _Asked(context, name, scorer, model, spending.budget(context))
            if isinstance(model, scorer_kinds.Asking)
            else None
        )
        held: BudgetSpent | None = None
        for page in pages:
            context.control.check()
            rest = page if scorer_kinds.compares(kind, settings) else _unlike(context, name, scorer, page)
            done += len(page) - len(rest)
            if not rest:
                continue
            if asked is not None:
                try:
                    done += asked.page(rest)
                except BudgetSpent as problem:
                    held = problem  # the answers of other pages may be cheaper
                continue
            items = _items(context, name, rest)
            alike = [(prompt.id, text) for prompt, text in items]
            first = {key: place for place, key in reversed(list(enumerate(alike)))}
            once = sorted(first.values())
            verdicts = dict(zip(once, model.score([items[place] for place in once]), strict=True))
            rows = [(row.response_id, verdicts[first[key]]) for row, key in zip(rest, alike, strict=True)]
            scores.add(context.store, context.lease, scorer, rows)
            tokens = sum(verdict.count or 0 for verdict in verdicts.values())
            context.progress.advance(len(rest), tokens=tokens, row=name)
            done += len(rest)
        if held is not None:
            raise held
    return done


def _unlike(context: RunContext, name: str, scorer_id: int, page: Sequence[Scorable]) -> Sequence[Scorable]:
    """The answers that are not word for word those of another teacher to the same prompt; the others get its score.

    It would be theirs anyway, but for the last digits of a likelihood, which must not decide between them.
    """
    seeing = context.identity.scorer(name).sees_reasoning
    ids = list(dict.fromkeys(row.prompt.id for row in page if row.prompt.id is not None))
    known = {
        (prompt, text, reasoning if seeing else ""): verdict
        for prompt, text, reasoning, verdict in reversed(scores.twins(context.store, scorer_id, ids))
    }
    if not known:
        return page
    rest, alike = [], []
    for row in page:
        verdict = known.get((row.prompt.id or 0, row.text, row.reasoning if seeing else ""))
        if verdict is None:
            rest.append(row)
        else:
            alike.append((row.response_id, _paid_elsewhere(verdict)))
    scores.add(context.store, context.lease, scorer_id, alike)
    context.progress.advance(len(alike), row=name)
    return rest


def _paid_elsewhere(verdict: Score) -> Score:
    """The same for another answer: it costs nothing more."""
    if "cost" not in verdict.detail:
        return verdict
    return replace(verdict, count=0, detail={**verdict.detail, "cost": 0.0})


def _items(context: RunContext, name: str, rows: Sequence[Scorable]) -> list[tuple[Prompt, str]]:
    """What a scorer is shown."""
    if context.identity.scorer(name).sees_reasoning:
        return [(row.prompt, with_reasoning(row.reasoning, row.text)) for row in rows]
    return [(row.prompt, row.text) for row in rows]


class _Pages:
    """The answers that lack a score, in pages; those that failed come again in the next pass.

    Args:
        context: the job's.
        scorer_id: whose scores.
        kind: its kind.
        splits: which prompts' answers.
        plan_ids: only answers that these plans assign.
        whole: whether all answers to a prompt belong together.
    """

    def __init__(
        self,
        context: RunContext,
        scorer_id: int,
        kind: str,
        splits: Sequence[Split],
        plan_ids: Sequence[int] | None,
        *,
        whole: bool,
    ) -> None:
        self._store = context.store
        self._scored = replace(scorer_ids.scored(context, scorer_id, splits), plan_ids=plan_ids)
        self._attempts = context.run.generation.max_attempts if scorer_kinds.costs(kind) else 1
        self._whole = whole

    def count(self) -> int:
        """How many answers are missing now."""
        return scores.count_pending(self._store, self._scored, max_attempts=self._attempts)

    def __iter__(self) -> Iterator[Sequence[Scorable]]:
        for left in reversed(range(self._attempts)):
            yield from self._once()
            if not left or not self.count():
                return

    def _once(self) -> Iterator[Sequence[Scorable]]:
        after = (-1, 0)
        while page := scores.pending(
            self._store,
            self._scored,
            after=after,
            limit=PAGE,
            whole=self._whole,
            max_attempts=self._attempts,
        ):
            if self._whole and len(page) == PAGE:
                # The last prompt's answers may go on behind the page; they belong together.
                page = [row for row in page if row.ordinal < page[-1].ordinal] or page
            after = (page[-1].ordinal, page[-1].teacher_id)
            yield page


@dataclass(frozen=True, slots=True)
class _Ended:
    """The thread has nothing more to put."""

    error: BaseException | None


_Came = scorer_kinds.Verdict | tuple[int, Score]


class _Asked:
    """The one writer of what a scorer's thread brings.

    Args:
        context: the job's.
        name: the scorer's row in the progress.
        scorer_id: what its verdicts are stored under.
        scorer: it.
        budget: the run's.
    """

    def __init__(
        self, context: RunContext, name: str, scorer_id: int, scorer: scorer_kinds.Asking, budget: Budget
    ) -> None:
        self._context, self._name, self._scorer_id = context, name, scorer_id
        self._scorer, self._budget = scorer, budget
        self._proven = scores.any_by(context.store, scorer_id)
        self._attempts = context.run.generation.max_attempts
        """What an unreadable verdict counts: it has had its tries, and a run that allows more asks once more."""
        self._replies: list[replies.Verdict] = []
        self._verdicts: list[tuple[int, Score]] = []
        self._new = 0
        self._due = FlushTimer()

    def page(self, rows: Sequence[Scorable]) -> int:
        """How many new scores these answers got.

        Raises:
            NeedsAttention: the endpoint cannot be asked; what came before is stored.
            BudgetSpent: likewise, the budget holds requests back.
        """
        self._new = 0
        ids = [row.response_id for row in rows]
        failed = useless = False
        try:
            for came in self._asked(rows):
                if isinstance(came, scorer_kinds.Verdict):
                    other = 0 if came.second is None else ids[came.second]
                    self._replies.append(replies.Verdict(ids[came.first], other, came.completion, came.cost))
                elif came is not None:
                    place, verdict = came
                    if verdict.status == "unreadable":
                        verdict = replace(verdict, detail={**verdict.detail, "attempts": self._attempts})
                    self._verdicts.append((ids[place], verdict))
                    failed |= verdict.status == "error"
                if came is not None:
                    self._due.came(SERVED_S)
                if self._due.now:
                    self._commit()
        except EndpointError as problem:
            useless = isinstance(problem, UselessReplies)
            raise NeedsAttention(
                f"quality: {problem.message}\nall other verdicts are stored", problem.remedy
            ) from problem
        finally:
            self._commit()
            if useless:
                replies.void(self._context.store, self._context.lease, self._scorer_id, ids)
        if not failed:
            replies.forget(self._context.store, self._context.lease, self._scorer_id, ids)
        return self._new

    def _known(self, rows: Sequence[Scorable]) -> list[scorer_kinds.Verdict]:
        """What was said of these answers before a kill or a stop."""
        place = {row.response_id: number for number, row in enumerate(rows)}
        return [
            scorer_kinds.Verdict(place[said.response_id], place.get(said.other_id), said.reply, said.cost)
            for said in replies.of(self._context.store, self._scorer_id, list(place))
            if not said.other_id or said.other_id in place
        ]

    def _asked(self, rows: Sequence[Scorable]) -> Iterator[_Came | None]:
        """From a thread, so that a stop is seen while a server is waited for; what had come by then is given too.

        None now and then, where nothing has come.
        """
        out: queue.SimpleQueue[_Came | _Ended] = queue.SimpleQueue()
        items, known = _items(self._context, self._name, rows), self._known(rows)

        def work() -> None:
            error: BaseException | None = None
            try:
                for found in self._scorer.verdicts(items, self._budget, known, proven=self._proven):
                    out.put(found)
            except BaseException as problem:
                error = problem
            out.put(_Ended(error))

        Thread(target=work, name=f"scorer {self._name}", daemon=True).start()
        stopped: BaseException | None = None
        while True:
            try:
                item = out.get(timeout=self._due.left)
            except queue.Empty:
                item = None
            self._context.progress.traffic(self._name, *self._scorer.traffic())
            if isinstance(item, _Ended):
                if stopped or item.error:
                    raise stopped or item.error or AssertionError
                return
            yield item
            if stopped is None:
                try:
                    self._context.control.check()
                except BaseException as problem:
                    stopped = problem
                    self._scorer.drain()
            if stopped is not None and not (
                isinstance(stopped, Cancelled) and self._context.control.grace_left()
            ):
                self._scorer.close()

    def _commit(self) -> None:
        said, self._replies = self._replies, []
        rows, self._verdicts = self._verdicts, []
        self._due.committed()
        new = replies.add(self._context.store, self._context.lease, self._scorer_id, said, rows)
        tokens = sum(verdict.count or 0 for _, verdict in rows)
        self._context.progress.advance(new, tokens=tokens, row=self._name)
        self._new += new
