"""What the router screen writes: columns, cells and lines, from what it has read."""

from collections.abc import Sequence

from engine.base.sanitize import strip_control
from engine.methods import strategy_kinds
from engine.methods.metrics import Metrics
from engine.pipeline.display import doing, time_left
from persyn_tui.app.base.formatting import bar, count, rate, short, signed
from persyn_tui.app.screens.router.query import Choice, Routed
from persyn_tui.app.screens.router.what_if import WhatIf
from persyn_tui.app.widgets.machine_strip import spark
from persyn_tui.app.widgets.virtual_table import Cell, Column, Tone, cut

Rows = list[tuple[str, Sequence[Cell | str]]]
WIDEST = 24
"""Teachers whose strengths fit into a row, a cell each."""

STAGE_ROWS = (
    Column("part"),
    Column("", 12, drop=2),
    Column("done", 15, right=True),
    Column("done %", 7, right=True, drop=3),
)
CURVES = (Column("measure", 14), Column("while training"), Column("latest", 8, right=True))
MEASURES = {"hit_at_1": "Hit@1", "hit_at_3": "Hit@3", "regret": "regret"}
CURVE_NAMES = {"loss": "loss", "held_out_loss": "held-out loss", **MEASURES}
BAR = 6


def allocation_columns(alpha: float, *, other: bool) -> tuple[Column, ...]:
    """The columns of the allocation; `best` is by the slider's α, `±` its change where that is not the run's."""
    at = f"{alpha:.2f}".removeprefix("0").removesuffix(".00") or "0"
    return (
        Column("teacher"),
        Column("", BAR, drop=3),
        Column("prompts", 7, right=True, drop=4),
        Column("share", 7, right=True),
        Column("margin", 6, right=True),
        Column(f"best α{at}", 9, right=True, drop=1),
        *((Column("±", 5, right=True, drop=2),) if other else ()),
    )


def choice_columns(title: str, teachers: int, *, brief: bool = True) -> tuple[Column, ...]:
    """The columns of the list of prompts; the bars of the strengths are in the order of the rows at their left."""
    strength = "strength ←" if brief else "strength ← rows"
    return (
        Column(title),
        Column(strength, max(len(strength), min(WIDEST, teachers)), drop=1),
        Column("choice", 10),
        Column("margin", 6, right=True),
        Column("", 1),
        Column("", 9, drop=2),
    )


def where(data: Routed, state: str, brief: bool) -> str:
    """How far the stage or the plan of a job in this state is, with keys as `keymap.keyed` takes them.

    `brief`: in fewer words, for a narrow screen.
    """
    snapshot = data.snapshot
    early = data.early
    if missing(data):
        return "no plans"
    if early and not data.stage:
        starting = "the job's engine is starting"
        begun = {
            "queued": "queued: {router.start:s} starts an engine",
            "starting": starting,
            "continued": "another job went on with it",
            "running": starting,
        }
        return begun.get(state, f"{state}: {{router.start:s}} goes on")
    name, done, total = data.strategy, data.assigned, data.total
    unit = "prompts routed"
    if early:
        name, done, total, unit = data.stage, snapshot.done, snapshot.total, snapshot.unit
    parts = [f"{name} {count(done)} / {count(total)}" + ("" if brief else f" {unit}") if total else name]
    if state == "running" and (early or data.stage == "route"):
        if snapshot.doing:
            parts.append(doing(snapshot))
        if snapshot.rate:
            parts.append(f"{rate(snapshot.rate)}/s" if brief else f"{rate(snapshot.rate)} {snapshot.unit}/s")
        if snapshot.tokens_per_second and not brief:
            parts.append(f"{rate(snapshot.tokens_per_second)} tok/s")
        if snapshot.eta_s is not None and snapshot.done < snapshot.total:
            parts.append(f"ETA {time_left(snapshot.eta_s, rough=snapshot.rough)}")
    elif state == "starting":
        parts.append("its engine is starting")
    elif state in ("interrupted", "cancelled", "paused"):
        parts.append(f"{state}: {{router.start:s}} goes on")
    elif state == "failed":
        parts.append("failed: {router.start:s} tries again")
    return ("  " if brief else "   ").join(parts)


def missing(data: Routed) -> str:
    """Why the plans of a job that should have some cannot be found; empty where they can."""
    wanted = data.unknown or (not data.early and not data.shares)
    return f"✗ {data.trouble}" if data.trouble and wanted else ""


def measures(data: Routed) -> str:
    """How good the router is: while it trains the latest, else as measured when it was finished.

    Nothing of a strategy that does not ask it.
    """
    if not strategy_kinds.uses_router(data.strategy) and not data.curves:
        return ""
    values = data.snapshot.values if data.curves else (data.router.metrics if data.router else {})
    if "hit_at_1" not in values:
        return ""
    return _places(*((name, values[key]) for key, name in MEASURES.items()))


def part_done(data: Routed) -> float:
    """Part of what the first line counts, 0 to 1."""
    done, total = data.assigned, data.total
    if data.early:
        done, total = data.snapshot.done, data.snapshot.total
    return done / total if total else 0.0


def held_out(data: Routed) -> str:
    """What those measures are of, beside a random choice."""
    if data.curves:
        return "on prompts left out of this fold"
    metrics = {} if data.router is None else data.router.metrics
    if "hit_at_1" not in metrics or not strategy_kinds.uses_router(data.strategy):
        return ""
    beside = [("chance", metrics["chance_hit_at_1"]), ("chance", metrics["chance_hit_at_3"])]
    return f"{count(metrics['n'])} {metrics['on']}" + _places(*beside, ("random", metrics["random_regret"]))


def later(data: Routed) -> str:
    """What must happen before prompts are routed, or why none of those that are stands here."""
    if data.shares:
        return (
            f"`{data.strategy}` chooses without margins: none is smaller than another.\n\n"
            "o  the newest first\nt  another strategy"
        )
    if strategy_kinds.load(data.strategy).needs_full_parallel:
        return (
            f"`{data.strategy}` routes no prompt before it is answered:\n"
            "every teacher answers all of them, and each then goes to the best response.\n\nt  another strategy"
        )
    if data.teachers and strategy_kinds.uses_router(data.strategy):
        steps = "every teacher answers the calibration prompts, the responses are scored, the router learns from that"
    else:
        steps = f"the rule of `{data.strategy}` gives each prompt a teacher"
    return f"Prompts stand here once they are routed:\n{steps}.\n\nt  another strategy"


def _places(*measures: tuple[str, float]) -> str:
    """Numbers behind their names, in places that two such lines share."""
    return "".join(f"  {name:>6} {short(value):>4}" for name, value in measures)


def sides(left: str, right: str, width: int) -> str:
    """One line: `left` begins it, `right` ends it; `left` is cut where both do not fit."""
    if not right:
        return cut(left, width).rstrip()
    return cut(left, max(1, width - len(right) - 2)) + "  " + strip_control(right)


def levels(values: Sequence[float]) -> str:
    """Numbers as bars, the least of them lowest and the greatest highest."""
    low, high = min(values), max(values)
    spread = high - low
    return spark([100 * (value - low) / spread if spread else 50.0 for value in values])


def curve_rows(data: Routed, room: int) -> Rows:
    """A row per measure of the training: its whole curve in `room` cells, every so many points, the last one always."""
    rows: Rows = []
    for name, title in CURVE_NAMES.items():
        if values := data.curves.get(name):
            step = -(-len(values) // room)
            curve = Cell(levels(values[::-1][::step][::-1]), "accent")
            rows.append((name, [title, curve, f"{values[-1]:.3f}"]))
    return rows


def order(data: Routed) -> tuple[str, ...]:
    """The teachers as the allocation lists them, and the bars of the strengths too.

    Those that get most come first once that is known of all prompts; until then nothing changes its place.
    """
    given = [name for name, _ in data.shares] if data.plan is not None and data.plan.complete else []
    return tuple(dict.fromkeys([*given, *data.teachers, *(name for name, _ in data.shares)]))


def choice_cells(data: Routed, choice: Choice, text: str) -> list[Cell | str]:
    """A prompt, as `text` shows it, with its strengths in the order of the rows beside, choice and margin."""
    tone: Tone = "warn" if choice.near_tie else "plain"
    strengths = [choice.strengths[name] for name in order(data) if name in choice.strengths]
    mark, note = ("⚠", "near tie") if choice.near_tie else ("✓", "measured") if choice.measured else ("", "")
    return [
        text,
        Cell(levels(strengths[:WIDEST]) if strengths else "–", "accent"),
        choice.teacher,
        Cell(signed(choice.margin), tone),
        Cell(mark, tone),
        Cell(note, tone if choice.near_tie else "dim"),
    ]


def _best(what_if: WhatIf | None, teachers: Sequence[str], name: str) -> tuple[Cell, Cell]:
    """Share of labelled prompts that the teacher is best for by the slider's settings, and the change."""
    if what_if is None or name not in teachers:
        return Cell("–", "dim"), Cell("")
    place, found = teachers.index(name), what_if.found
    before, after = (100 * best[place] / max(1, sum(best)) for best in (found.before, found.after))
    changed = found.before[place] != found.after[place]
    return Cell(f"{after:.1f} %"), Cell(signed(after - before, 1) if changed else "", "accent")


def changes(what_if: WhatIf | None) -> str:
    """What the slider's settings would change, in a few lines with keys as `keymap.keyed` takes them."""
    if what_if is None:
        return "no response has both scores yet"
    found, lines = what_if.found, []
    if what_if.other:
        lines.append(
            f"{count(found.best_changed)} of {count(found.prompts)} prompts get another best teacher, "
            f"{count(found.pairs_changed)} of {count(found.pairs)} pairs of responses to learn from change; "
            "{router.apply:a} trains with it"
        )
    else:
        keys = "{router.alpha_less:[} {router.alpha_more:]}"
        lines.append(f"as in the run; {keys} try another α on the scores of {count(found.prompts)} prompts")
    if what_if.other and what_if.router is not None:
        before, after = what_if.router
        # Rewards of two settings have no common unit: each regret as part of a random choice's.
        lines.append(
            f"this router by them: Hit@1 {short(before.hit_at_1)} → {short(after.hit_at_1)}, regret "
            f"{_part(before)} → {_part(after)} of a random choice's, {count(after.n)} held-out prompts"
        )
    if found.idle:
        lines.append(f"⚠ {found.idle}")
    return "\n".join(lines)


def _part(measured: Metrics) -> str:
    """Regret as part of that of a random choice; `–` where that has none."""
    return f"{measured.regret / measured.random_regret:.0%}" if measured.random_regret else "–"


def allocation_rows(data: Routed, what_if: WhatIf | None) -> Rows:
    """A row per teacher of the run, in `order`."""
    given = dict(data.shares)
    total = sum(share.prompts for share in given.values())
    most = max(share.prompts for share in given.values())
    rows: Rows = []
    for name in order(data):
        share = given.get(name)
        prompts = share.prompts if share else 0
        cells: list[Cell | str] = [
            Cell(name, "plain" if prompts else "dim"),
            Cell(bar(prompts / most, BAR), "accent"),
            count(prompts),
            f"{100 * prompts / total:.1f} %",
            "–" if share is None or share.margin is None else f"{share.margin:.2f}",
            *_best(what_if, data.teachers, name),
        ]
        rows.append((name, cells))
    return rows


def stage_rows(data: Routed) -> Rows:
    """A row per part of the stage at work, while nothing is routed."""
    return [
        (
            name,
            [
                name or data.stage,
                Cell(bar(row.done / row.total if row.total else 0.0, 12), "accent"),
                f"{count(row.done)} / {count(row.total)}",
                f"{100 * row.done / row.total:.1f} %" if row.total else "–",
            ],
        )
        for name, row in data.snapshot.rows.items()
    ]
