"""The student's own responses to the evaluation prompts, a strategy's beside those before training."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from engine.base.sanitize import strip_control
from persyn_tui.app.base.formatting import count
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.screens.distil import evaluation_query
from persyn_tui.app.screens.distil.evaluation_query import KINDS, RIGHT, Evaluated, Line, Question, Side
from persyn_tui.app.screens.distil.query import BEFORE
from persyn_tui.app.widgets.message_bar import MessageBar
from persyn_tui.app.widgets.one_line import OneLine
from persyn_tui.app.widgets.virtual_table import Cell, Column, VirtualTable
from storage.records import Result
from storage.store import Store

LEAST = 20
"""Cells for a prompt while the list is not laid out."""
LONGEST = 20_000
"""Characters of a text that are shown; `y` copies all of a response."""


class EvaluatedScreen(BaseScreen[Evaluated]):
    """Prompts with what became of them, and the two responses to the one under the cursor.

    Of one of these strategies of a job; the student before training is the first of them.
    """

    NUMBER, NAME, LIST = 6, "Distil", "#prompts"
    EMPTY = (
        "No response of this student is evaluated yet.\n\n"
        "{evaluated.next:→}  the next strategy\n{evaluated.back:esc}  back"
    )
    DEFAULT_CSS = """
    EvaluatedScreen #prompts { height: 2fr; }
    EvaluatedScreen #prompt { height: auto; max-height: 5; border-top: solid $foreground 20%; }
    EvaluatedScreen Horizontal { height: 3fr; }
    EvaluatedScreen .response { width: 1fr; height: 1fr; border-left: outer $foreground 20%; padding-left: 1;
                              scrollbar-size-vertical: 1; }
    EvaluatedScreen .response:focus { border-left: outer $primary; }
    """
    NEEDS_ROWS = frozenset({"show"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "strategy(1)", "Strategy", key_display="← →", id="evaluated.next"),
        Binding("left,h", "strategy(-1)", "Strategy before", show=False, id="evaluated.before"),
        Binding("f", "show", "Show", id="evaluated.show"),
        Binding("escape", "back", "Back", key_display="esc", id="evaluated.back"),
    ]

    def __init__(self, job_id: int, strategies: Sequence[str], strategy: str) -> None:
        super().__init__()
        self._job_id, self._strategies, self._strategy = job_id, strategies, strategy
        self._kind = KINDS[0]
        self._at: int | None = None

    def body(self) -> Iterable[Widget]:
        yield OneLine(id="sums")
        yield VirtualTable(_columns(self._strategy), id="prompts")
        yield MessageBar(id="prompt")
        with Horizontal():
            for side in ("before", "after"):
                with VerticalScroll(classes="response", id=side):
                    yield Static(markup=False)

    def question(self) -> Question:
        room = 0
        for sheet in self.query("#prompts").results(VirtualTable):  # none before the screen is there
            room = sheet.room(len(sheet.columns) - 2)
        return Question(self._job_id, self._strategy, self._kind, self._at, room or LEAST)

    def read(self, store: Store, question: Question) -> Evaluated | None:
        """From the store, also while the strategy is being evaluated."""
        return evaluation_query.read(store, question, self.cache)

    def show(self, data: Evaluated) -> None:
        self._kind = data.listed.kind
        self.query_one("#sums", OneLine).update(_sums(data))
        rows = [(line.prompt_id, _cells(line, data.strategy)) for line in data.listed.lines]
        self.query_one("#prompts", VirtualTable).fill(rows, _columns(data.strategy))
        self._show_responses(data)

    def _show_responses(self, data: Evaluated) -> None:
        asked = ""
        if data.prompt is not None:
            asked = "" if data.prompt.answer is None else f"reference {data.prompt.answer}\n"
            turns = "⏎".join(str(turn["content"]) for turn in data.prompt.messages)
            asked += turns.replace("\n", "⏎")[:LONGEST]
        self.query_one("#prompt", MessageBar).tell(asked)
        sides = (("before", data.before, "before training"), ("after", data.after, data.strategy))
        for side, result, name in sides:
            box = self.query_one(f"#{side}", VerticalScroll)
            box.display = side == "after" or data.strategy != BEFORE
            text = _response(result, name)
            if str(box.query_one(Static).content) != str(text):
                box.query_one(Static).update(text)
                box.scroll_home(animate=False)

    def about(self) -> str:
        listed = "" if self._kind == KINDS[0] else f" · {self._kind}"
        return f"responses of {self._strategy}{listed} · job {self._job_id}"

    def text_to_copy(self) -> str:
        return "" if self.data is None or self.data.after is None else self.data.after.text

    @on(VirtualTable.Highlighted, "#prompts")
    def _look(self, event: VirtualTable.Highlighted) -> None:
        if isinstance(event.key, int) and event.key != self._at:
            self._at = event.key
            self.ask(frozen_too=True)

    def action_strategy(self, by: int) -> None:
        at = self._strategies.index(self._strategy)
        self._strategy = self._strategies[(at + by) % len(self._strategies)]
        self.ask(frozen_too=True)

    def action_show(self) -> None:
        """Lists other prompts: all, newly right, newly wrong, wrong."""
        at = KINDS.index(self._kind) + 1
        counts = {} if self.data is None else self.data.listed.counts
        # What no prompt is of is passed over: an empty list has nothing to read.
        self._kind = next((kind for kind in (*KINDS[at:], *KINDS) if counts.get(kind)), KINDS[0])
        self.ask(frozen_too=True)

    def action_back(self) -> None:
        if self.is_active:
            self.dismiss()


def _columns(name: str) -> tuple[Column, ...]:
    sides = (Column("right", 6),) if name == BEFORE else (Column("before", 6), Column("after", 6))
    return (Column("prompt", 7, right=True), *sides, Column("question"), Column("reference", 20, drop=1))


def _cells(line: Line, name: str) -> list[Cell | str]:
    sides = [_value(line.after)] if name == BEFORE else [_value(line.before), _value(line.after)]
    return [f"#{line.prompt_id}", *sides, line.prompt, Cell(line.reference, "dim")]


def _value(value: float | None) -> Cell:
    if value is None:
        return Cell("–", "dim")
    graded = "" if value in (0, 1) else f" {value:.2f}"
    return Cell(f"✓{graded}", "good") if value >= RIGHT else Cell(f"✗{graded}", "dim")


def _sums(data: Evaluated) -> str:
    listed = data.listed
    parts = [f"{data.strategy} {_share(listed.after)}"]
    if data.strategy != BEFORE:
        parts.append(f"before {_share(listed.before)}")
        parts += [f"{kind} {count(listed.counts[kind])}" for kind in ("newly right", "newly wrong")]
    return "   ".join(map(strip_control, parts))


def _share(side: Side) -> str:
    share = "–" if side.right is None else f"{100 * side.right:.1f} %"
    rest = f" ({count(side.unjudged)} not judged)" if side.unjudged else ""
    return f"{share} of {count(side.judged)} right{rest}" + ("" if side.complete else " so far")


def _response(result: Result | None, name: str) -> Text:
    if result is None:
        return Text(f"{strip_control(name)}: no response yet", style="dim")
    cell = _value(result.value)
    ended = "" if result.status == "ok" else f" · {result.status}"
    head = f"{strip_control(name)} {cell.text} · {count(result.completion_tokens)} tok{ended}\n"
    text = Text(head, style="bold")
    shown = strip_control(result.text[:LONGEST])
    text.append(shown or "(no text)", style="not bold")
    if len(result.text) > LONGEST:
        text.append(f"\n… {count(len(result.text) - LONGEST)} more characters", style="dim")
    return text
