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
from persyn_tui.app.screens.distil import formatting, query
from persyn_tui.app.screens.distil.evaluation_screen import EvaluatedScreen
from persyn_tui.app.screens.distil.query import Distilled
from persyn_tui.app.screens.jobs.job_screen import JobScreen
from persyn_tui.app.widgets.one_line import OneLine
from persyn_tui.app.widgets.plot import Plot, Series
from persyn_tui.app.widgets.virtual_table import VirtualTable, text_of
from storage.store import Store

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
        self._chosen: str | None = None
        self._metric = next(iter(METRICS))

    def body(self) -> Iterable[Widget]:
        yield OneLine(id="now")
        yield Static(id="drawn", markup=False, classes="rule")
        yield Plot(id="plot")
        yield Static(formatting.rule("strategies"), markup=False, classes="rule")
        yield VirtualTable(formatting.strategy_columns(1.0), id="strategies", least=10)
        yield OneLine(id="checkpoints")

    def question(self) -> Any:
        return self.app.followed.id, self._chosen

    def read(self, store: Store, question: Any) -> Distilled | None:
        job_id, chosen = question
        return query.read(store, job_id, chosen, self.cache)

    def show(self, data: Distilled) -> None:
        self.query_one("#now", OneLine).update(formatting.now(data))
        self.query_one("#checkpoints", OneLine).update(formatting.checkpoints(data))
        self._show_strategies(data)
        self._draw(data)
        if data.more:
            self.ask()

    def _show_strategies(self, data: Distilled) -> None:
        sheet = self.query_one("#strategies", VirtualTable)
        highest = max((line.accuracy.high for line in data.lines if line.accuracy), default=1.0)
        top = ceil(10 * highest) / 10 or 0.1
        sheet.styles.height = len(data.lines) + 1
        routed = strategy_kinds.routed([line.name for line in data.lines]) or "routed"
        rows = [(line.name, formatting.strategy_cells(line, top)) for line in data.lines]
        sheet.fill(rows, formatting.strategy_columns(top, routed))
        sheet.go_to(data.chosen)

    def _draw(self, data: Distilled) -> None:
        plot, drawn = self.query_one("#plot", Plot), self.query_one("#drawn", Static)
        # Beside the plot: two rules, the line above it and the one below, and the strategies with their titles.
        left = self.query_one("#states").size.height - 4 - (len(data.lines) + 1)
        plot.display = drawn.display = left >= LEAST
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
            title = formatting.no_curve(data)
        drawn.update(formatting.rule(strip_control(title)))

    def on_resize(self) -> None:
        """The plot goes first."""
        super().on_resize()
        if self.data is not None:
            self._draw(self.data)

    def about(self) -> str:
        return self.job_line + ("" if self.data is None else f" · {self.data.student}")

    def without(self) -> Sequence[str]:
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
        if self.data is None:
            return ""
        return "\n".join(
            "\t".join(map(text_of, formatting.strategy_cells(line, 1.0))) for line in self.data.lines
        )

    @on(VirtualTable.Highlighted, "#strategies")
    def _look(self, event: VirtualTable.Highlighted) -> None:
        # Filling the list moves its cursor too; what counts is where the operator left it.
        if self.data is not None and event.table.key == event.key != self.data.chosen:
            self._chosen = str(event.key)
            self.ask(frozen_too=True)

    def action_strategy(self, by: int) -> None:
        self.query_one("#strategies", VirtualTable).action_move(by)

    @on(VirtualTable.Chosen, "#strategies")
    def action_responses(self) -> None:
        """What the student of the strategy under the cursor responded to the evaluation prompts."""
        if self.data is not None:
            names = [line.name for line in self.data.lines]
            self.app.push_screen(EvaluatedScreen(self.data.job_id, names, self.data.chosen))

    def action_maximise(self) -> None:
        plot = self.query_one(Plot)
        if self.maximized is None and plot.display:
            self.maximize(plot)
        else:
            super().action_maximise()

    def action_metric(self) -> None:
        names = list(METRICS)
        self._metric = names[(names.index(self._metric) + 1) % len(names)]
        if self.data is not None:
            self._draw(self.data)

    def action_checkpoint(self) -> None:
        """Asks the engine for a checkpoint after its next step."""
        self.act(lambda store, job: job_commands.checkpoint(store, job.id))
