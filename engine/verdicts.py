"""Filling the store with scores: shared by the stage `score` and by the scoring of dataset rows.

Verdicts of a scorer that asks an endpoint are stored as they come: a kill loses only what is in flight.
"""

import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Thread

from engine import scorers, scoring, spending
from engine.budget import Budget
from engine.context import Context
from engine.errors import EndpointError, NeedsAttention
from engine.generation import COMMIT_ROWS, COMMIT_S
from storage import scores
from storage.records import Scorable, Split, Verdict

PAGE = 2000
_LOOK_S = 0.25


def fill(context: Context, name: str, splits: Sequence[Split], plan_ids: Sequence[int] | None = None) -> int:
    """Number of new scores after scoring every usable answer that lacks one by this scorer.

    Args:
        name: the scorer.
        splits: which prompts' answers.
        plan_ids: only answers that these plans assign; None for the answers of every teacher.
    """
    kind, settings = context.scorer_kind(name), context.scorer_settings(name)
    whole = scorers.compares(kind, settings)
    scorer = scoring.scorer_id(context, name)
    where = (context.store, scorer, context.generations, context.prompt_set, splits)
    missing = scores.count_pending(*where, plan_ids=plan_ids)
    context.progress.expect(missing, row=name, unit="answers")
    if not missing:
        return 0
    context.progress.flush()
    done = 0
    module = scorers.load(kind)
    if (device := {**module.DEFAULTS, **settings}.get("device")) is not None:
        context.servers.make_room(device)
    with closing(module.create(settings)) as model:
        asked = (
            _Asked(context, name, scorer, model, spending.budget(context))
            if isinstance(model, scorers.Asking)
            else None
        )
        after = (-1, 0)
        while page := scores.pending(*where, plan_ids=plan_ids, after=after, limit=PAGE, whole=whole):
            context.check()
            if whole and len(page) == PAGE:
                # The last prompt's answers may go on behind the page; they belong together.
                page = [row for row in page if row.ordinal < page[-1].ordinal] or page
            after = (page[-1].ordinal, page[-1].teacher_id)
            if asked is not None:
                done += asked.page(page)
                continue
            verdicts = model.score([(row.prompt, row.text) for row in page])
            rows = [(row.response_id, verdict) for row, verdict in zip(page, verdicts, strict=True)]
            scores.add(context.store, context.lease, scorer, rows)
            tokens = sum(verdict.count or 0 for verdict in verdicts)
            context.progress.advance(len(page), tokens=tokens, row=name)
            done += len(page)
    return done


@dataclass(frozen=True, slots=True)
class _Ended:
    """The thread has nothing more to put."""

    error: BaseException | None


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
        self, context: Context, name: str, scorer_id: int, scorer: scorers.Asking, budget: Budget
    ) -> None:
        self._context, self._name, self._scorer_id = context, name, scorer_id
        self._scorer, self._budget = scorer, budget
        self._rows: list[tuple[int, Verdict]] = []
        self._new = 0
        self._committed_at = time.monotonic()

    def page(self, rows: Sequence[Scorable]) -> int:
        """How many new scores these answers got.

        Raises:
            NeedsAttention: the endpoint cannot be asked; what came before is stored.
            BudgetSpent: likewise, the budget holds requests back.
        """
        self._new = 0
        try:
            for found in self._verdicts(rows):
                if found is not None:
                    self._rows.append((rows[found[0]].response_id, found[1]))
                if len(self._rows) >= COMMIT_ROWS or time.monotonic() - self._committed_at > COMMIT_S:
                    self._commit()
        except EndpointError as problem:
            raise NeedsAttention(
                f"quality: {problem.message}\nall other verdicts are stored", problem.remedy
            ) from problem
        finally:
            self._commit()
        return self._new

    def _verdicts(self, rows: Sequence[Scorable]) -> Iterator[tuple[int, Verdict] | None]:
        """From a thread, so that a stop is seen while a server is waited for; what had come by then is given too.

        None now and then, where nothing has come.
        """
        out: queue.SimpleQueue[tuple[int, Verdict] | _Ended] = queue.SimpleQueue()

        def work() -> None:
            error: BaseException | None = None
            try:
                for found in self._scorer.verdicts([(row.prompt, row.text) for row in rows], self._budget):
                    out.put(found)
            except BaseException as problem:
                error = problem
            out.put(_Ended(error))

        Thread(target=work, name=f"scorer {self._name}", daemon=True).start()
        stopped: BaseException | None = None
        while True:
            try:
                item = out.get(timeout=_LOOK_S)
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
                    self._context.check()
                except BaseException as problem:
                    stopped = problem
                    self._scorer.close()

    def _commit(self) -> None:
        rows, self._rows = self._rows, []
        self._committed_at = time.monotonic()
        new = scores.add(self._context.store, self._context.lease, self._scorer_id, rows)
        tokens = sum(verdict.count or 0 for _, verdict in rows)
        self._context.progress.advance(new, tokens=tokens, row=self._name)
        self._new += new
