"""A dry run as tables and sentences: what a run takes, and what is left of it."""

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.pipeline.display import duration
from engine.report.estimate import REPLY_TOKENS, Amount, Estimate, Parts
from engine.report.memory import Need

TOTALS = ("", "generations", "tokens", "cost", "time")
TOTALS_LEFT = ("", "stored", "left", "tokens", "cost", "time")
"""Where a part is stored: the last four say what is left."""
PER_TEACHER = ("teacher", "all", "routed", "$ all", "$ routed", "time all", "time routed")


def render(found: Estimate) -> RenderableType:
    """The estimate as tables for a terminal."""
    parts: list[RenderableType] = [Text(summary(found)), Text()]
    if found.generates:
        parts += [_table(TOTALS if found.left is None else TOTALS_LEFT, totals(found)), Text()]
    parts += [*map(Text, (formulas(found), *already(found), *judged(found), *read(found))), Text()]
    if found.generates:
        parts += [_table(PER_TEACHER, per_teacher(found)), Text()]
    if found.memory:
        parts += [Text("memory, by estimate:"), *map(_memory, found.memory), Text()]
    if found.speed_unknown:
        parts.append(Text(unknown_time(found), style="yellow"))
    parts.append(Text("assumed:\n" + "\n".join(f"  · {line}" for line in found.assumptions), style="dim"))
    return Group(*parts)


def summary(found: Estimate) -> str:
    """N, C and M in one line."""
    return (
        f"N = {found.n:,} prompts to answer, C = {found.c:,} of them by every teacher, M = {len(found.teachers)} "
        "teachers" + (f"; {found.evaluation:,} more only measure the student" if found.evaluation else "")
    )


def formulas(found: Estimate) -> str:
    """How many generations each of the two ways takes, with the formula, in two lines."""
    n, c, m = found.n, found.c, len(found.teachers)
    if not found.generates:
        return "nothing is generated: the responses of all teachers are imported"
    calibrated = (
        f"C·M + (N − C) = {c:,}·{m}"
        if found.answers == c * m
        else f"{found.answers:,} responses to the C prompts + (N − C) = {found.answers:,}"
    )
    return (
        f"all teachers answer everything: N·M = {n:,}·{m} = {n * m:,} generations\n"
        f"routed: {calibrated} + {n - c:,} = {found.answers + n - c:,} generations, {found.ratio:.1f} times fewer"
    )


def already(found: Estimate) -> list[str]:
    """What is stored, in two lines; nothing where nothing is."""
    if found.left is None:
        return []
    all_teachers = _there(found.all, found.all, found.left.all, found.left.all)
    routed = _there(found.routed, found.routed, found.left.routed, found.left.routed)
    scored = ", ".join(
        f"{count:,} of {found.left.answers:,} by {name}" for name, count in found.left.verdicts.items()
    )
    return [
        f"already stored: {all_teachers} (all teachers), {routed} (routed); the tables show what is left",
        f"stored responses that are scored: {scored}",
    ]


def judged(found: Estimate) -> list[str]:
    """What each judge would take, in a line; it is in no table."""
    return [
        f"{row.name} {row.model}, not in the tables: at most {row.requests:,.0f} requests "
        f"({'each two responses in both orders' if row.compares else 'one for each response'}), about "
        f"${row.cost:,.2f} with replies of {REPLY_TOKENS} tokens"
        for row in found.judges
    ]


def read(found: Estimate) -> list[str]:
    """What each scorer with a model in this program reads, in a line; it is in no table."""
    return [
        f"{row.name} reads about {row.responses:,.0f} responses, {_tokens(row.tokens)} tokens: in no table, "
        "its time is known once it runs"
        for row in found.readings
        if row.responses
    ]


def _memory(need: Need) -> Text:
    """What a local model takes, in a line; a second one where it does not fit."""
    line = f"  · {need.about}: {need}"
    return Text(line) if need.fits else Text(f"  ✗ {need.about}: {need}\n    → {need.remedy}", style="yellow")


def unknown_time(found: Estimate) -> str:
    """Why there is no time, in a line; empty where there is one."""
    if not found.speed_unknown:
        return ""
    return (
        f"time is not known: no response of {', '.join(found.speed_unknown)} is stored yet to measure it by; "
        "set `tokens_per_second`"
    )


def totals(found: Estimate) -> list[tuple[str, ...]]:
    """A row of texts under `TOTALS` or `TOTALS_LEFT` for all teachers, for routed and for each strategy."""
    rows = _rows(found)
    if found.left is None:
        return [(name, *_cells(low, high)) for name, low, high in rows]
    return [
        (name, _there(low, high, low_left, high_left), *_cells(low_left, high_left))
        for (name, low, high), (_, low_left, high_left) in zip(rows, _rows(found.left), strict=True)
    ]


def per_teacher(found: Estimate) -> list[tuple[str, ...]]:
    """A row of texts under `PER_TEACHER` for each teacher; what is left where a part is stored."""
    parts = found.left or found
    every = _shares([row.all.generations for row in parts.teachers], parts.all.generations)
    routed = _shares([row.routed.generations for row in parts.teachers], parts.routed.generations)
    return [
        (
            row.name,
            f"{every[i]:,}",
            f"{routed[i]:,}",
            f"{row.all.cost:,.2f}",
            f"{row.routed.cost:,.2f}",
            duration(row.all.seconds),
            duration(row.routed.seconds),
        )
        for i, row in enumerate(parts.teachers)
    ]


def _rows(parts: Estimate | Parts) -> list[tuple[str, Amount, Amount]]:
    rows = [("all teachers", parts.all, parts.all), ("routed", parts.routed, parts.routed)]
    return rows + [(row.name, row.low, row.high) for row in parts.strategies]


def _there(low: Amount, high: Amount, low_left: Amount, high_left: Amount) -> str:
    """`1,204 of 4,428` generations that are stored."""
    least, most = (
        max(0.0, whole.generations - left.generations) for whole, left in ((low, high_left), (high, low_left))
    )
    return f"{_span(least, most, _whole)} of {_span(low.generations, high.generations, _whole)}"


def _cells(low: Amount, high: Amount) -> tuple[str, ...]:
    tokens = (low.prompt_tokens + low.completion_tokens, high.prompt_tokens + high.completion_tokens)
    return (
        _span(low.generations, high.generations, _whole),
        _span(*tokens, _tokens),
        _span(low.cost, high.cost, lambda value: f"${value:,.2f}"),
        _span(low.seconds, high.seconds, duration),
    )


def _shares(parts: Sequence[float], total: float) -> list[int]:
    """Whole numbers near `parts` that add up to the total as it is shown, by the largest remainder."""
    whole = [int(part) for part in parts]
    short = round(total) - sum(whole)
    first = sorted(range(len(parts)), key=lambda place: whole[place] - parts[place])
    for place in first[: max(0, short)]:
        whole[place] += 1
    return whole


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table that fits 80 columns with the paper's figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _span(low: float | None, high: float | None, form: Callable[[float], str]) -> str:
    if low is None or high is None:
        return "–"
    first, last = form(low), form(high)
    return first if first == last else f"{first}–{last}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _tokens(count: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f}"
