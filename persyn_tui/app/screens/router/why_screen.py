"""Why a teacher: strengths, and every teacher's stored response to the calibration prompts most like this one."""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from persyn_tui.app.base.formatting import bar, count, short, signed
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.screens.router.query import NEAR_TIE, Choice, last_words
from persyn_tui.app.screens.router.router_process import RouterHelper, ranked
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.virtual_table import Cell, Column, Tone, VirtualTable
from persyn_tui.views.response_view import halves
from storage import browse
from storage.errors import PersynError
from storage.records import Messages, ResponseLine, RouterRecord
from storage.store import Store

DOTS = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
BAR = 12


@dataclass(frozen=True, slots=True)
class Asked:
    """What the router is asked about."""

    messages: Messages
    choice: Choice | None = None
    """As stored; None for a prompt that the operator typed."""
    strategy: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """What the screen shows."""

    asked: Asked | None
    strengths: Mapping[str, float]
    """Empty while not known."""
    nearest: Sequence[Mapping[str, Any]]
    """The nearest calibration prompts, as `persyn route --json` has them; empty while not known."""
    place: int
    """Which of them the responses below belong to."""
    responses: Mapping[str, ResponseLine]
    """Teacher → its response to that calibration prompt."""
    unlike: bool
    """No calibration prompt is like it: the router guesses."""
    waiting: bool
    failure: str


class WhyScreen(BaseScreen[Why]):
    """One prompt.

    Args:
        router: which router.
        helper: its process.
        asked: None lets the operator type a prompt first.
    """

    NUMBER, NAME, LIST = 3, "Router", "#teachers"
    EMPTY = ""
    DEFAULT_CSS = """
    WhyScreen #ask { border: none; height: 1; padding: 0; background: $surface; display: none; }
    WhyScreen #ask.open { display: block; }
    WhyScreen #prompt { height: auto; max-height: 4; }
    WhyScreen #verdict { height: auto; max-height: 2; }
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

    def __init__(self, router: RouterRecord, helper: RouterHelper, asked: Asked | None) -> None:
        super().__init__()
        self._router, self._helper, self._asked = router, helper, asked
        self._found: Mapping[str, Any] = {}
        """What the router said; empty until then."""
        self._failure = ""
        self._place = 0
        self._waiting_since: float | None = None
        self._ticker: Timer | None = None

    # What is read

    def body(self) -> Iterable[Widget]:
        """The prompt, the verdict, a row per teacher, the responses to the nearest prompts."""
        yield Input(
            placeholder=self.app.keyed("a prompt for the router; enter asks, {why.back:esc} leaves"),
            id="ask",
            compact=True,
        )
        yield Static(id="prompt", markup=False)
        yield Static(id="verdict", markup=False)
        yield VirtualTable(self._columns(()), id="teachers")
        yield Static(id="neighbour", markup=False)
        with VerticalScroll(id="words"):
            yield Static(id="response", markup=False)

    def on_mount(self) -> None:
        """Asks at once, or lets the operator type."""
        self._ticker = self.set_interval(0.2, self._tick, pause=True)
        if self._asked is not None:
            self._ask_router(self._asked.messages)

    def focus_first(self) -> None:
        """The teachers; the line to type in where nothing is asked yet."""
        if self._asked is None:
            self.action_ask()
        else:
            self.query_one("#teachers", VirtualTable).focus()

    def question(self) -> Any:
        """What is asked, what came back, and which neighbour is looked at."""
        return (id(self._asked), id(self._found), self._place, self._waiting_since, self._failure)

    def read(self, store: Store, question: Any) -> Why:
        """The stored responses to the neighbour that is looked at."""
        found, asked = self._found, self._asked
        stored = {} if asked is None or asked.choice is None else asked.choice.strengths
        nearest = found.get("nearest", ())
        place = self._place % max(1, len(nearest))
        ids: dict[int, str] = {}
        if nearest:
            ids = {answer["id"]: teacher for teacher, answer in nearest[place]["answers"].items()}
        return Why(
            asked=asked,
            strengths=found.get("strengths", stored),
            nearest=nearest,
            place=place,
            responses={ids[line.response.id]: line for line in browse.lines(store, list(ids))},
            unlike=bool(found.get("unlike")),
            waiting=self._waiting_since is not None,
            failure=self._failure,
        )

    # What is shown

    def show(self, data: Why) -> None:
        """Prompt, verdict, teachers, and the response under the cursor."""
        asked = data.asked
        text = "" if asked is None else last_words(asked.messages)
        self.query_one("#prompt", Static).update(strip_control(text[:2000]))
        self.query_one("#verdict", Static).update(strip_control(self._verdict()))
        sheet = self.query_one("#teachers", VirtualTable)
        first = sheet.key is None
        sheet.fill(self._rows(data), self._columns(data.nearest, data.place))
        chosen = self.chosen
        if first and chosen:
            sheet.go_to(chosen)
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

    def _rows(self, data: Why) -> list[tuple[str, Sequence[Cell | str]]]:
        values = data.strengths.values()
        low, high = (min(values), max(values)) if values else (0.0, 0.0)
        rows: list[tuple[str, Sequence[Cell | str]]] = []
        for name, value in ranked(data.strengths):
            share = (value - low) / (high - low) if high > low else 1.0
            mark = Cell("★", "accent") if name == self.chosen else Cell("")
            cells: list[Cell | str] = [
                mark,
                name,
                signed(value),
                # The weakest has the shortest bar, not none: strengths have no zero.
                Cell(bar((1 + share * (BAR - 1)) / BAR, BAR), "accent"),
            ]
            rows.append((name, [*cells, *(_scores(one["answers"].get(name)) for one in data.nearest)]))
        return rows

    @property
    def chosen(self) -> str:
        """The teacher that got the prompt, or would get it."""
        if self._asked is not None and self._asked.choice is not None:
            return self._asked.choice.teacher
        return str(self._found.get("choice", ""))

    def _verdict(self) -> str:
        """The choice in one line, with its margin."""
        data = self.data
        if data is None or data.asked is None:
            return "type a prompt: the router says which teacher would get it, and why"
        parts = []
        order = ranked(data.strengths)
        if order:
            top, margin = order[0][0], order[0][1] - order[1][1] if len(order) > 1 else 0.0
            choice = data.asked.choice
            if choice is not None and not strategy_kinds.uses_router(data.asked.strategy):
                parts.append(f"→ {choice.teacher}, by the rule of `{data.asked.strategy}`; the router: {top}")
            elif choice is not None and choice.measured:
                parts.append(f"→ {choice.teacher}, by the measured rewards of this prompt; the router: {top}")
            else:
                parts.append(f"→ {top}")
            if len(order) > 1:
                odds = 1 / (1 + math.exp(-min(50.0, margin)))
                parts.append(f"margin {signed(margin)}: {odds:.0%} to beat {order[1][0]}")
            if data.unlike:
                parts.append("▲ unlike all it learned from")
            if len(order) > 1 and margin < NEAR_TIE:
                parts.append("⚠ near tie")
        return "   ".join(parts)

    def _show_response(self) -> None:
        data = self.data
        neighbour, shown = self.query_one("#neighbour", Static), self.query_one("#response", Static)
        if data is None or not data.nearest:
            shown.update("")
            neighbour.update(strip_control(self._meanwhile()))
            return
        one = data.nearest[data.place]
        neighbour.update(
            strip_control(
                f"nearest {data.place + 1} of {len(data.nearest)}: calibration prompt #{one['prompt_id']}, "
                f"cosine {one['cosine']:.2f}: {one['prompt'][:2000]}"
            ).replace("\n", "⏎")
        )
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
        if self._waiting_since is not None:
            waited = time.monotonic() - self._waiting_since
            dot = DOTS[int(waited * 5) % len(DOTS)]
            return f"{dot} the router reads the prompt and looks for its nearest calibration prompts: {waited:.0f} s"
        if self._failure:
            return f"✗ {self._failure}"
        return "" if not self._found else "no calibration prompts are stored for this router"

    def about(self) -> str:
        """Which router."""
        return f"why · router {self._router.id}"

    def text_to_copy(self) -> str:
        """The prompt with the strengths."""
        if self.data is None or self.data.asked is None:
            return ""
        strengths = "".join(f"\n{name}\t{value:+.4f}" for name, value in ranked(self.data.strengths))
        return last_words(self.data.asked.messages) + strengths

    # Keys

    @on(VirtualTable.Highlighted, "#teachers")
    def _look(self) -> None:
        self._show_response()

    def action_neighbour(self, by: int) -> None:
        """The next of the nearest calibration prompts."""
        nearest = () if self.data is None else self.data.nearest
        if nearest:
            self._place = (self._place + by) % len(nearest)
            self.query_one("#words", VerticalScroll).scroll_home(animate=False)
            self.ask(frozen_too=True)

    def action_ask(self) -> None:
        """Opens the line to type a prompt in."""
        line = self.query_one("#ask", Input)
        line.add_class("open")
        line.focus()

    @on(Input.Submitted, "#ask")
    def _typed(self, event: Input.Submitted) -> None:
        if not event.value.strip():
            return
        self._asked, self._found, self._place = Asked(({"role": "user", "content": event.value},)), {}, 0
        self.query_one("#teachers", VirtualTable).fill(())
        self._close_line()
        self._ask_router(self._asked.messages)

    def _close_line(self) -> None:
        self.query_one("#ask", Input).remove_class("open")
        self.query_one("#teachers", VirtualTable).focus()

    def action_back(self) -> None:
        """Leaves the line, or the screen."""
        if self.query_one("#ask", Input).has_focus and self._asked is not None:
            self._close_line()
        else:
            self.dismiss()

    # The router

    def _ask_router(self, messages: Messages) -> None:
        self._waiting_since, self._failure = time.monotonic(), ""
        if self._ticker is not None:
            self._ticker.resume()
        background(
            self, partial(self._answered, messages), group="router", exclusive=True, exit_on_error=False
        )
        self.ask()

    async def _answered(self, messages: Messages) -> None:
        try:
            self._found = await self._helper.ask(messages)
        except PersynError as problem:
            self._failure = str(problem)
        except asyncio.CancelledError:
            return
        self._waiting_since = None
        if self._ticker is not None:
            self._ticker.pause()
        self.ask()

    def _tick(self) -> None:
        self.query_one("#neighbour", Static).update(strip_control(self._meanwhile()))


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
