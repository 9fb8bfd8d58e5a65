"""How a running stage tells the world where it stands.

One `Progress` per job. At most four times a second it hands a snapshot of the stage's counters to its sink, which
stores it and shows it. Counts of what is already there are given at the start, so that rate and ETA speak only of the
work of this process.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol

from engine.job.meter import Meter
from engine.teachers.traffic import Traffic
from storage.job_records import EventKind

INTERVAL_S = 0.25

Metric = tuple[str, str, int, float]
"""(stage, name, step, value)."""


@dataclass
class Row:
    """Counters of one teacher, strategy or other part of a stage."""

    done: int = 0
    total: int = 0
    tokens: int = 0
    note: str = ""
    in_flight: int = 0
    """Requests sent to an endpoint and not answered."""
    allowed: int = 0
    """How many may be in flight now; 0 where nothing is asked through an endpoint."""
    most: int = 0
    """How many the run file allows."""
    held: str = ""
    """Why fewer than that may be; empty where nothing stands in their way."""
    retries: int = 0
    """Requests sent to an endpoint again, since its work was last counted."""
    counts: dict[str, int] = field(default_factory=dict)
    tokens_per_second: float | None = None
    """Over the last 20 s; None while nothing moves, once all is done, and before and after its turn."""
    eta_s: float | None = None
    """Of its own work, from the speed that the stage's ETA counts with too; None where `tokens_per_second` is."""


@dataclass(frozen=True)
class Snapshot:
    """What a screen shows of a stage at one moment."""

    stage: str = ""
    unit: str = ""
    done: int = 0
    total: int = 0
    rate: float | None = None
    """Units per second over the last 20 s; None before there is one."""
    tokens_per_second: float | None = None
    """Of the rows that move now."""
    eta_s: float | None = None
    """Of the stage: no shorter than that of any row which is worked on beside the others."""
    rows: Mapping[str, Row] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    """Latest metrics: loss, learning rate, Hit@1 …; those given last are last."""
    rough: bool = False
    """The ETA takes rows of unknown speed for as fast as the others."""
    doing: str = ""
    """What is done while nothing can be counted, such as loading a model; empty while something is."""
    doing_s: float = 0.0
    """For how long."""
    retries: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Stage → row → requests sent to an endpoint again: of all stages so far, by whatever process."""

    def as_json(self) -> dict[str, Any]:
        """The snapshot as the store keeps it."""
        return asdict(self)


_OF_ROW, _OF_SNAPSHOT = ({field.name for field in fields(record)} for record in (Row, Snapshot))


def from_json(data: Mapping[str, Any]) -> Snapshot:
    """The snapshot that `Snapshot.as_json` described, of an engine of another version too."""
    rows = {
        name: Row(**{key: value for key, value in row.items() if key in _OF_ROW})
        for name, row in data.get("rows", {}).items()
    }
    return Snapshot(**{key: value for key, value in data.items() if key in _OF_SNAPSHOT} | {"rows": rows})


class Sink(Protocol):
    """Where a job's progress goes."""

    def publish(self, snapshot: Snapshot, metrics: Sequence[Metric]) -> None:
        """Takes where the stage stands, and the metrics since the last time."""

    def say(self, kind: EventKind, message: str) -> None:
        """Takes one line that stays."""


class Nowhere:
    """The sink of who only looks at what is stored."""

    def publish(self, snapshot: Snapshot, metrics: Sequence[Metric]) -> None:
        """Does nothing."""

    def say(self, kind: EventKind, message: str) -> None:
        """Does nothing."""


@dataclass
class _Part:
    """A row, how fast it is, and its place among the others."""

    row: Row
    meter: Meter
    retried_before: int
    """Requests that an earlier work on this row sent again."""
    lane: int | None = None
    known: float | None = None
    """Units per second as measured in earlier runs."""
    begun: bool = False
    loading: bool = False
    """Its model is loaded, or was until its first unit: that time is not its speed's."""
    unit_of_work: float | None = None
    """Units that one piece of work makes; None where only whole units are counted."""
    done_before: int = 0

    @property
    def left(self) -> float:
        """Units, begun ones in part where work is counted."""
        if self.unit_of_work is None:
            return self.row.total - self.row.done
        return max(0.0, self.row.total - self.done_before - self.meter.made)

    def speed(self, now: float) -> float | None:
        """Units per second to tell the future by; None where nothing is known."""
        own = self.meter.speed(now)[0] or self.meter.overall
        return (own if self.meter.settled(now) else None) or self.known

    def stands(self, now: float) -> bool:
        """Whether its endpoint gives nothing now: it refuses, or nothing is asked of it."""
        stuck = bool(self.row.note) or (self.row.allowed > 0 and self.row.in_flight == 0)
        return stuck and self.meter.quiet(now)


class Progress:
    """Counts the work of the current stage.

    Args:
        sink: is given a snapshot every 0.25 s at most, and at the end of a stage.
        clock: seconds that never go back.
        retries: what an earlier process of the job had counted; see `Snapshot`.
    """

    def __init__(
        self,
        sink: Sink,
        clock: Callable[[], float] = time.monotonic,
        retries: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self._sink, self._clock = sink, clock
        self._retries = {stage: dict(rows) for stage, rows in (retries or {}).items()}
        self._metrics: list[Metric] = []
        self.begin("")

    def begin(self, stage: str) -> None:
        """Starts a stage with nothing counted."""
        self.stage, self.unit = stage, "prompts"
        self._parts: dict[str, _Part] = {}
        self._turns: dict[int, _Part] = {}
        """Lane → the row of it that is worked on."""
        self._values: dict[str, float] = {}
        self._tokens = 0
        self._doing, self._doing_since, self._counts = "", 0.0, True
        self._last = -INTERVAL_S

    @property
    def kept(self) -> dict[str, Any]:
        """What of the progress outlives its stage, as JSON: the next one begins with it."""
        return {"retries": {stage: dict(rows) for stage, rows in self._retries.items()}}

    def expect(
        self,
        total: int,
        *,
        done: int = 0,
        row: str = "",
        unit: str = "prompts",
        lane: int | None = None,
        known: float | None = None,
        work: float | None = None,
    ) -> None:
        """Sets what a row (or the stage) has to do, and how much of it was already there.

        Args:
            total: units in all.
            done: units that were there before.
            row: its name.
            unit: what is counted, in the plural.
            lane: rows of one lane are worked on one after the other, lanes side by side; a row of unknown speed is
                taken for as fast as the others. None: a row that differs in kind from the others.
            known: units per second as measured in earlier runs, for the time left until it has its own.
            work: what the units that are left take in all, in a measure that `advance` counts as it is done, such
                as tokens; None: a unit is done at once.
        """
        self.unit = unit
        part = self._part(row)
        part.row, part.meter, part.begun = Row(done=done, total=total), Meter(self._clock()), False
        part.loading = False
        part.retried_before = self._retries.get(self.stage, {}).get(row, 0)
        part.lane = part.lane if lane is None else lane
        part.known = part.known if known is None else known
        part.done_before, part.unit_of_work = done, (total - done) / work if work else None
        self._publish()

    def advance(
        self, made: int = 1, *, tokens: int = 0, row: str = "", status: str = "", work: float = 0.0
    ) -> None:
        """Counts `made` units of a row as done, and `work` as done on units that are not; see `expect`."""
        part = self._part(row)
        self._tokens += tokens
        self._counts = self._counts or bool(made or tokens or work)
        part.meter.add(made if part.unit_of_work is None else work * part.unit_of_work, tokens, self._clock())
        if part.loading and (made or tokens or work):
            part.loading = False
            part.meter.start(self._clock())
        part.row.done += made
        part.row.tokens += tokens
        if status:
            part.row.counts[status] = part.row.counts.get(status, 0) + made
        self._publish()

    def doing(self, what: str, row: str | None = None) -> None:
        """Says what is being done until something is counted; the same words go on from when they were first said.

        For while one teacher is made ready others may be counted.

        Args:
            what: for the operator.
            row: the one that is made ready, if any: the time until its first unit does not count for its speed.
        """
        if row is not None:
            self._part(row).loading = True
        if what != self._doing:
            self._doing, self._doing_since = what, self._clock()
        if self._counts:
            self._counts = False
            self.flush()

    def works_on(self, row: str) -> None:
        """Says that a row is worked on: the time that it has waited for its turn is not its own."""
        part = self._part(row)
        if part.lane is not None:
            self._turns[part.lane] = part
        if not part.begun:
            part.begun, part.meter = True, Meter(self._clock())
        if self._clock() - self._last >= 4 * INTERVAL_S:
            self._publish()  # nothing comes: the speeds fall

    def traffic(self, row: str, now: Traffic) -> None:
        """Says where a row's requests are; its retries count since `expect` was last called for the row."""
        part = self._part(row)
        for name, value in now._asdict().items():
            setattr(part.row, name, value)
        self._retries.setdefault(self.stage, {})[row] = part.retried_before + now.retries
        self._publish()

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Keeps metrics for a curve; they are persisted with the next snapshot.

        Of metrics named `part/metric` only those of the newest part stay in the snapshot.
        """
        parts = {name.partition("/")[0] for name in values if "/" in name}
        kept = {
            key: value
            for key, value in self._values.items()
            if key not in values and (not parts or "/" not in key or key.partition("/")[0] in parts)
        }
        self._values = {**kept, **values}
        self._metrics.extend((self.stage, name, step, float(value)) for name, value in values.items())
        self._publish()

    def say(self, message: str, kind: EventKind = "info") -> None:
        """Persists and shows one line."""
        self._sink.say(kind, message)

    @property
    def tokens(self) -> int:
        """Tokens counted since the stage began, by this process."""
        return self._tokens

    def flush(self) -> None:
        """Publishes at once, whatever the interval."""
        self._last = -INTERVAL_S
        self._publish()

    def snapshot(self) -> Snapshot:
        """Where the stage stands now."""
        now, parts = self._clock(), self._parts.values()
        in_lanes, rows, rates = any(part.lane is not None for part in parts), {}, list[float]()
        for name, part in self._parts.items():
            rate, speed = part.meter.speed(now) if self._moves(part, now) else (None, None)
            rates += [rate] if rate else []
            eta = _eta(part.left, part.speed(now) if rate and in_lanes else rate)
            rows[name] = replace(part.row, tokens_per_second=speed, eta_s=eta)
        eta, rough = self._eta_of_lanes(now) if in_lanes else (self._eta_of_kinds(now), False)
        return Snapshot(
            stage=self.stage,
            unit=self.unit,
            done=sum(part.row.done for part in parts),
            total=sum(part.row.total for part in parts),
            rate=sum(rates) or None,
            tokens_per_second=sum(row.tokens_per_second or 0 for row in rows.values()) or None,
            eta_s=eta,
            rows=rows,
            values=dict(self._values),
            rough=rough,
            doing="" if self._counts else self._doing,
            doing_s=0.0 if self._counts else now - self._doing_since,
            retries=self.kept["retries"],
        )

    def _part(self, row: str) -> _Part:
        if row not in self._parts:
            before = self._retries.get(self.stage, {}).get(row, 0)
            self._parts[row] = _Part(Row(), Meter(self._clock()), before)
        return self._parts[row]

    def _moves(self, part: _Part, now: float) -> bool:
        """Whether something may come of it: it is not done, it is its turn, and its endpoint does not stand."""
        return self._in_turn(part) and not part.stands(now) and (not part.row.total or part.left > 0)

    def _in_turn(self, part: _Part) -> bool:
        """Whether no other row of its lane is worked on."""
        return part.lane is None or self._turns.get(part.lane, part) is part

    def _eta_of_kinds(self, now: float) -> float | None:
        """Time left of rows that differ in kind; None while one has no speed of its own. Those that move share it."""
        left = [part for part in self._parts.values() if part.left > 0]
        times = [_eta(part.left, part.meter.speed(now)[0]) for part in left]
        moving = [time for time in times if time is not None]
        return max(moving, default=0.0) if len(moving) == len(times) else None

    def _eta_of_lanes(self, now: float) -> tuple[float | None, bool]:
        """(time left of the lane that takes longest, whether some row's speed is a guess)."""
        known = [speed for part in self._parts.values() if (speed := part.speed(now)) is not None]
        left = [part for part in self._parts.values() if part.left > 0]
        stands = any(part.row.note and part.stands(now) for part in left)
        begun = [part for part in left if part.meter.made and self._in_turn(part)]
        silent = bool(begun) and not any(self._moves(part, now) for part in left)
        silent = silent or (bool(begun) and all(part.meter.speed(now)[0] is None for part in begun))
        if not known or stands or silent:
            return (None if left else 0.0), False
        # Each unit as long as those of the others take on average.
        guess = len(known) / sum(1 / speed for speed in known)
        times: dict[int, float] = {}
        for part in left:
            lane = part.lane or 0
            times[lane] = times.get(lane, 0.0) + part.left / (part.speed(now) or guess)
        return max(times.values(), default=0.0), any(part.speed(now) is None for part in left)

    def _publish(self) -> None:
        now = self._clock()
        if now - self._last < INTERVAL_S:
            return
        self._last = now
        for part in self._parts.values():
            part.meter.mark(now)
        self._sink.publish(self.snapshot(), self._metrics)
        self._metrics = []


def _eta(left: float, rate: float | None) -> float | None:
    return left / rate if rate and left >= 0 else None
