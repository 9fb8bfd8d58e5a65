"""Screen 6: the students in training, their curves and checkpoints, and what they are worth: strategies compared."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from engine.base.sanitize import strip_control
from engine.methods import strategy_kinds
from engine.pipeline import job_commands
from engine.pipeline.display import time_left
from persyn_tui.app.base.formatting import count, rate, signed
from persyn_tui.app.screens.distil import query
from persyn_tui.app.screens.distil.evaluation_screen import EvaluatedScreen
from persyn_tui.app.screens.distil.query import BEFORE, Distilled, StrategyLine
from persyn_tui.app.screens.jobs.job_screen import JobScreen
from persyn_tui.app.state.cached_query import QueryCache
from persyn_tui.app.widgets.one_line import OneLine
from persyn_tui.app.widgets.plot import Plot, Series, interval
from persyn_tui.app.widgets.virtual_table import Cell, Column, Tone, VirtualTable, text_of
from storage.store import Store

DOTS = 18
"""Cells of the picture of an accuracy."""
METRICS = {
    "loss": ("loss", "eval_loss"),
    "learning rate": ("learning_rate",),
    "gradient norm": ("gradient_norm",),
}
"""What `m` goes through: title → the curves that are drawn."""
EMA_LEAST, EMA_PART = 10, 30
"""The loss is averaged over so many steps at least, and over one in so many of a long training's."""
LEAST = 5
"""Rows below which a plot says nothing."""
PHASES: dict[str, tuple[str, Tone]] = {
    "waiting": ("○", "dim"),
    "training": ("●", "accent"),
    "stopped": ("■", "warn"),
    "trained": ("✓", "plain"),
    "evaluating": ("●", "accent"),
    "evaluated": ("✓", "plain"),
}


class DistilScreen(JobScreen[Distilled]):
    """Students in training and compared."""

    NUMBER, NAME = 6, "Distil"
    EMPTY = "No job yet.\n\n{go.jobs:1} goes to the jobs; {jobs.new:n} there makes one. Its students are trained here."
    STAGES = ("distill", "evaluate")
    STOP = "Stop"
    KEPT = (
        "A training is stopped at a checkpoint, and everything else committed is kept; "
        "{distil.start:s} goes on from there, as another job."
    )
    DEFAULT_CSS = """
    DistilScreen .rule { height: 1; color: $quiet; text-wrap: nowrap; }
    DistilScreen #strategies { height: auto; max-height: 70%; }
    """
    NEEDS_ROWS = frozenset({"start", "stop", "checkpoint", "metric", "strategy", "responses"})
    WRITES = frozenset({"start", "stop", "checkpoint"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start", id="distil.start"),
        Binding("x", "stop", "Stop", id="distil.stop"),
        Binding("c", "checkpoint", "Checkpoint now", id="distil.checkpoint"),
        Binding("m", "metric", "Other curve", id="distil.metric"),
        Binding("enter", "responses", "Responses", key_display="⏎", id="distil.answers"),
        # Before the list's own keys, which scroll sideways.
        Binding("right,tab", "strategy(1)", "Next strategy", show=False, id="distil.next", priority=True),
        Binding(
            "left,shift+tab", "strategy(-1)", "Previous strategy", show=False, id="distil.last", priority=True
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._cache = QueryCache()
        self._chosen: str | None = None
        self._metric = next(iter(METRICS))

    def body(self) -> Iterable[Widget]:
        """The chosen training, its curve, all strategies, checkpoints."""
        yield OneLine(id="now")
        yield Static(id="drawn", markup=False, classes="rule")
        yield Plot(id="plot")
        yield Static(_rule("strategies"), markup=False, classes="rule")
        yield VirtualTable(_columns(1.0), id="strategies", least=10)
        yield OneLine(id="checkpoints")

    def question(self) -> Any:
        """The job, and the strategy that the operator chose."""
        return self.app.followed.id, self._chosen

    def read(self, store: Store, question: Any) -> Distilled | None:
        """Curves, checkpoints and evaluations of the followed job."""
        job_id, chosen = question
        return query.read(store, job_id, chosen, self._cache)

    def show(self, data: Distilled) -> None:
        """The whole screen."""
        self.query_one("#now", OneLine).update(_now(data))
        self.query_one("#checkpoints", OneLine).update(_checkpoints(data))
        self._show_strategies(data)
        self._draw(data)
        self.call_after_refresh(self.paint_title)
        if data.more:
            self.ask()

    def _show_strategies(self, data: Distilled) -> None:
        sheet = self.query_one("#strategies", VirtualTable)
        highest = max((line.accuracy.high for line in data.lines if line.accuracy), default=1.0)
        top = ceil(10 * highest) / 10 or 0.1
        sheet.styles.height = len(data.lines) + 1
        sheet.fill([(line.name, _strategy(line, top)) for line in data.lines], _columns(top))
        sheet.go_to(data.chosen)

    def _draw(self, data: Distilled) -> None:
        plot, drawn = self.query_one("#plot", Plot), self.query_one("#drawn", Static)
        plot.display = drawn.display = self._room(len(data.lines)) >= LEAST
        lines = [data.curves.get(name, Series()) for name in METRICS[self._metric]]
        average = 0
        if self._metric == "loss" and len(lines[0]):
            average = max(EMA_LEAST, lines[0].steps[-1] // EMA_PART)
            lines[0] = lines[0].smoothed(average)
        until = max(
            [data.line.total if data.line.phase == "training" else 0, *(c.steps[-1] for c in lines if len(c))]
        )
        plot.show(lines, until)
        title = f"{self._metric} of {data.chosen}"
        if self._metric == "loss":
            title += f", nats per token: EMA over {average:,} steps" + (
                ", and eval loss as measured" if len(lines[1]) else ""
            )
        if not any(map(len, lines)):
            title = _no_curve(data)
        drawn.update(_rule(strip_control(title)))

    def _room(self, lines: int) -> int:
        """Rows that are left for the plot."""
        return self.query_one("#states").size.height - 1 - 1 - 1 - (lines + 1) - 1

    def on_resize(self) -> None:
        """The plot goes first."""
        super().on_resize()
        if self.data is not None:
            self._draw(self.data)

    def about(self) -> str:
        """The student, the job."""
        return self.job_line + ("" if self.data is None else f" · {self.data.student}")

    def without(self) -> Sequence[str]:
        """The plot, columns of the strategies."""
        if self.data is None:
            return ()
        titles = self.query_one("#strategies", VirtualTable).hidden
        hidden = ["intervals" if title.startswith("0") else title for title in titles]
        return ["plot"] * (not self.query_one("#plot").display) + hidden

    def outdated(self) -> bool:
        """Whether a dataset has changed since its student was trained."""
        return self.data is not None and any(line.changed for line in self.data.lines)

    def idle(self) -> frozenset[str]:
        """A checkpoint of what does not train, or is stopping, as well."""
        job = self.app.followed.job
        trains = job is not None and job.effective_state == "running" and job.stage == "distill"
        trains = trains and self.app.followed.stopping is None
        return super().idle() | (frozenset() if trains else {"checkpoint"})

    def text_to_copy(self) -> str:
        """All strategies as lines of text."""
        if self.data is None:
            return ""
        return "\n".join("\t".join(map(text_of, _strategy(line, 1.0))) for line in self.data.lines)

    @on(VirtualTable.Highlighted, "#strategies")
    def _look(self, event: VirtualTable.Highlighted) -> None:
        # Filling the list moves its cursor too; what counts is where the operator left it.
        if self.data is not None and event.table.key == event.key != self.data.chosen:
            self._chosen = str(event.key)
            self.ask(frozen_too=True)

    def action_strategy(self, by: int) -> None:
        """Shows the curve of the next strategy, or the one before."""
        self.query_one("#strategies", VirtualTable).action_move(by)

    def action_responses(self) -> None:
        """What the student of the strategy under the cursor responded to the evaluation prompts."""
        if self.data is not None:
            self.app.push_screen(EvaluatedScreen(self.data.job_id, self.data.chosen))

    @on(VirtualTable.Chosen, "#strategies")
    def _open(self) -> None:
        self.action_responses()

    def action_maximise(self) -> None:
        """The curve fills the screen, or no longer."""
        plot = self.query_one(Plot)
        if self.maximized is None and plot.display:
            self.maximize(plot)
        else:
            super().action_maximise()

    def action_metric(self) -> None:
        """Draws the next metric."""
        names = list(METRICS)
        self._metric = names[(names.index(self._metric) + 1) % len(names)]
        if self.data is not None:
            self._draw(self.data)

    def action_checkpoint(self) -> None:
        """Asks the engine for a checkpoint after its next step."""
        self.act(lambda store, job: job_commands.checkpoint(store, job.id))


def _no_curve(data: Distilled) -> str:
    if data.chosen == BEFORE:
        return "before training: no curve"
    if data.line.phase in ("trained", "evaluating", "evaluated"):
        return f"{data.chosen} was trained by another job with the same data and settings: its screen has the curve"
    return f"no step of {data.chosen} yet"


def _rule(text: str) -> str:
    return f"{text} {'─' * 300}"


def _columns(top: float) -> tuple[Column, ...]:
    """The columns, with a picture of accuracies from 0 to `top`."""
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
        Column("persyn by", 9, right=True),
        Column("p", 5, right=True),
    )


def _strategy(line: StrategyLine, top: float) -> list[Cell | str]:
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


def _now(data: Distilled) -> str:
    line = data.line
    parts = [strip_control(line.name) if line.name != BEFORE else "the student before training"]
    if line.changed:
        parts.append(
            f"▲ of {count(line.compared.get('trained_rows'))} rows; the dataset has changed since "
            "(run again to retrain: s)"
        )
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


def _checkpoints(data: Distilled) -> str:
    if not data.checkpoints:
        return "" if data.chosen == BEFORE else "checkpoints  none"
    found = [f"✓ {checkpoint.step:,}" for checkpoint in reversed(data.checkpoints)]
    return f"checkpoints  {'  '.join(found)}"
