"""Filling the store with scores: shared by the stage `score` and by the scoring of dataset rows.

What a judge behind an endpoint says is stored as it is paid for: a kill loses only what is in flight.
"""

import queue
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from threading import Thread

from engine.base.errors import BudgetSpent, Cancelled, EndpointError, NeedsAttention, UselessReplies
from engine.config.kinds import scorer_kind
from engine.job import scorer_ids, spending
from engine.job.batch_writer import LOCAL_S, SERVED_S, BatchWriter
from engine.job.context import RunContext
from engine.models.reasoning import with_reasoning
from engine.scorers import scorer_kinds, scorer_replicas
from engine.scorers.scorer_kinds import Verdict
from storage import scores
from storage import verdicts as stored_verdicts
from storage.records import Prompt, Scorable, Score, Split

PAGE = 500
"""Responses that are read, and turned into tokens, at a time."""
PAGE_EACH = 2000
"""The same for each of several processes: at the end of a page some wait for the last one."""
WORTH = 16
"""Responses that make one more process worth its start, which takes as long as the model's loading and some seconds."""


def expect_missing(
    context: RunContext,
    names: Sequence[str],
    splits: Sequence[Split],
    plan_ids: Sequence[int] | None = None,
) -> None:
    """Tells the progress how much each scorer has to do, before the first begins; arguments as in `score_missing`."""
    for name in names:
        _Work(context, name, splits, plan_ids).expect()


def score_missing(
    context: RunContext, name: str, splits: Sequence[Split], plan_ids: Sequence[int] | None = None
) -> int:
    """Number of new scores after scoring every usable response that lacks one by this scorer.

    Scores that failed at an endpoint are asked for again, at most `generation.max_attempts` times in all.

    Args:
        context: the job's.
        name: the scorer.
        splits: which prompts' responses.
        plan_ids: only responses that these plans assign; None for the responses of every teacher.
    """
    work = _Work(context, name, splits, plan_ids)
    if (other := scorer_ids.same_scorer_other_reasoning(context, name)) is not None:
        scores.carry_over(context.store, context.lease, other, work.scorer_id)
    if not (missing := work.expect()):
        return 0
    context.progress.flush()
    kind, settings = work.spec.kind, work.spec.settings
    places = _places(work, missing)
    for place in places:
        context.servers.evict_for(place)
    done, held = 0, None
    where = f" on {', '.join(places)}" if len(places) > 1 else ""
    context.progress.doing(f"making scorer {name} ready{where}", name)
    with context.control.at_once():
        scorer = scorer_replicas.create(kind, settings, places)
    context.progress.doing(f"scorer {name}: first batch", name)
    with closing(scorer):
        score = (
            _Judging(work, scorer).score
            if isinstance(scorer, scorer_kinds.Asking)
            else partial(work.score, scorer)
        )
        for page in work.pages(PAGE_EACH * len(places) if len(places) > 1 else PAGE):
            context.control.check()
            rest = page if work.spec.compares else work.without_twins(page)
            done += len(page) - len(rest)
            try:
                done += score(rest) if rest else 0
            except BudgetSpent as problem:
                held = problem  # the responses of other pages may be cheaper
    if held is not None:
        raise held
    return done


def _places(work: "_Work", missing: int) -> Sequence[str]:
    """The devices that the scorer has a copy on each; none where it has no model of its own."""
    if not work.has_model:
        return ()
    device = scorer_kind(work.spec.kind).settings.model_fields["device"].default
    places = work.context.places(work.spec.settings.get("device", device))
    return places[: 1 if work.spec.compares else max(1, missing // WORTH)]


class _Work:
    """The responses that one scorer is to score; see `score_missing`."""

    def __init__(
        self, context: RunContext, name: str, splits: Sequence[Split], plan_ids: Sequence[int] | None
    ) -> None:
        self.context, self.name, self.spec = context, name, context.identity.scorer(name)
        self.scorer_id = scorer_ids.scorer_id(context, name)
        self._scored = replace(scorer_ids.scored(context, self.scorer_id, splits), plan_ids=plan_ids)
        self._attempts = context.run.generation.max_attempts if scorer_kinds.costs(self.spec.kind) else 1
        self.has_model = "device" in scorer_kind(self.spec.kind).settings.model_fields
        """Whether its scores come from a model in this program, whose time goes by the length of what it reads."""

    def expect(self) -> int:
        """How many responses lack a score; tells the progress that, and how much reading they take."""
        store, missing, characters = self.context.store, self.count(), None
        if self.has_model and missing:
            characters = scores.pending_characters(store, self._scored, reasoning=self.spec.sees_reasoning)
        usable, _ = scores.count(store, self._scored)
        if usable:
            self.context.progress.expect(
                usable, done=usable - missing, row=self.name, unit="scores", work=characters or None
            )
        return missing

    def count(self) -> int:
        """How many responses lack a score now."""
        return scores.count_pending(self.context.store, self._scored, max_attempts=self._attempts)

    def pages(self, size: int) -> Iterator[Sequence[Scorable]]:
        """Those responses, so many at a time; the ones whose score failed come again in the next pass."""
        for left in reversed(range(self._attempts)):
            yield from self._once(size)
            if not left or not self.count():
                return

    def _once(self, size: int) -> Iterator[Sequence[Scorable]]:
        after, whole = (-1, 0), self.spec.compares
        while page := scores.pending(
            self.context.store,
            self._scored,
            after=after,
            limit=size,
            whole=whole,
            max_attempts=self._attempts,
        ):
            if len(page) == size:
                # The last prompt's responses may go on behind the page; they are compared, and share its encoding.
                page = [row for row in page if row.ordinal < page[-1].ordinal] or page
            after = (page[-1].ordinal, page[-1].teacher_id)
            yield page

    def items(self, rows: Sequence[Scorable]) -> list[tuple[Prompt, str]]:
        """What a scorer is shown."""
        if self.spec.sees_reasoning:
            return [(row.prompt, with_reasoning(row.reasoning, row.text)) for row in rows]
        return [(row.prompt, row.text) for row in rows]

    def without_twins(self, page: Sequence[Scorable]) -> Sequence[Scorable]:
        """The responses that are not word for word another teacher's to the same prompt; the others get its score.

        It would be theirs anyway, but for the last digits of a likelihood, which must not decide between them.
        """
        seeing, context = self.spec.sees_reasoning, self.context
        ids = list(dict.fromkeys(row.prompt.id for row in page if row.prompt.id is not None))
        known = {
            (prompt, text, reasoning if seeing else ""): score
            for prompt, text, reasoning, score in reversed(scores.twins(context.store, self.scorer_id, ids))
        }
        rest, alike, characters = [], [], 0
        for row in page:
            score = known.get((row.prompt.id or 0, row.text, row.reasoning if seeing else ""))
            if score is None:
                rest.append(row)
                continue
            if "cost" in score.detail:  # paid for once
                score = replace(score, count=0, detail={**score.detail, "cost": 0.0})
            alike.append((row.response_id, score))
            characters += len(row.text) + (len(row.reasoning) if seeing else 0)
        if alike:
            scores.add(context.store, context.lease, self.scorer_id, alike)
            context.progress.advance(len(alike), row=self.name, work=characters)
        return rest

    def score(self, scorer: scorer_kinds.Scorer, rows: Sequence[Scorable]) -> int:
        """How many new scores these responses got from a scorer in this process; equal ones are scored once.

        Scores are stored and shown as they come; a stop is heard between any two, and within a forward pass.
        """
        context, alike = self.context, dict[tuple[int | None, str], tuple[tuple[Prompt, str], list[int]]]()
        for row, (prompt, text) in zip(rows, self.items(rows), strict=True):
            alike.setdefault((prompt.id, text), ((prompt, text), []))[1].append(row.response_id)
        distinct = list(alike.values())
        writer = BatchWriter[tuple[int, Score]](
            lambda pairs: scores.add(context.store, context.lease, self.scorer_id, pairs)
        )
        try:
            for place, score in scorer.scores([item for item, _ in distinct], context.control.cancelled):
                (_, text), ids = distinct[place]
                for response_id in ids:
                    writer.add((response_id, score), LOCAL_S)
                context.progress.advance(
                    len(ids), tokens=score.count or 0, row=self.name, work=len(ids) * len(text)
                )
                writer.flush_if_due()
                context.control.check()
        finally:
            writer.flush()
        return len(rows)


@dataclass(frozen=True, slots=True)
class _Ended:
    """The thread has nothing more to put."""

    error: BaseException | None


_Came = Verdict | tuple[int, Score]
_Row = stored_verdicts.Verdict | tuple[int, Score]


class _Judging:
    """Scores responses by a scorer that asks an endpoint; the one writer of what the scorer's thread brings."""

    def __init__(self, work: _Work, scorer: scorer_kinds.Asking) -> None:
        context = self._context = work.context
        self._work, self._scorer, self._budget = work, scorer, spending.budget(context)
        self._proven = scores.any_by(context.store, work.scorer_id)
        self._attempts = context.run.generation.max_attempts
        """What an unreadable verdict counts: it has had its tries, and a run that allows more asks once more."""
        self._new = 0
        self._writer = BatchWriter[_Row](self._commit)

    def score(self, rows: Sequence[Scorable]) -> int:
        """How many new scores these responses got.

        Raises:
            NeedsAttention: the endpoint cannot be asked; what came before is stored.
            BudgetSpent: likewise, the budget holds requests back.
        """
        self._new = 0
        ids = [row.response_id for row in rows]
        where = (self._context.store, self._context.lease, self._work.scorer_id, ids)
        failed = useless = False
        try:
            for came in self._asked(rows):
                if isinstance(came, Verdict):
                    other = 0 if came.second is None else ids[came.second]
                    verdict = stored_verdicts.Verdict(ids[came.first], other, came.completion, came.cost)
                    self._writer.add(verdict, SERVED_S)
                elif came is not None:
                    place, score = came
                    if score.status == "unreadable":
                        score = replace(score, detail={**score.detail, "attempts": self._attempts})
                    failed |= score.status == "error"
                    self._writer.add((ids[place], score), SERVED_S)
                self._writer.flush_if_due()
        except EndpointError as problem:
            useless = isinstance(problem, UselessReplies)
            raise NeedsAttention(
                f"quality: {problem.message}\nall other verdicts are stored", problem.remedy
            ) from problem
        finally:
            self._writer.flush()
            if useless:
                stored_verdicts.void(*where)
        if not failed:
            stored_verdicts.forget(*where)
        return self._new

    def _commit(self, rows: Sequence[_Row]) -> None:
        said = [row for row in rows if isinstance(row, stored_verdicts.Verdict)]
        scored = [row for row in rows if not isinstance(row, stored_verdicts.Verdict)]
        context, scorer_id = self._context, self._work.scorer_id
        new = stored_verdicts.add(context.store, context.lease, scorer_id, said, scored)
        context.progress.advance(
            new, tokens=sum(score.count or 0 for _, score in scored), row=self._work.name
        )
        self._new += new

    def _known(self, rows: Sequence[Scorable]) -> list[Verdict]:
        """What was said of these responses before a kill or a stop."""
        place = {row.response_id: number for number, row in enumerate(rows)}
        return [
            Verdict(place[said.response_id], place.get(said.other_id), said.reply, said.cost)
            for said in stored_verdicts.of(self._context.store, self._work.scorer_id, list(place))
            if not said.other_id or said.other_id in place
        ]

    def _asked(self, rows: Sequence[Scorable]) -> Iterator[_Came | None]:
        """From a thread, so that a stop is seen while a server is waited for; what had come by then is given too.

        None now and then, where nothing has come.
        """
        out: queue.SimpleQueue[_Came | _Ended] = queue.SimpleQueue()
        items, known = self._work.items(rows), self._known(rows)

        def work() -> None:
            error: BaseException | None = None
            try:
                for found in self._scorer.verdicts(items, self._budget, known, proven=self._proven):
                    out.put(found)
            except BaseException as problem:
                error = problem
            out.put(_Ended(error))

        Thread(target=work, name=f"scorer {self._work.name}", daemon=True).start()
        stopped: BaseException | None = None
        while True:
            try:
                item = out.get(timeout=self._writer.left)
            except queue.Empty:
                item = None
            self._context.progress.traffic(self._work.name, self._scorer.traffic())
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
