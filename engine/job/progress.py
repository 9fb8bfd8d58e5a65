"""How a running stage tells the world where it stands.

One `Progress` per job. It writes the stage's counters into the store at most four times a second and hands
the same snapshot to a listener (the console of a foreground run). Counts of what is already there are given
at the start, so that rate and ETA speak only of the work of this process.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from storage.job_records import EventKind

WINDOW_S = 20.0
SETTLED, SETTLED_S = 4, 30.0
"""Units, or seconds, after which a row's speed is one to tell the future by: the first answer waits for its model."""
INTERVAL_S = 0.25
QUIET_S, QUIET_GAPS = 2.0, 3.0
"""Seconds, or usual times between two units, without one: then a row whose endpoint has nothing to answer stands."""


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


_OF_ROW = frozenset(field.name for field in fields(Row))


class Meter:
    """Units and tokens counted by this process, and how fast over the last 20 s.

    Args:
        now: seconds on a clock that never goes back.
    """

    def __init__(self, now: float) -> None:
        self.made = self.tokens = 0
        self._began = self._last = now
        self._marks: deque[tuple[float, int, int]] = deque([(now, 0, 0)])

    def add(self, made: int, tokens: int, now: float) -> None:
        """Counts."""
        self.made += made
        self.tokens += tokens
        self._last = now

    @property
    def overall(self) -> float | None:
        """Units per second from the beginning to the last one; None before there is one."""
        return self.made / (self._last - self._began) if self._last > self._began else None

    def settled(self, now: float) -> bool:
        """Whether its speed says something of what is left."""
        return self.made >= SETTLED or now - self._began >= SETTLED_S

    def quiet(self, now: float) -> bool:
        """Whether nothing came for longer than usual."""
        rate = self.speed(now)[0]
        return rate is None or now - self._last > max(QUIET_S, QUIET_GAPS / rate)

    def mark(self, now: float) -> None:
        """Remembers where the counts stand, and forgets what is older than the window."""
        self._marks.append((now, self.made, self.tokens))
        while len(self._marks) > 2 and now - self._marks[1][0] > WINDOW_S:
            self._marks.popleft()

    def speed(self, now: float) -> tuple[float | None, float | None]:
        """(units per second, tokens per second); None where nothing was counted in the window."""
        then, made, tokens = self._marks[0]
        elapsed = now - then
        if elapsed <= 0.2:
            return None, None
        return (self.made - made) / elapsed or None, (self.tokens - tokens) / elapsed or None


@dataclass(frozen=True)
class Snapshot:
    """What a screen shows of a stage at one moment."""

    stage: str
    unit: str
    done: int
    total: int
    rate: float | None
    """Units per second over the last 20 s; None before there is one."""
    tokens_per_second: float | None
    """Of the rows that move now."""
    eta_s: float | None
    """Of the stage: no shorter than that of any row which is worked on beside the others."""
    rows: Mapping[str, Row]
    values: Mapping[str, float]
    """Latest metrics: loss, learning rate, Hit@1 …; those given last are last."""
    rough: bool = False
    """The ETA takes rows of unknown speed for as fast as the others."""
    retries: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Stage → row → requests sent to an endpoint again: of all stages so far, by whatever process."""

    def as_json(self) -> dict[str, Any]:
        """The snapshot as the store keeps it."""
        return {
            "stage": self.stage,
            "unit": self.unit,
            "done": self.done,
            "total": self.total,
            "rate": self.rate,
            "tokens_per_second": self.tokens_per_second,
            "eta_s": self.eta_s,
            "rows": {name: vars(row) for name, row in self.rows.items()},
            "values": dict(self.values),
            "rough": self.rough,
            "retries": {stage: dict(rows) for stage, rows in self.retries.items()},
        }


def from_json(data: Mapping[str, Any]) -> Snapshot:
    """The snapshot that `Snapshot.as_json` described, of an engine of another version too."""
    rows = {
        name: Row(**{key: value for key, value in row.items() if key in _OF_ROW})
        for name, row in data.get("rows", {}).items()
    }
    return Snapshot(
        stage=data.get("stage", ""),
        unit=data.get("unit", ""),
        done=data.get("done", 0),
        total=data.get("total", 0),
        rate=data.get("rate"),
        tokens_per_second=data.get("tokens_per_second"),
        eta_s=data.get("eta_s"),
        rows=rows,
        values=data.get("values", {}),
        rough=data.get("rough", False),
        retries=data.get("retries", {}),
    )


class Progress:
    """Counts the work of the current stage.

    Args:
        store_snapshot: called at most every 0.25 s, and at the end of a stage, to persist a snapshot.
        store_metrics: persists rows of (stage, name, step, value).
        show: called with every persisted snapshot, for a console.
        say: persists and shows one line: (kind, message).
        clock: seconds that never go back.
        retries: what an earlier process of the job had counted; see `Snapshot`.
    """

    def __init__(
        self,
        store_snapshot: Callable[[Snapshot], None],
        store_metrics: Callable[[list[tuple[str, str, int, float]]], None],
        show: Callable[[Snapshot], None],
        say: Callable[[EventKind, str], None],
        clock: Callable[[], float] = time.monotonic,
        retries: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self._retries = {stage: dict(rows) for stage, rows in (retries or {}).items()}
        self._store_snapshot, self._store_metrics, self._show, self._say = (
            store_snapshot,
            store_metrics,
            show,
            say,
        )
        self._clock = clock
        self._metrics: list[tuple[str, str, int, float]] = []
        self.begin("")

    def begin(self, stage: str) -> None:
        """Starts a stage with nothing counted."""
        self.stage, self.unit = stage, "prompts"
        self._rows: dict[str, Row] = {}
        self._values: dict[str, float] = {}
        self._whole, self._meters = Meter(self._clock()), dict[str, Meter]()
        self._lanes, self._known, self._begun = dict[str, int](), dict[str, float](), set[str]()
        self._turns = dict[int, str]()
        self._retried_before = dict(self._retries.get(stage, {}))
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
    ) -> None:
        """Sets what a row (or the stage) has to do, and how much of it was already there.

        Args:
            total: units in all.
            done: units that were there before.
            row: its name.
            unit: what is counted, in the plural.
            lane: rows of one lane are worked on one after the other, lanes side by side; None: all at once.
            known: units per second as measured in earlier runs, for the time left until it has its own.
        """
        self.unit = unit
        self._begun.discard(row)
        if lane is not None:
            self._lanes[row] = lane
        if known is not None:
            self._known[row] = known
        self._rows[row] = Row(done=done, total=total)
        self._retried_before[row] = self._retries.get(self.stage, {}).get(row, 0)
        self._meters[row] = Meter(self._clock())
        self._publish()

    def advance(self, made: int = 1, *, tokens: int = 0, row: str = "", status: str = "") -> None:
        """Counts `made` units of a row as done."""
        entry = self._rows.setdefault(row, Row())
        for meter in (self._whole, self._meters.setdefault(row, Meter(self._clock()))):
            meter.add(made, tokens, self._clock())
        entry.done += made
        entry.tokens += tokens
        if status:
            entry.counts[status] = entry.counts.get(status, 0) + made
        self._publish()

    def works_on(self, row: str) -> None:
        """Says that a row is worked on: the time that it has waited for its turn is not its own."""
        if row in self._lanes:
            self._turns[self._lanes[row]] = row
        if row not in self._begun:
            self._begun.add(row)
            self._meters[row] = Meter(self._clock())
        if self._clock() - self._last >= 4 * INTERVAL_S:
            self._publish()  # nothing comes: the speeds fall

    def traffic(
        self, row: str, in_flight: int, allowed: int, most: int, retries: int, note: str, held: str = ""
    ) -> None:
        """Says where a row's requests are, how many may be out, and why nothing moves when nothing does.

        Args:
            row: its name.
            in_flight: sent and not answered.
            allowed: how many may be.
            most: how many the run file allows.
            retries: sent again since `expect` was last called for the row.
            note: why nothing moves.
            held: why `allowed` is below `most`.
        """
        entry = self._rows.setdefault(row, Row())
        entry.in_flight, entry.allowed, entry.most = in_flight, allowed, most
        entry.retries, entry.note, entry.held = retries, note, held
        kept = self._retries.setdefault(self.stage, {})
        kept[row] = self._retried_before.get(row, 0) + retries
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
        self._say(kind, message)

    @property
    def tokens(self) -> int:
        """Tokens counted since the stage began, by this process."""
        return self._whole.tokens

    def flush(self) -> None:
        """Publishes at once, whatever the interval."""
        self._last = -INTERVAL_S
        self._publish()

    def snapshot(self) -> Snapshot:
        """Where the stage stands now."""
        now = self._clock()
        speeds, rows = self._speeds(now), {}
        for name, row in self._rows.items():
            rate, speed = self._meters[name].speed(now) if self._moves(name, now) else (None, None)
            if rate and self._lanes:
                rate = speeds.get(name)
            rows[name] = replace(row, tokens_per_second=speed, eta_s=_eta(row.total - row.done, rate))
        done = sum(row.done for row in self._rows.values())
        total = sum(row.total for row in self._rows.values())
        rate = self._whole.speed(now)[0]
        moving = [row.tokens_per_second for row in rows.values() if row.tokens_per_second is not None]
        eta, rough = self._by_lanes(now, speeds) if self._lanes else (_eta(total - done, rate), False)
        values, retries = dict(self._values), self.kept["retries"]
        return Snapshot(
            self.stage, self.unit, done, total, rate, sum(moving) or None, eta, rows, values, rough, retries
        )

    def _speeds(self, now: float) -> dict[str, float]:
        """Row → units per second to tell the future by, where there is such a speed."""
        speeds = {}
        for name, meter in self._meters.items():
            own = meter.speed(now)[0] or meter.overall
            speed = (own if meter.settled(now) else None) or self._known.get(name)
            if speed is not None:
                speeds[name] = speed
        return speeds

    def _moves(self, name: str, now: float) -> bool:
        """Whether something may come of a row: it is not done, it is its turn, and its endpoint does not stand."""
        row = self._rows[name]
        return self._in_turn(name) and not self._stands(name, now) and (not row.total or row.done < row.total)

    def _in_turn(self, name: str) -> bool:
        """Whether no other row of its lane is worked on."""
        lane = self._lanes.get(name)
        return lane is None or self._turns.get(lane, name) == name

    def _stands(self, name: str, now: float) -> bool:
        """Whether a row's endpoint gives nothing now: it refuses, or nothing is asked of it."""
        row = self._rows[name]
        stuck = bool(row.note) or (row.allowed > 0 and row.in_flight == 0)
        return stuck and self._meters[name].quiet(now)

    def _by_lanes(self, now: float, speeds: Mapping[str, float]) -> tuple[float | None, bool]:
        """(time left of the lane that takes longest, whether some row's speed is a guess)."""
        left = {name: row.total - row.done for name, row in self._rows.items() if row.total > row.done}
        stands = any(self._rows[name].note and self._stands(name, now) for name in left)
        begun = [self._meters[name] for name in left if self._meters[name].made and self._in_turn(name)]
        silent = bool(begun) and not any(self._moves(name, now) for name in left)
        silent = silent or (bool(begun) and all(meter.speed(now)[0] is None for meter in begun))
        if not speeds or stands or silent:
            return (None if left else 0.0), False
        # Each unit as long as those of the others take on average.
        guess = len(speeds) / sum(1 / speed for speed in speeds.values())
        times: dict[int, float] = {}
        for name, units in left.items():
            lane = self._lanes.get(name, 0)
            times[lane] = times.get(lane, 0.0) + units / speeds.get(name, guess)
        return max(times.values(), default=0.0), any(name not in speeds for name in left)

    def _publish(self) -> None:
        now = self._clock()
        if now - self._last < INTERVAL_S:
            return
        self._last = now
        for meter in (self._whole, *self._meters.values()):
            meter.mark(now)
        snapshot = self.snapshot()
        if self.stage:
            self._store_snapshot(snapshot)
            if self._metrics:
                self._store_metrics(self._metrics)
                self._metrics = []
        self._show(snapshot)


def _eta(left: int, rate: float | None) -> float | None:
    return left / rate if rate and left >= 0 else None
