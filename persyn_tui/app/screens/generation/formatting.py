"""What the generation screen writes: columns, cells and lines, from what it has read."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.base.sanitize import strip_control
from engine.job.failing_teachers import fails
from engine.pipeline.display import doing, time_left
from persyn_tui.app.base.formatting import bar, count, done_of, money, rate
from persyn_tui.app.screens.generation.query import Generated, TeacherLine
from persyn_tui.app.widgets.virtual_table import Cell, Column, Tone, text_of
from storage.records import ResponseLine

ASSIGNED = 15
"""Cells of `done / assigned`."""
TEACHERS = (
    Column("teacher", most=48),
    Column("backend", 12, drop=10),
    Column("done / assigned", ASSIGNED, right=True),
    Column("", 7, drop=7),
    Column("tok/s", 6, right=True),
    Column("ETA", 6, right=True, drop=1),
    Column("in flight", 9, right=True, drop=3),
    Column("retry", 5, right=True, drop=8),
    Column("trunc", 5, right=True, drop=4),
    Column("empty", 5, right=True, drop=5),
    Column("refused", 7, right=True, drop=5),
    Column("long", 4, right=True, drop=9),
    Column("error", 5, right=True, drop=2),
    Column("$", 7, right=True, drop=6),
)
NOTHING = ("–", "0", "0.00")
EMPTY_DROP = 20
"""Columns from `in flight` on that hold nothing go before all others."""
NEWEST = (
    Column("id", 9, right=True),
    Column("teacher", 14),
    Column("tok", 5, right=True, drop=1),
    Column("finish", 8, drop=2),
    Column("response"),
)
QUARANTINED = {
    "truncated": "quarantined: truncated at its limit",
    "empty": "quarantined: empty",
    "refused": "quarantined: refused",
    "too_long": "quarantined: the prompt is too long",
    "error": "error",
}
"""Status → why a response is not used."""
UNUSABLE = ("truncated", "empty", "refused", "too_long")
"""The statuses counted in columns of their own, beside `error`."""
TEXT = 400
"""Characters of a response among which its first line is looked for."""


def sums_line(data: Generated, *, brief: bool = False) -> str:
    """The line above the teachers; `brief`: in fewer words."""
    sums, stage = data.sums, data.stage
    if sums is None:
        return "there are no prompts yet; nothing has been asked yet"
    speed = None if stage is None else stage.tokens_per_second
    parts = [f"{data.done:,} / {data.wanted:,}"]
    # A narrow line has room for the strategies, or for how fast it goes.
    several = data.strategies > 1 and not (brief and speed is not None)
    if not (brief and several):
        parts[0] += " responses"
    if several:
        parts[0] += f" of {data.strategies} strategies"
    if sums.unrouted:
        parts[0] += f" + {sums.unrouted:,} to route"
    if speed is not None:
        parts.append(f"{rate(speed)} tok/s")
    if stage is not None and stage.doing:
        parts.append(doing(stage))
    if stage is not None and stage.eta_s is not None:
        parts.append(f"ETA {time_left(stage.eta_s, rough=stage.rough)}")
    if data.in_flight is not None and not brief:
        parts.append(f"in flight {count(data.in_flight)}")
    if data.cost:
        parts.append(money(data.cost))
    if sums.judged:
        parts.append(f"{money(sums.judged)} for verdicts")
    # What the run asks for is that of all its strategies: the two ways that are compared are said apart from it.
    if several:
        parts.append(f"routed{'' if brief else ' alone would be'} {count(sums.routed)}")
    parts.append(f"all teachers{'' if brief else ' would be'} {count(sums.everything)}")
    if data.cost and data.everything_cost is not None:
        parts[-1] += f" / {money(data.everything_cost)}"
    if sums.trouble:
        parts.append(f"▲ {strip_control(sums.trouble)}")
    return ("  " if brief else "   ").join(parts)


def teacher_cells(line: TeacherLine) -> list[Cell | str]:
    """A teacher's row."""
    now, speed = line.now, line.tokens_per_second
    return [
        Cell(line.name, "plain" if speed is None else "strong"),
        Cell(line.backend, "dim"),
        done_of(line.done, line.wanted, ASSIGNED) if line.wanted else "–",
        Cell(bar(line.done / line.wanted, 7), "accent" if line.done < line.wanted else "dim")
        if line.wanted
        else "",
        Cell(f"⌀{rate(line.mean)}", "dim") if speed is None and line.mean is not None else rate(speed),
        Cell("waits", "warn") if now.note else time_left(now.eta_s if now.done < now.total else None),
        Cell(f"{now.in_flight}/{now.allowed}", "warn" if line.held else "plain") if now.allowed else "–",
        Cell("–", "dim") if line.retries is None else _some(line.retries, "warn"),
        *(_some(line.counts.get(status, 0), "warn") for status in UNUSABLE),
        _some(line.counts.get("error", 0), "bad"),
        f"{line.cost:,.2f}" if line.cost < 1000 else f"{line.cost:,.0f}",
    ]


def teacher_columns(rows: Sequence[Sequence[Cell | str]]) -> tuple[Column, ...]:
    """The columns of the teachers; those in which no row says anything go first where it is narrow."""
    first = next(place for place, column in enumerate(TEACHERS) if column.title == "in flight")
    return tuple(
        replace(column, drop=column.drop + EMPTY_DROP)
        if place >= first and all(text_of(row[place]) in NOTHING for row in rows)
        else column
        for place, column in enumerate(TEACHERS)
    )


def label(teachers: Iterable[TeacherLine]) -> str:
    """The line between teachers and newest responses: teachers that fail, and limits below what the run file allows."""
    teachers = list(teachers)
    failing = (
        f"── ▲ {t.name}: no usable response to {t.unusable:,} of {t.responses:,} "
        for t in teachers
        if fails(t.counts)
    )
    held = (f"── {t.name} held at {t.now.allowed:,} of {t.now.most:,}: {t.held} " for t in teachers if t.held)
    return strip_control(f"newest {''.join((*failing, *held))}{'─' * 300}")


def _some(number: int, tone: Tone) -> Cell:
    """A count that is coloured where there is something to look at."""
    return Cell(f"{number:,}", tone if number else "dim")


def newest_cells(line: ResponseLine) -> list[Cell | str]:
    """A response's row, which says why it is not used where it is not."""
    response = line.response
    said = next(filter(str.strip, response.text[:TEXT].splitlines()), "")
    why = QUARANTINED.get(response.status)
    if why is not None:
        said = " · ".join(filter(None, (why, response.error or said)))
    tone: Tone = "plain" if why is None else "bad" if response.status == "error" else "warn"
    return [
        Cell(f"#{response.id}", "dim"),
        line.teacher,
        f"{response.completion_tokens:,}",
        Cell(response.finish_reason, "dim"),
        Cell(said, tone),
    ]
