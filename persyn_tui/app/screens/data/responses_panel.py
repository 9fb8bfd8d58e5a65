"""All responses to one prompt, side by side, with scores, the router's strength and where each came from."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from persyn_tui.app.screens.data import formatting, query
from persyn_tui.app.screens.data.query import PromptResponses
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.one_line import OneLine
from storage.store import Store

NARROWEST = 34
"""Cells of a column; as many columns as fit are shown."""


class ResponseColumn(VerticalScroll, can_focus=False):
    """One response."""

    DEFAULT_CSS = """
    ResponseColumn {
        width: 1fr; height: 1fr; padding: 0 1; border-left: vkey $foreground 20%;
        scrollbar-size-vertical: 1; scrollbar-color: $foreground 25%; scrollbar-background: $background;
    }
    ResponseColumn > .head { height: 4; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    ResponseColumn.at { border-left: outer $primary; }
    ResponseColumn.at > .head { color: $text; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = Static(classes="head", markup=False), Static(markup=False)

    def compose(self) -> ComposeResult:
        yield self.head
        yield self.body

    def on_click(self) -> None:
        self.post_message(Picked(self))


@dataclass
class Picked(Message):
    """A column was clicked."""

    column: ResponseColumn


class ResponsesPanel(Vertical, can_focus=True):
    """The responses to the prompt of the row under the cursor."""

    DEFAULT_CSS = """
    ResponsesPanel { height: 3fr; display: none; }
    ResponsesPanel > #about-prompt { height: auto; max-height: 4; padding-bottom: 0; }
    ResponsesPanel > #columns { height: 1fr; }
    ResponsesPanel > #origin { height: 1fr; display: none; scrollbar-size-vertical: 1; }
    ResponsesPanel.origin > #columns, ResponsesPanel.origin > #about-prompt { display: none; }
    ResponsesPanel.origin > #origin { display: block; }
    ResponsesPanel > #which { color: $quiet; }
    ResponsesPanel:focus > #which { color: $text-primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,right,l", "pick(1)", "Next response", key_display="tab", id="answers.next"),
        Binding("shift+tab,left,h", "pick(-1)", "Response before", show=False, id="answers.before"),
        Binding("i", "origin", "Prompt & provenance", id="answers.origin"),
        Binding("right_square_bracket", "row(1)", "Next row", key_display="] [", id="answers.next_row"),
        Binding("left_square_bracket", "row(-1)", "Row before", show=False, id="answers.row_before"),
        Binding("j,down", "scroll(1)", "Down", show=False, id="answers.down"),
        Binding("k,up", "scroll(-1)", "Up", show=False, id="answers.up"),
        Binding("pagedown,space", "scroll(10)", "Page down", show=False, id="answers.page_down"),
        Binding("pageup", "scroll(-10)", "Page up", show=False, id="answers.page_up"),
        Binding("g,home", "scroll(-1000000)", "Beginning", show=False, id="answers.top"),
        Binding("G,end", "scroll(1000000)", "End", show=False, id="answers.bottom"),
    ]

    LEGEND: ClassVar[dict[str, str]] = {
        "q": "quality",
        "l": "learnability, nats per token",
        "r": "reward",
        "s": "the router's strength",
    }
    """What stands in the heads; `?` says it."""

    app: BaseApp

    @dataclass
    class Row(Message):
        """The operator wants the responses of the next row, or of the one before."""

        by: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.data: PromptResponses | None = None
        self.place = 0
        """Which response is chosen."""
        self._first = 0
        """Which response stands in the first column."""
        self._shown: list[Any] = []
        self._opened = 0
        """The response that the panel was opened from."""

    def compose(self) -> ComposeResult:
        yield OneLine(id="which")
        yield Static(id="about-prompt", markup=False)
        yield Horizontal(id="columns")
        with VerticalScroll(id="origin", can_focus=False):
            yield Static(id="origin-text", markup=False)

    @property
    def chosen(self) -> dict[str, Any] | None:
        """The chosen response, as `response_view.as_json` has it."""
        return None if self.data is None else self.data.responses[self.place]

    @property
    def text(self) -> str:
        """The chosen response's text as it is stored."""
        return "" if self.data is None or self.chosen is None else self.data.texts[self.chosen["id"]]

    async def read(
        self,
        store: Store,
        response_id: int,
        in_view: int | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Reads the responses beside this one, and shows them if they are still `wanted` then; whether it is there.

        `in_view` is the dataset in view.
        """
        found = await asyncio.to_thread(query.beside, store, response_id, in_view)
        if found is None:
            return False
        if wanted():
            await self._put(found, response_id)
            # Not waited for: a run's models may have to be read first.
            work = partial(self._complete, store, found, response_id)
            background(self, work, group="rewards", exclusive=True, exit_on_error=False)
        return True

    async def _complete(self, store: Store, found: PromptResponses, response_id: int) -> None:
        """Adds rewards that no dataset has, where they can be known."""
        more = await asyncio.to_thread(found.completed, store)
        if more is not None and self.data is not None and response_id == self._opened:
            await self._put(more, response_id)

    async def _put(self, data: PromptResponses, response_id: int) -> None:
        """Shows these, with the cursor on the one of `response_id`; read anew, it stays where it is."""
        ids = [response["id"] for response in data.responses]
        at = self.chosen["id"] if self.chosen is not None and response_id == self._opened else response_id
        self.data, self._opened = data, response_id
        self.place = ids.index(at) if at in ids else 0
        await self._paint()

    def close(self) -> None:
        """Forgets the responses; opened again, the cursor is on the one that was opened."""
        self.data = None

    async def on_resize(self, event: events.Resize) -> None:
        await self._paint()

    async def _paint(self) -> None:
        data = self.data
        if data is None:
            return
        many, width = len(data.responses), max(NARROWEST, self.size.width)
        fits = max(1, min(many, width // NARROWEST))
        self._first = max(0, self.place - fits + 1, min(self._first, self.place, many - fits))
        last = self._first + fits
        some = f"{many} response{'' if many == 1 else 's'}"
        some = some if fits == many else f"{self._first + 1}–{last} of {many}"
        where = f" ({data.splits})" if data.splits else ""
        star = f" · ★ {data.why_starred}" if data.why_starred else ""
        rewards = f" · r {data.rewards}" if data.rewards else ""
        which = f"── prompt #{data.prompt_id}{where} · {some}{star}{rewards} "
        self.query_one("#which", OneLine).update(which.ljust(self.size.width, "─"))
        prompt = data.responses[0]["prompt"]
        origin_key = self.app.keyed("{answers.origin:i}")
        self.query_one("#about-prompt", Static).update(formatting.prompt_text(prompt, width, origin_key))
        columns = await self._columns(fits)
        responses = data.responses[self._first : last]
        shown = [data.prompt_id, *responses]
        if shown != self._shown:
            self._shown = shown
            for column, response in zip(columns, responses, strict=True):
                column.head.update(formatting.head(response, data))
                column.body.update(formatting.body(response))
                column.scroll_home(animate=False)
        for number, column in enumerate(columns):
            column.set_class(self._first + number == self.place, "at")
        self.query_one("#origin-text", Static).update(formatting.origin(data.responses[self.place]))

    async def _columns(self, wanted: int) -> list[ResponseColumn]:
        area = self.query_one("#columns", Horizontal)
        there = list(area.query(ResponseColumn))
        if len(there) < wanted:
            more = [ResponseColumn() for _ in range(wanted - len(there))]
            await area.mount(*more)
            there += more
            self._shown = []
        for number, column in enumerate(there):
            column.display = number < wanted
        return there[:wanted]

    async def action_pick(self, by: int) -> None:
        if self.data is not None:
            self.place = (self.place + by) % len(self.data.responses)
            await self._paint()

    async def on_picked(self, event: Picked) -> None:
        self.place = self._first + list(self.query(ResponseColumn)).index(event.column)
        await self._paint()

    def action_origin(self) -> None:
        """Shows the prompt and where the response came from, or the responses again."""
        self.toggle_class("origin")

    def action_row(self, by: int) -> None:
        self.post_message(self.Row(by))

    def action_scroll(self, by: int) -> None:
        """Scrolls the chosen response, or the provenance."""
        origin = self.has_class("origin")
        at: Iterable[Widget] = self.query("#origin") if origin else self.query("ResponseColumn.at")
        for target in at:  # none while the columns are being made
            target.scroll_relative(y=by, animate=False)
