"""Filling the store with teachers' responses: the part that calibrate and generate share."""

import queue
from collections import Counter
from collections.abc import Sequence
from threading import Event

from engine.base.errors import BudgetSpent, Cancelled, NeedsAttention, PersynError
from engine.config.kinds import teacher_kind
from engine.generation import speeds
from engine.generation.workers import (
    QUEUE,
    Commit,
    Ended,
    Item,
    Responded,
    TeacherWorker,
    Unusable,
    Work,
    share,
)
from engine.job import spending
from engine.job.batch_writer import LOCAL_S, LOOK_S, SERVED_S, BatchWriter
from engine.job.context import RunContext
from engine.models.endings import ENDINGS
from engine.teachers.cost import cost
from storage import responses
from storage.records import NewResponse

PAGE = 2000
MOST_WORDS = 20
"""Unknown words for the end of a response that are told apart, for each teacher."""


def fill(context: RunContext, works: Sequence[Work]) -> None:
    """Asks teachers for every response that is missing.

    Endpoints are asked side by side, and beside the local models, which take turns where they share a place.
    Responses are committed in batches of up to 500 rows as they come, within 0.05 s those of servers and within 2 s
    those of models in this process; a kill loses only the requests in flight and the last batch. Errors are stored
    as typed rows and asked for again at most `generation.max_attempts` times.

    Raises:
        NeedsAttention: a teacher's endpoint cannot be used; the others have given all their responses.
        BudgetSpent: the run's budget holds requests back; all that it allows is stored.
    """
    missing = {work.column: work.count() for work in works}
    asked = [work for work in works if missing[work.column]]
    shares = share(context.teachers, asked)
    lanes = {work.column: lane for lane, some in enumerate(shares) for work in some}
    known = speeds.measured(context.store, [context.teachers[work.column] for work in asked])
    for work in works:
        row = context.teachers[work.column].name
        context.progress.expect(
            work.done + missing[work.column],
            done=work.done,
            row=row,
            unit="responses",
            lane=lanes.get(work.column, 0),
            known=known[row].answers_per_second if row in known else None,
        )
    if not asked:
        return
    context.progress.flush()
    Collector(context, shares).run()


class Collector:
    """The one writer of what the lanes bring."""

    def __init__(self, context: RunContext, shares: Sequence[Sequence[Work]]) -> None:
        self._context = context
        self._out: queue.Queue[Item] = queue.Queue(QUEUE)
        self._stop = Event()
        budget = spending.budget(context)
        self._lanes = [TeacherWorker(context, lane, self._out, self._stop, budget) for lane in shares]
        works = sorted((work for lane in shares for work in lane), key=lambda work: work.column)
        self._done = {work.column: work.done for work in works}
        self._stored = {work.column: 0 for work in works}
        self._failed = dict(self._stored)
        """Of these, errors, asked for again included."""
        self._writer = BatchWriter[NewResponse](
            lambda rows: responses.add(context.store, context.lease, rows)
        )
        self._unknown_ends = {work.column: Counter[str]() for work in works}
        """Of each teacher, the words for the end of a response that nobody knows."""
        self._marks = {work.column: Counter[str]() for work in works}
        """Of each teacher, what set reasoning apart."""
        self._unusable: list[PersynError] = []
        self._unbounded: set[int] = set()
        """Teachers that were said to give more tokens than they are allowed."""

    def run(self) -> None:
        """Starts the lanes and writes until the last one has ended; see `fill`."""
        for lane in self._lanes:
            lane.start()
        self._context.control.take_concurrency_changes()  # what was asked of an earlier fill
        try:
            while self._lanes:
                self._take()
                self._pace()
                if self._writer.flush_if_due():
                    self._context.control.check()
            self._writer.flush()
        except Exception as problem:
            if isinstance(problem, Cancelled):
                try:
                    self._drain()
                except Exception:
                    self._wind_up()
                    raise
            self._wind_up()
            raise
        self._say()
        spent = [problem for problem in self._unusable if isinstance(problem, BudgetSpent)]
        if spent:
            raise spent[0]
        if self._unusable:
            raise NeedsAttention(
                "\n".join(problem.message for problem in self._unusable)
                + f"\nall other responses of `{self._context.progress.stage}` are stored",
                self._unusable[0].remedy,
            )

    def _take(self, *, stopping: bool = False) -> None:
        try:
            item = self._out.get(timeout=self._writer.left)
        except queue.Empty:
            if not stopping:
                self._context.control.check()
        else:
            self._handle(item)
        for lane in self._lanes:
            self._show(lane)

    def _show(self, lane: TeacherWorker) -> None:
        name = self._context.teachers[lane.column].name
        self._context.progress.works_on(name)
        for column, tokens in lane.made().items():
            self._context.progress.advance(0, tokens=tokens, row=self._context.teachers[column].name)
        if lane.opening:
            self._context.progress.doing(f"making {name} ready", name)
        if (traffic := lane.traffic()) is not None:
            self._context.progress.traffic(name, traffic)
        if gauges := lane.gauges():
            answered = self._done[lane.column] + self._stored[lane.column]
            self._context.progress.values(answered, {f"{name} {gauge}": gauges[gauge] for gauge in gauges})

    def _pace(self) -> None:
        """Does what the operator asked of how much is asked at a time."""
        for name, steps in self._context.control.take_concurrency_changes().items():
            asked = (lane for lane in self._lanes if self._context.teachers[lane.column].name == name)
            lane = next(asked, None)
            if steps and lane is not None and (turned := lane.pace(steps)) is not None:
                before, after = turned
                held = ", and stays there" if after < before else ""
                self._context.progress.say(
                    f"teacher `{name}`: {after:,} requests may be in flight instead of {before:,}, as the operator "
                    f"asked{held}"
                )

    def _handle(self, item: Item) -> None:
        if isinstance(item, Responded):
            self._add(item)
        elif isinstance(item, Commit):
            self._writer.flush()
            item.stored.set()
        elif isinstance(item, Unusable):
            self._skip(item.error)
        else:
            self._end(item)

    def _add(self, item: Responded) -> None:
        teacher, response = self._context.teachers[item.column], item.response
        teacher_id, sha = self._context.generations[item.column]
        kind, bound = teacher_kind(teacher.backend), teacher.sampling.max_tokens
        beyond = kind.remote and response.completion_tokens > 2 * bound
        if beyond and item.column not in self._unbounded:
            self._unbounded.add(item.column)
            self._context.progress.say(
                f"teacher `{teacher.name}` reports {response.completion_tokens:,} tokens for a response of at most "
                f"{bound:,}: it does not keep to the bound, so its dollars may go beyond the budget",
                "warning",
            )
        self._writer.add(
            NewResponse(
                prompt_id=response.key,
                teacher_id=teacher_id,
                generation_sha=sha,
                response=response,
                cost=cost(teacher, response),
                job_id=self._context.lease.job_id,
            ),
            SERVED_S if kind.served else LOCAL_S,
        )
        self._stored[item.column] += 1
        self._failed[item.column] += response.status == "error"
        if response.mark:
            self._marks[item.column][response.mark] += 1
        if response.finish_reason not in ENDINGS:
            self._note_end(item.column, response.finish_reason)
        self._context.progress.advance(tokens=item.tokens, row=teacher.name, status=response.status)

    def _note_end(self, column: int, word: str) -> None:
        """Counts a word for the end of a response that nobody knows; says each once."""
        counted, teacher = self._unknown_ends[column], self._context.teachers[column]
        if word not in counted and len(counted) < MOST_WORDS:
            where = "`endpoint`" if teacher_kind(teacher.backend).generates else "its `imported` source"
            self._context.progress.say(
                f"teacher `{teacher.name}`: finish_reason {word!r} is not known, so what ends with it counts as cut "
                f"off; if it means a whole response, say `finish_reasons: {{{word}: stop}}` in {where}",
                "warning",
            )
        counted[word if word in counted or len(counted) < MOST_WORDS else "others"] += 1

    def _end(self, item: Ended) -> None:
        self._lanes.remove(item.lane)
        self._show(item.lane)
        if isinstance(item.error, BudgetSpent):
            self._skip(item.error)
        elif item.error is not None:
            raise item.error

    def _skip(self, problem: PersynError) -> None:
        self._unusable.append(problem)
        self._context.progress.say(problem.message, "warning")

    def _drain(self) -> None:
        """Lets what is in flight at endpoints come, and stores it, for as long as the operator waits."""
        for lane in self._lanes:
            lane.drain()
        if count := self._owed():
            self._context.progress.say(f"nothing more is sent; {count:,} responses in flight are waited for")
        while self._lanes and self._context.control.grace_left():
            self._take(stopping=True)
            self._writer.flush_if_due()
        if count := self._owed():
            self._context.progress.say(
                f"{count:,} responses in flight are given up, which their endpoints may bill; they are asked for again "
                "when the job goes on",
                "warning",
            )

    def _owed(self) -> int:
        return sum(lane.owed for lane in self._lanes)

    def _wind_up(self) -> None:
        """Stops the lanes and keeps what they had brought: it is paid for."""
        self._stop.set()
        for lane in self._lanes:
            lane.interrupt()
        while self._lanes:
            try:
                item = self._out.get(timeout=LOOK_S)
            except queue.Empty:
                for lane in self._lanes:
                    lane.interrupt()  # it may have begun to load a model since
                # One that was interrupted while it said that it had ended has not said so.
                self._lanes = [lane for lane in self._lanes if lane.is_alive()]
                continue
            if isinstance(item, Ended):
                self._lanes.remove(item.lane)
            elif isinstance(item, Responded):
                self._add(item)
        self._writer.flush()

    def _say(self) -> None:
        for column, count in self._stored.items():
            failed, marks, ends = self._failed[column], self._marks[column], self._unknown_ends[column]
            parts = [
                f"{self._context.teachers[column].name} gave {count - failed:,} responses",
                f"{failed:,} requests failed" if failed else "",
                f"reasoning was taken out of {marks.total():,} ({_listed(marks)})" if marks else "",
                f"{ends.total():,} ended in a way that is not known ({_listed(ends)})" if ends else "",
            ]
            if count:
                self._context.progress.say(
                    f"{self._context.progress.stage}: {'; '.join(filter(None, parts))}"
                )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{word}: {count:,}" for word, count in counts.most_common())
