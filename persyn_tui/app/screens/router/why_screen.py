"""Why a teacher: strengths, and every teacher's stored response to the calibration prompts most like this one."""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.base.sanitize import strip_control
from engine.methods import strategy_kinds
from persyn_tui.app.base.formatting import bar, count, short, signed, spinner
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.screens.router.query import NEAR_TIE, Choice, last_words
from persyn_tui.app.state.engine_process import RouterProcess
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.virtual_table import Cell, Column, Tone, VirtualTable
from persyn_tui.views.response_view import halves
from storage import browse
from storage.errors import PersynError
from storage.records import Messages, ResponseLine, RouterRecord
from storage.store import Store

BAR = 12


@dataclass(frozen=True, slots=True)
class Asked:
    """What the router is asked about, and how far that is."""

    messages: Messages
    choice: Choice | None = None
    """As stored; None for a prompt that the operator typed."""
    strategy: str = ""
    since: float | None = None
    """When it was asked; None once it has replied."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """Its reply, as `persyn route --json` has it; empty until then."""
    failure: str = ""
    """Why there is none."""
    place: int = 0
    """Which of the nearest calibration prompts is looked at."""

    @property
    def strengths(self) -> Mapping[str, float]:
        """Teacher → strength: the router's, until then as stored; empty while not known."""
        stored: Mapping[str, float] = {} if self.choice is None else self.choice.strengths
        return {**self.said.get("strengths", stored)}

    @property
    def nearest(self) -> Sequence[Mapping[str, Any]]:
        """The nearest calibration prompts; none while not known."""
        return [*self.said.get("nearest", ())]

    @property
    def chosen(self) -> str:
        """The teacher that got the prompt, or would get it."""
        return str(self.said.get("choice", "")) if self.choice is None else self.choice.teacher


@dataclass(frozen=True, slots=True)
class Why:
    """What the screen shows."""

    asked: Asked | None
    responses: Mapping[str, ResponseLine]
    """Teacher → its stored response to the calibration prompt that is looked at."""


class WhyScreen(BaseScreen[Why]):
    """One prompt, asked of a router by its process; None lets the operator type one first."""

    NUMBER, NAME, LIST = 3, "Router", "#teachers"
    EMPTY = ""
    DEFAULT_CSS = """
    WhyScreen #ask { border: none; height: 1; padding: 0; background: $surface; display: none; }
    WhyScreen #ask.open { display: block; }
    WhyScreen #prompt { height: auto; max-height: 4; }
    WhyScreen #decision { height: auto; max-height: 2; }
    WhyScreen #teachers { height: auto; min-height: 4; max-height: 30%; }
    WhyScreen #neighbour { height: auto; max-height: 30%; color: $text-muted; border-top: solid $foreground 20%; }
    WhyScreen #words { height: 1fr; min-height: 3; scrollbar-size-vertical: 1; }
    WhyScreen #response { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", key_display="esc", id="why.back"),
        Binding("slash", "ask", "Ask another", key_display="/", id="why.ask"),
        Binding("right,l", "neighbour(1)", "Next neighbour", key_display="← →", id="why.next"),
        Binding("left,h", "neighbour(-1)", "Neighbour before", show=False, id="why.before"),
    ]

    def __init__(self, router: RouterRecord, process: RouterProcess, asked: Asked | None) -> None:
        super().__init__()
        self._router, self._process, self._asked = router, process, asked
        self._ticker: Timer | None = None

    # What is read

    def body(self) -> Iterable[Widget]:
        placeholder = self.app.keyed("a prompt for the router; enter asks, {why.back:esc} leaves")
        yield Input(placeholder=placeholder, id="ask", compact=True)
        yield Static(id="prompt", markup=False)
        yield Static(id="decision", markup=False)
        yield VirtualTable(self._columns(()), id="teachers")
        yield Static(id="neighbour", markup=False)
        with VerticalScroll(id="words"):
            yield Static(id="response", markup=False)

    def on_mount(self) -> None:
        self._ticker = self.set_interval(0.2, self._tick, pause=True)
        if self._asked is not None:
            self._ask_router(self._asked)

    def focus_first(self) -> None:
        if self._asked is None:
            self.action_ask()
        else:
            self.query_one("#teachers", VirtualTable).focus()

    def question(self) -> Asked | None:
        return self._asked

    def read(self, store: Store, question: Asked | None) -> Why:
        if question is None or not question.nearest:
            return Why(question, {})
        answers = question.nearest[question.place]["answers"]
        teachers = {answer["id"]: teacher for teacher, answer in answers.items()}
        lines = browse.lines(store, list(teachers))
        return Why(question, {teachers[line.response.id]: line for line in lines})

    # What is shown

    def show(self, data: Why) -> None:
        sheet, asked = self.query_one("#teachers", VirtualTable), data.asked
        self.query_one("#decision", Static).update(strip_control(_decision(asked)))
        if asked is not None:
            self.query_one("#prompt", Static).update(strip_control(last_words(asked.messages)[:2000]))
            first = sheet.key is None
            sheet.fill(_rows(asked), self._columns(asked.nearest, asked.place))
            if first and asked.chosen:
                sheet.go_to(asked.chosen)
        self._show_response()

    def _columns(self, nearest: Sequence[Mapping[str, Any]], looked_at: int = 0) -> tuple[Column, ...]:
        """A row per teacher: its strength, and its scores on each of the nearest prompts."""
        return (
            Column("", 1),
            Column("teacher"),
            Column("strength", 8, right=True),
            Column("", BAR, drop=1),
            *(
                Column(
                    f"{'▸' if place == looked_at else ''}#{one['prompt_id']} ~{short(one['cosine'])}",
                    14,
                    right=True,
                    # The one that is looked at stays longest.
                    drop=2 + (place - looked_at) % len(nearest),
                )
                for place, one in enumerate(nearest)
            ),
        )

    def _show_response(self) -> None:
        """The neighbour that is looked at, and the response of the teacher under the cursor to it."""
        data = self.data
        neighbour, shown = self.query_one("#neighbour", Static), self.query_one("#response", Static)
        if data is None or data.asked is None or not data.asked.nearest:
            shown.update("")
            neighbour.update(strip_control(self._meanwhile()))
            return
        place, many, one = data.asked.place, len(data.asked.nearest), data.asked.nearest[data.asked.place]
        near = f"nearest {place + 1} of {many}: calibration prompt #{one['prompt_id']}, cosine {one['cosine']:.2f}"
        neighbour.update(strip_control(f"{near}: {one['prompt'][:2000]}").replace("\n", "⏎"))
        teacher = self.query_one("#teachers", VirtualTable).key
        line = data.responses.get(str(teacher))
        if line is None:
            shown.update(f"{strip_control(str(teacher))} has no stored response to it" if teacher else "")
            return
        response = line.response
        head = f"response of {teacher} ({response.status}, {count(response.completion_tokens)} tokens):"
        shown.update(strip_control(f"{head}\n{response.text[:20_000] or response.error}"))

    def _meanwhile(self) -> str:
        """What stands in the place of the nearest prompts until they are known."""
        asked = self._asked
        if asked is None:
            return ""
        if asked.since is not None:
            waited = time.monotonic() - asked.since
            what = "the router reads the prompt and looks for its nearest calibration prompts"
            return f"{spinner(waited, 5)} {what}: {waited:.0f} s"
        return f"✗ {asked.failure}" if asked.failure else "no calibration prompts are stored for this router"

    def about(self) -> str:
        return f"why · router {self._router.id}"

    def text_to_copy(self) -> str:
        if self._asked is None:
            return ""
        strengths = "".join(f"\n{name}\t{value:+.4f}" for name, value in ranked(self._asked.strengths))
        return last_words(self._asked.messages) + strengths

    # Keys

    @on(VirtualTable.Highlighted, "#teachers")
    def _look(self) -> None:
        self._show_response()

    def action_neighbour(self, by: int) -> None:
        if self._asked is not None and (nearest := self._asked.nearest):
            self._asked = replace(self._asked, place=(self._asked.place + by) % len(nearest))
            self.query_one("#words", VerticalScroll).scroll_home(animate=False)
            self.ask(frozen_too=True)

    def action_ask(self) -> None:
        line = self.query_one("#ask", Input)
        line.add_class("open")
        line.focus()

    @on(Input.Submitted, "#ask")
    def _typed(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.query_one("#teachers", VirtualTable).fill(())
            self._close_line()
            self._ask_router(Asked(({"role": "user", "content": event.value},)))

    def _close_line(self) -> None:
        self.query_one("#ask", Input).remove_class("open")
        self.query_one("#teachers", VirtualTable).focus()

    def action_back(self) -> None:
        if self.query_one("#ask", Input).has_focus and self._asked is not None:
            self._close_line()
        else:
            self.dismiss()

    # The router

    def _ask_router(self, asked: Asked) -> None:
        self._asked = replace(asked, since=time.monotonic())
        if self._ticker is not None:
            self._ticker.resume()
        work = partial(self._wait, self._asked)
        background(self, work, group="router", exclusive=True, exit_on_error=False)
        self.ask()

    async def _wait(self, asked: Asked) -> None:
        try:
            self._asked = replace(asked, since=None, said=await self._process.ask(asked.messages))
        except PersynError as problem:
            self._asked = replace(asked, since=None, failure=str(problem))
        except asyncio.CancelledError:
            return
        if self._ticker is not None:
            self._ticker.pause()
        self.ask()

    def _tick(self) -> None:
        self.query_one("#neighbour", Static).update(strip_control(self._meanwhile()))


def ranked(strengths: Mapping[str, float]) -> list[tuple[str, float]]:
    """(teacher, strength), strongest first."""
    return sorted(strengths.items(), key=lambda item: -item[1])


def _rows(asked: Asked) -> list[tuple[str, Sequence[Cell | str]]]:
    values = asked.strengths.values()
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    rows: list[tuple[str, Sequence[Cell | str]]] = []
    for name, value in ranked(asked.strengths):
        share = (value - low) / (high - low) if high > low else 1.0
        # The weakest has the shortest bar, not none: strengths have no zero.
        strength = Cell(bar((1 + share * (BAR - 1)) / BAR, BAR), "accent")
        mark = Cell("★" if name == asked.chosen else "", "accent")
        scores = (_scores(one["answers"].get(name)) for one in asked.nearest)
        rows.append((name, [mark, name, signed(value), strength, *scores]))
    return rows


def _decision(asked: Asked | None) -> str:
    """The choice in one line, with its margin."""
    if asked is None:
        return "type a prompt: the router says which teacher would get it, and why"
    order = ranked(asked.strengths)
    if not order:
        return ""
    top, choice = order[0][0], asked.choice
    parts = [f"→ {top}"]
    if choice is not None and not strategy_kinds.uses_router(asked.strategy):
        parts = [f"→ {choice.teacher}, by the rule of `{asked.strategy}`; the router: {top}"]
    elif choice is not None and choice.measured:
        parts = [f"→ {choice.teacher}, by the measured rewards of this prompt; the router: {top}"]
    margin = order[0][1] - order[1][1] if len(order) > 1 else None
    if margin is not None:
        odds = 1 / (1 + math.exp(-min(50.0, margin)))
        parts.append(f"margin {signed(margin)}: {odds:.0%} to beat {order[1][0]}")
    if asked.said.get("unlike"):  # no calibration prompt is like it: the router guesses
        parts.append("▲ unlike all it learned from")
    if margin is not None and margin < NEAR_TIE:
        parts.append("⚠ near tie")
    return "   ".join(parts)


def _scores(answer: Mapping[str, Any] | None) -> Cell:
    """`q 1.00 l −0.41`: quality and learnability of a stored response."""
    if answer is None:
        return Cell("–", "dim")
    if answer["status"] != "ok":
        return Cell(str(answer["status"]), "warn")
    quality, learnability = halves(answer["scores"])
    right = "–" if quality is None else f"{quality:.2f}"
    tone: Tone = "good" if quality is not None and quality >= 0.5 else "plain"
    # −10.1 takes the place of −9.99.
    digits = 2 if learnability is None or abs(learnability) < 10 else 1
    return Cell(f"q {right} l {signed(learnability, digits)}", tone)
