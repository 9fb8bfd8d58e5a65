"""Threads that ask teachers: endpoints side by side, local models one after another where they share a place.

A lane asks its teachers in turn and puts what comes into the one queue that `engine.generation.collector` writes from.
"""

import ctypes
import queue
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

from engine.base.errors import BudgetSpent, EndpointError
from engine.config.kinds import teacher_kind
from engine.job.context import RunContext
from engine.models.chat_template import with_system
from engine.teachers import teacher_kinds
from engine.teachers.cost import Budget, at_most, cents, cost
from engine.teachers.traffic import Traffic
from storage.records import Model, Prompt, Request, Response

QUEUE = 512
"""Responses that may wait for the writer."""

Pending = Callable[[int], list[tuple[int, Prompt]]]
"""From a place to go on after, the next (place, prompt) pairs that lack a response; empty at the end."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one teacher is to be asked."""

    column: int
    """The teacher's place in `RunContext.teachers`."""
    pending: Pending
    count: Callable[[], int]
    """How much is missing now."""
    done: int = 0
    """How much was there before, for the progress shown."""


@dataclass(frozen=True, slots=True)
class Responded:
    """A response on its way to the store."""

    column: int
    response: Response
    tokens: int
    """Those that the lane has not told of while they were made; see `TeacherWorker.made`."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Asks the writer to store all that was put before, and to say so."""

    stored: Event = field(default_factory=Event)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A teacher cannot be asked; its lane goes on to the next one."""

    error: EndpointError


@dataclass(frozen=True, slots=True)
class Ended:
    """A lane has nothing more to put."""

    lane: "TeacherWorker"
    error: BaseException | None


Item = Responded | Commit | Unusable | Ended


class Stopped(BaseException):
    """The writer wants no more. No Exception: what loads a model catches some of those and goes on."""


def share(teachers: Sequence[Model], works: Sequence[Work]) -> list[list[Work]]:
    """The works of each lane: an endpoint has its own; local models take turns, unless each names its GPUs.

    Then those that have none in common answer side by side.
    """
    local = [work for work in works if not teacher_kind(teachers[work.column].backend).remote]
    lanes = [[work] for work in works if teacher_kind(teachers[work.column].backend).remote]
    places = {
        work.column: set(teachers[work.column].options.get("server", {}).get("gpus", ())) for work in local
    }
    if not all(places.values()):
        return [local, *lanes]
    groups: list[tuple[set[int], list[Work]]] = []
    for work in local:
        gpus, together = places[work.column], [work]
        for group in [group for group in groups if group[0] & gpus]:
            groups.remove(group)
            gpus, together = gpus | group[0], [*together, *group[1]]
        groups.append((gpus, together))
    in_order = [sorted(group, key=lambda work: work.column) for _, group in groups]
    return [*in_order, *lanes]


class TeacherWorker(Thread):
    """Asks teachers one after another."""

    def __init__(
        self,
        context: RunContext,
        works: Sequence[Work],
        out: "queue.Queue[Item]",
        stop: Event,
        budget: Budget,
    ) -> None:
        super().__init__(name="lane", daemon=True)
        self._context, self._out, self._stop_asked, self._budget = context, out, stop, budget
        self._works = sorted(works, key=lambda work: context.servers.rank(context.teachers[work.column]))
        self.column = self._works[0].column
        """The teacher that is being asked."""
        self.backend: teacher_kinds.Backend | None = None
        self._drain_asked = Event()
        self._counting, self._made = Lock(), Counter[int]()
        """Teacher → tokens that its backend has made since the writer asked."""
        self.opening = False
        """Whether the backend is being made ready, such as a model that is loaded."""
        self._loading = False
        """Whether what is made ready is a model in this process."""
        self._retries_before = 0
        """What the backend had counted when this lane got it: its server may have been kept."""

    def run(self) -> None:
        """Asks until nothing is missing; how it ended is put last."""
        error: BaseException | None = None
        try:
            for work in self._works:
                try:
                    self._fill(work)
                except EndpointError as problem:
                    self._put(Unusable(problem))
        except Stopped:
            pass
        except BaseException as problem:
            error = problem
        self._out.put(Ended(self, error))

    def traffic(self) -> Traffic | None:
        """Where the requests of the teacher being asked are; None for a local one."""
        if not isinstance(self.backend, teacher_kinds.Remote):
            return None
        found = self.backend.traffic()
        return found._replace(retries=found.retries - self._retries_before)

    def pace(self, steps: int) -> tuple[int, int] | None:
        """(requests that might be in flight, those that may from now on): twice or half as many for each step.

        What the operator lowered stays the most until it is raised again, through all of the job. None where the
        teacher is not asked through an endpoint now.
        """
        traffic = self.traffic()
        if traffic is None or not traffic.allowed or not isinstance(self.backend, teacher_kinds.Paced):
            return None
        after = max(1, min(int(traffic.allowed * 2.0**steps), traffic.most))
        name = self._context.teachers[self.column].name
        self._context.control.concurrency.pop(name, None)
        if steps < 0:
            self._context.control.concurrency[name] = after
        self.backend.pace(after, keep=steps < 0)
        return traffic.allowed, after

    def made(self) -> Mapping[int, int]:
        """Teacher → tokens of responses that are not whole, since the last call; not where whole ones are counted."""
        with self._counting:
            made, self._made = self._made, Counter()
        return made

    def _count(self, tokens: int) -> None:
        with self._counting:
            self._made[self.column] += tokens

    def gauges(self) -> Mapping[str, float]:
        """What the server of the teacher being asked has measured since the last call."""
        return self.backend.gauges() if isinstance(self.backend, teacher_kinds.Metered) else {}

    def drain(self) -> None:
        """Sends nothing more to an endpoint, and ends with the responses in flight there; else as `interrupt`."""
        self._drain_asked.set()
        if isinstance(self.backend, teacher_kinds.Draining):
            self.backend.drain()
        else:
            self.interrupt()

    @property
    def owed(self) -> int:
        """Requests at an endpoint whose responses `drain` lets come."""
        backend = self.backend
        return backend.traffic().in_flight if isinstance(backend, teacher_kinds.Draining) else 0

    def interrupt(self) -> None:
        """Ends the requests to an endpoint, the batch of a local model, or its loading; may be asked again."""
        if isinstance(self.backend, teacher_kinds.Remote):
            self.backend.close()
        elif isinstance(self.backend, teacher_kinds.Interruptible):
            self.backend.interrupt()
        elif self._loading and self.ident is not None:
            # What loads a model for minutes asks nobody.
            stopped = ctypes.py_object(Stopped)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), stopped)

    def _fill(self, work: Work) -> None:
        """Asks for what is missing, and again for errors; attempts are bounded in the store as well."""
        self.backend = None  # so that no traffic is shown for the teacher before
        self.column, passes = work.column, 0
        teacher = self._context.teachers[work.column]
        if not work.count():
            return
        self.opening = True
        placed = self._context.placed(teacher)
        self._context.servers.make_room_for(placed)  # apart: a server that is ended is not left half-way
        self._loading = teacher_kind(teacher.backend).in_process
        self._check()
        with self._context.servers.backend(placed) as self.backend:
            self.opening = self._loading = False
            if isinstance(self.backend, teacher_kinds.Observable):
                self.backend.observe(self._count, self._stop_asked.is_set)
            self._check()  # a stop that came before `interrupt` or `drain` could find this backend
            self._retries_before = (
                self.backend.traffic().retries if isinstance(self.backend, teacher_kinds.Remote) else 0
            )
            if (most := self._context.control.concurrency.get(teacher.name)) and isinstance(
                self.backend, teacher_kinds.Paced
            ):
                self.backend.pace(most, keep=True)
            while passes < self._context.run.generation.max_attempts and work.count():
                held = self._pass(work, teacher, self.backend)
                commit = Commit()
                self._put(commit)
                while not commit.stored.wait(0.25):
                    self._check()
                if held is None:
                    passes += 1
                elif not self._budget.wait(held, self._stops):
                    self._check()
                    raise BudgetSpent(
                        f"generation.budget_usd: ${self._budget.spent:,.4f} of ${self._budget.limit:,.4f} spent; "
                        f"the next request to `{teacher.name}` may cost ${held:,.4f}",
                        f"raise `generation.budget_usd` in the run file to {cents(self._budget.spent + held)} or more "
                        "and run the same command again",
                    )

    def _pass(self, work: Work, teacher: Model, backend: teacher_kinds.Backend) -> float | None:
        """Dollars of the request that the budget held back; None when all that was missing was asked for."""
        reserved: dict[int, float] = {}
        held: list[float] = []

        def requests() -> Iterator[Request]:
            for request in self._requests(work, teacher):
                dollars = at_most(teacher, request)
                if not self._budget.reserve(dollars):
                    held.append(dollars)
                    return
                reserved[request.key] = dollars
                yield request

        try:
            for response in backend.generate(requests()):
                self._budget.settle(reserved.pop(response.key), cost(teacher, response))
                told = isinstance(backend, teacher_kinds.Observable)
                self._out.put(Responded(work.column, response, 0 if told else response.completion_tokens))
                if self._stop_asked.is_set():
                    raise Stopped
        finally:
            for dollars in reserved.values():
                self._budget.settle(dollars, 0.0)
        return held[0] if held else None

    def _requests(self, work: Work, teacher: Model) -> Iterator[Request]:
        place = -1
        while page := work.pending(place):
            for place, prompt in page:  # noqa: B007 — the last place is where the next page begins
                if prompt.id is None:
                    raise ValueError("a stored prompt has an id")
                yield Request(prompt.id, with_system(teacher.system, prompt.messages), teacher.sampling)
            self._check()

    def _put(self, item: Item) -> None:
        self._out.put(item)
        self._check()

    def _stops(self) -> bool:
        return self._stop_asked.is_set() or self._drain_asked.is_set()

    def _check(self) -> None:
        if self._stops():
            raise Stopped
