"""What the distil screen writes: columns, cells and lines, from what it has read."""

from engine.base.sanitize import strip_control
from engine.methods import strategy_kinds
from engine.pipeline.display import time_left
from persyn_tui.app.base.formatting import count, rate, signed
from persyn_tui.app.screens.distil.query import BEFORE, Distilled, StrategyLine
from persyn_tui.app.widgets.plot import Series, interval
from persyn_tui.app.widgets.virtual_table import Cell, Column, Tone

DOTS = 18
"""Cells of the picture of an accuracy."""
PHASES: dict[str, tuple[str, Tone]] = {
    "waiting": ("○", "dim"),
    "training": ("●", "accent"),
    "stopped": ("■", "warn"),
    "trained": ("✓", "plain"),
    "evaluating": ("●", "accent"),
    "evaluated": ("✓", "plain"),
}


def no_curve(data: Distilled) -> str:
    """Why there is no curve of the chosen strategy."""
    if data.chosen == BEFORE:
        return "before training: no curve"
    if data.line.phase in ("trained", "evaluating", "evaluated"):
        return f"{data.chosen} was trained by another job with the same data and settings: its screen has the curve"
    return f"no step of {data.chosen} yet"


def rule(text: str) -> str:
    """A heading whose line goes on to the end of the screen."""
    return f"{text} {'─' * 300}"


def strategy_columns(top: float, routed: str = "routed") -> tuple[Column, ...]:
    """The columns, with a picture of accuracies from 0 to `top`, and by how much the routed strategy is better."""
    least, most = "0", f"{top:.0%}"
    return (
        Column("strategy", most=48),
        Column("training", 15),
        Column("ETA", 6, right=True, drop=3),
        Column("loss", 6, right=True, drop=2),
        Column("rows", 6, right=True, drop=5),
        Column("responses", 9, right=True, drop=4),
        Column("accuracy", 8, right=True),
        Column("95 %", 11, right=True, drop=1),
        Column(f"{least}{most:>{DOTS - 1}}", DOTS, drop=6),
        Column(f"{routed} by", max(9, min(16, len(routed) + 3)), right=True),
        Column("p", 5, right=True),
    )


def strategy_cells(line: StrategyLine, top: float) -> list[Cell | str]:
    """A strategy's row, its accuracy drawn from 0 to `top`."""
    glyph, tone = PHASES[line.phase]
    steps = f"{line.step:,} / {line.total:,}" if line.total and line.step < line.total else f"{line.step:,}"
    what = {"waiting": "waiting", "evaluating": f"eval {steps}"}.get(line.phase, steps)
    if line.changed and line.phase in ("trained", "evaluated"):
        glyph, tone, what = "▲", "warn", "data changed"
    accent: Tone = "dim" if line.name == BEFORE else "plain"
    if strategy_kinds.uses_router(line.name):
        accent = "accent"
    share, interval_text, dots = "–", "–", Cell("")
    if line.accuracy is not None:
        value, low, high = line.accuracy
        share, interval_text = f"{100 * value:.1f} %", f"{100 * low:.1f}–{100 * high:.1f}"
        dots = Cell(interval(value / top, low / top, high / top, DOTS), accent)
    versus = line.compared.get("persyn_minus_this") or {}
    difference, p = versus.get("difference"), versus.get("p")
    return [
        Cell(line.name, accent),
        Cell(f"{glyph} {what}" if line.name != BEFORE or line.phase == "evaluating" else "–", tone),
        time_left(line.eta_s),
        "–" if line.loss is None else f"{line.loss:.3f}",
        count(line.compared.get("rows")),
        count(line.compared.get("generations")),
        share,
        interval_text,
        dots,
        "" if difference is None else f"{signed(100 * difference, 1)} pp",
        "" if p is None else "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0"),
    ]


def now(data: Distilled) -> str:
    """The first line: where the training of the chosen strategy stands."""
    line = data.line
    parts = [strip_control(line.name) if line.name != BEFORE else "the student before training"]
    if line.changed:
        parts.append(
            f"▲ of {count(line.compared.get('trained_rows'))} rows; the dataset has changed since "
            "(run again to retrain: s)"
        )
    if data.doing:
        parts.append(data.doing)
    if data.trouble:
        parts.append(f"▲ {strip_control(data.trouble)}")
    if line.phase == "waiting" and line.name != BEFORE:
        parts.append("waits for its turn" if data.stage == "distill" else "waits for its dataset")
    if line.step and line.phase != "evaluating":
        parts.append(f"step {line.step:,} / {line.total:,}" if line.total else f"step {line.step:,}")
    if line.loss is not None:
        parts.append(f"loss {line.loss:.3f}")
    # A narrow screen cuts the end.
    if line.eta_s is not None:
        parts.append(f"ETA {time_left(line.eta_s)}")
    if line.tokens_per_second:
        parts.append(f"{rate(line.tokens_per_second)} tok/s")
    for name, metric, form in (
        ("eval", "eval_loss", "{:.3f}"),
        ("lr", "learning_rate", "{:.1e}"),
        ("gradient", "gradient_norm", "{:.2f}"),
    ):
        last = data.curves.get(metric, Series()).last
        if last is not None:
            parts.append(f"{name} {form.format(last)}")
    memory = data.curves.get("memory_bytes", Series()).last
    if memory is not None:
        parts.append(f"mem {memory / 2**30:.1f} GiB")
    return "   ".join(parts)


def checkpoints(data: Distilled) -> str:
    """The last line: at which steps there is one."""
    if not data.checkpoints:
        return "" if data.chosen == BEFORE else "checkpoints  none"
    found = [f"✓ {checkpoint.step:,}" for checkpoint in reversed(data.checkpoints)]
    return f"checkpoints  {'  '.join(found)}"
