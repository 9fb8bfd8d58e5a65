"""Every teacher's answer to one prompt, side by side, with scores, the router's strength and where it came from."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from persyn_tui.app.base.formatting import count, signed
from persyn_tui.app.screens.data.prompt_responses import Answers, Beside
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets.one_line import OneLine
from persyn_tui.app.widgets.virtual_table import cut
from persyn_tui.views import response_view
from storage.store import Store

NARROWEST = 34
"""Cells of a column; as many columns as fit are shown."""
SHOWN_CHARACTERS = 40_000
SHOWN_LINES = 1_000
"""Of one answer; `y` copies all of it."""


class AnswerColumn(VerticalScroll, can_focus=False):
    """One answer."""

    DEFAULT_CSS = """
    AnswerColumn {
        width: 1fr; height: 1fr; padding: 0 1; border-left: vkey $foreground 20%;
        scrollbar-size-vertical: 1; scrollbar-color: $foreground 25%; scrollbar-background: $background;
    }
    AnswerColumn > .head { height: 4; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    AnswerColumn.at { border-left: outer $primary; }
    AnswerColumn.at > .head { color: $text; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = Static(classes="head", markup=False), Static(markup=False)

    def compose(self) -> ComposeResult:
        """Head, then the text."""
        yield self.head
        yield self.body

    def on_click(self) -> None:
        """A click chooses the column."""
        self.post_message(Picked(self))


class Picked(Message):
    """A column was clicked."""

    def __init__(self, column: AnswerColumn) -> None:
        super().__init__()
        self.column = column


class AnswersPanel(Vertical, can_focus=True):
    """The answers to the prompt of the row under the cursor."""

    DEFAULT_CSS = """
    AnswersPanel { height: 3fr; display: none; }
    AnswersPanel > #about-prompt { height: auto; max-height: 4; padding-bottom: 0; }
    AnswersPanel > #columns { height: 1fr; }
    AnswersPanel > #origin { height: 1fr; display: none; scrollbar-size-vertical: 1; }
    AnswersPanel.origin > #columns, AnswersPanel.origin > #about-prompt { display: none; }
    AnswersPanel.origin > #origin { display: block; }
    AnswersPanel > #which { color: $quiet; }
    AnswersPanel:focus > #which { color: $text-primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,right,l", "pick(1)", "Next answer", key_display="tab", id="answers.next"),
        Binding("shift+tab,left,h", "pick(-1)", "Answer before", show=False, id="answers.before"),
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

    class Row(Message):
        """The operator wants the answers of the next row, or of the one before."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.data: Answers | None = None
        self.place = 0
        """Which answer is chosen."""
        self._first = 0
        """Which answer stands in the first column."""
        self._shown: list[Any] = []
        self._opened = 0
        """The response that the answers were opened from."""

    def compose(self) -> ComposeResult:
        """What is looked at, the prompt, then the columns or the provenance."""
        yield OneLine(id="which")
        yield Static(id="about-prompt", markup=False)
        yield Horizontal(id="columns")
        with VerticalScroll(id="origin", can_focus=False):
            yield Static(id="origin-text", markup=False)

    @property
    def chosen(self) -> dict[str, Any] | None:
        """The chosen answer, as `response_view.as_json` has it."""
        return None if self.data is None else self.data.answers[self.place]

    @property
    def text(self) -> str:
        """The chosen answer's text as it is stored."""
        return "" if self.data is None or self.chosen is None else self.data.texts[self.chosen["id"]]

    async def read(
        self,
        store: Store,
        response_id: int,
        in_view: int | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Reads the answers beside this one and shows them; whether it is there.

        Args:
            store: an open store.
            response_id: one of the answers.
            in_view: the dataset in view.
            wanted: whether they still are, when they have been read.
        """
        beside = Beside(store, in_view)
        found = await asyncio.to_thread(beside.read, response_id)
        if found is None:
            return False
        if wanted():
            await self.put(found, response_id)
            # Not waited for: a run's models may have to be read first.
            work = partial(self._complete, beside, response_id)
            background(self, work, group="rewards", exclusive=True, exit_on_error=False)
        return True

    async def _complete(self, beside: Beside, response_id: int) -> None:
        """Adds rewards that no dataset has, where they can be known."""
        more = await asyncio.to_thread(beside.complete)
        if more is not None and self.data is not None and response_id == self._opened:
            await self.put(more, response_id)

    async def put(self, data: Answers, response_id: int) -> None:
        """Shows these answers, with the cursor on the one of `response_id`; read anew, it stays where it is."""
        ids = [answer["id"] for answer in data.answers]
        at = self.chosen["id"] if self.chosen is not None and response_id == self._opened else response_id
        self.data, self._opened = data, response_id
        self.place = ids.index(at) if at in ids else 0
        await self._paint()

    def close(self) -> None:
        """Forgets the answers; opened again, the cursor is on the answer that was opened."""
        self.data = None

    async def on_resize(self, event: events.Resize) -> None:
        """As many columns as fit."""
        if self.data is not None:
            await self._paint()

    async def _paint(self) -> None:
        if self.data is None:
            return
        data, width = self.data, max(NARROWEST, self.size.width)
        answers = data.answers
        fits = max(1, min(len(answers), width // NARROWEST))
        self._first = max(0, min(self._first, self.place, len(answers) - fits))
        self._first = max(self._first, self.place - fits + 1)
        columns = await self._columns(fits)
        last = self._first + fits
        some = "" if fits == len(answers) else f"{self._first + 1}–{last} of {len(answers)}"
        star = f" · ★ {data.why_starred}" if data.why_starred else ""
        where = f" ({data.splits})" if data.splits else ""
        answered = some or f"{len(answers)} answer{'' if len(answers) == 1 else 's'}"
        rewards = f" · r {data.rewards}" if data.rewards else ""
        which = f"── prompt #{data.prompt_id}{where} · {answered}{star}{rewards} "
        self.query_one("#which", OneLine).update(which.ljust(self.size.width, "─"))
        self.query_one("#about-prompt", Static).update(self._prompt(width))
        shown = [data.prompt_id, *(answers[self._first : last])]
        if shown != self._shown:
            self._shown = shown
            for column, answer in zip(columns, answers[self._first : last], strict=True):
                column.head.update(self._head(answer))
                column.body.update(_body(answer))
                column.scroll_home(animate=False)
        for number, column in enumerate(columns):
            column.set_class(self._first + number == self.place, "at")
        self.query_one("#origin-text", Static).update(self._origin())

    async def _columns(self, wanted: int) -> list[AnswerColumn]:
        area = self.query_one("#columns", Horizontal)
        there = list(area.query(AnswerColumn))
        if len(there) < wanted:
            more = [AnswerColumn() for _ in range(wanted - len(there))]
            await area.mount(*more)
            there += more
            self._shown = []
        for number, column in enumerate(there):
            column.display = number < wanted
        return there[:wanted]

    def _prompt(self, width: int) -> Text:
        assert self.data is not None
        prompt = self.data.answers[0]["prompt"]
        text = Text(no_wrap=False)
        asked = " ".join(str(prompt["messages"][-1]["content"]).split()) if prompt["messages"] else ""
        room = width * 3 - 4 if prompt["answer"] is None else width * 2 - 4
        i = self.app.keyed("{answers.origin:i}")
        text.append(asked if len(asked) <= room else f"{asked[:room]}… ({i}: all of it)")
        if prompt["answer"] is not None:
            text.append("\nreference ", style="dim")
            text.append(cut(str(prompt["answer"]), max(8, width - 14)).rstrip())
        return text

    def _head(self, answer: dict[str, Any]) -> Text:
        assert self.data is not None
        scores = {score["kind"]: score["value"] for score in answer["scores"]}
        learnability = scores.pop("learnability", None)
        quality = next((value for value in reversed(list(scores.values())) if value is not None), None)
        name = answer["provenance"]["teacher"]
        strength = self.data.strengths.get(name)
        text = Text(overflow="ellipsis", no_wrap=True)
        text.append(name, style="bold")
        if answer["id"] == self.data.starred:
            text.append(" ★")
        sample = answer["provenance"]["sample"]
        text.append(f"  #{answer['id']}" + (f" · sample {sample}" if sample else ""), style="dim")
        quality_text = "–" if quality is None else f"{quality:.2f}"
        text.append(f"\nq {quality_text} l {signed(learnability)} r {signed(answer['reward'])}")
        text.append(f" s {signed(strength)}" if strength is not None else "")
        status = answer["status"]
        text.append(
            f"\n{answer['finish_reason'] if status == 'ok' else status}",
            style="dim" if status == "ok" else "bold",
        )
        text.append(f" · {count(answer['completion_tokens'])} tok · {answer['latency_s']:.2f} s", style="dim")
        if answer["provenance"]["attempts"] > 1:
            text.append(f" · attempt {answer['provenance']['attempts']}", style="dim")
        return text

    def _origin(self) -> Text:
        answer = self.chosen
        assert answer is not None
        prompt, origin = answer["prompt"], answer["provenance"]
        text = Text()

        def part(head: str, lines: Iterable[str]) -> None:
            text.append(f"{head}\n", style="bold")
            for line in lines:
                text.append(f"  {line}\n")

        part(
            f"prompt #{prompt['id']} · {prompt['source']}",
            [f"[{message['role']}] {message['content']}" for message in prompt["messages"]]
            + [f"reference answer: {prompt['answer'] if prompt['answer'] is not None else 'none'}"]
            + ([f"checked by: {prompt['verifier']}"] if prompt["verifier"] else []),
        )
        part(
            f"answer #{answer['id']} · {origin['teacher']}",
            [
                f"{answer['status']} ({answer['finish_reason']}) · {count(answer['prompt_tokens'])} + "
                f"{count(answer['completion_tokens'])} tok · {answer['latency_s']:.2f} s · ${answer['cost']:.6f}",
                *([f"error: {answer['error']}"] if answer["error"] else []),
                *response_view.score_lines(answer),
                response_view.reward_line(answer),
            ],
        )
        part("provenance", response_view.origin_lines(answer))
        return text

    async def action_pick(self, by: int) -> None:
        """Goes to the next answer, round the end."""
        if self.data is not None:
            self.place = (self.place + by) % len(self.data.answers)
            await self._paint()

    async def on_picked(self, event: Picked) -> None:
        """Goes to the answer that was clicked."""
        self.place = self._first + list(self.query(AnswerColumn)).index(event.column)
        await self._paint()

    def action_origin(self) -> None:
        """Shows the prompt and where the answer came from, or the answers again."""
        self.toggle_class("origin")

    def action_row(self, by: int) -> None:
        """Asks for the next row."""
        self.post_message(self.Row(by))

    def action_scroll(self, by: int) -> None:
        """Scrolls the chosen answer, or the provenance."""
        origin = self.has_class("origin")
        at: Iterable[Widget] = self.query("#origin") if origin else self.query("AnswerColumn.at")
        for target in at:  # none while the columns are being made
            target.scroll_relative(y=by, animate=False)


def _body(answer: dict[str, Any]) -> Text:
    text = Text()
    if answer["reasoning"]:
        reasoning, more = _beginning(answer["reasoning"])
        text.append(f"reasoning\n{reasoning}{more}\n\nanswer\n", style="dim")
    if answer["error"]:
        text.append(answer["error"], style="bold")
    body, more = _beginning(answer["text"])
    text.append(body or ("" if answer["error"] else "(no text)"))
    text.append(more, style="dim")
    return text


def _beginning(whole: str) -> tuple[str, str]:
    """(what is shown of a text, a line that says how much more there is): a long one would take seconds to lay out."""
    shown = "\n".join(whole[:SHOWN_CHARACTERS].split("\n", SHOWN_LINES)[:SHOWN_LINES])
    left = len(whole) - len(shown)
    return shown, f"\n… {count(left)} more characters; y copies all" if left else ""
