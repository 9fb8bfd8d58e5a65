"""Forms: a line per field with what is wrong beside it, and the full-screen dialog that holds them."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea
from textual.worker import NoActiveWorker, get_current_worker

from engine.base.sanitize import strip_control
from engine.config.section import said
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.textual_fixes.dismiss_guard import DismissGuard
from persyn_tui.app.textual_fixes.private import suggestion
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets import machine_strip
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.footer import Keys
from persyn_tui.app.widgets.machine_strip import MachineStrip
from persyn_tui.app.widgets.message_bar import Remark
from persyn_tui.app.widgets.one_line import title_line
from persyn_tui.app.widgets.virtual_table import Tone

if TYPE_CHECKING:
    from pydantic import ValidationError

R = TypeVar("R")
Place = tuple[int | str, ...]
"""Where in the settings a problem is, as pydantic says it."""
PAUSE_S = 0.25
"""Typing must rest so long before files are read or a run is counted."""
BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
"""What pydantic calls a value out of bounds → in words, and where it says the bound."""
OFFERED = 400
"""Names of a folder that are looked through for a completion."""


@dataclass
class Edited(Message):
    """A field has another value."""

    key: str


class Line(Input):
    """One line of text. Enter is left to the form; tab completes where there is something to complete."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete, or next field", show=False, id="form.complete"),
    ]

    def __init__(self, value: str, placeholder: str = "", suggester: Suggester | None = None) -> None:
        super().__init__(value, placeholder, compact=True, suggester=suggester, select_on_focus=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action not in ("submit", "scroll_up", "scroll_down")

    def action_complete(self) -> None:
        """Takes the offered completion; without one, goes to the next field."""
        if self.cursor_at_end and len(suggestion(self)) > len(self.value):
            self.action_cursor_right()
        else:
            self.screen.focus_next()


class Choice(Static, can_focus=True):
    """One of a few values, all a key press away."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "turn(1)", "Next value", show=False, id="form.next_value"),
        Binding("left", "turn(-1)", "Previous value", show=False, id="form.previous_value"),
    ]
    value: reactive[str] = reactive("", init=False)

    def __init__(self, options: Sequence[str], value: str) -> None:
        super().__init__(markup=False)
        self.options = options
        self.set_reactive(Choice.value, value)

    def render(self) -> str:
        return f"‹ {self.value} ›" if len(self.options) > 1 and not self.is_disabled else self.value

    def action_turn(self, by: int) -> None:
        place = self.options.index(self.value) if self.value in self.options else -by
        self.value = self.options[(place + by) % len(self.options)]

    def on_click(self, event: events.Click) -> None:
        self.focus()
        self.action_turn(1)


class Area(TextArea):
    """Several lines of text; tab leaves it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "Next field", show=False, id="form.leave"),
        Binding("enter", "new_line", "New line", id="form.new_line"),
    ]

    def __init__(self, value: str, placeholder: str = "") -> None:
        super().__init__(
            value, compact=True, placeholder=placeholder, highlight_cursor_line=False, tab_behavior="focus"
        )

    def render_line(self, y: int) -> Strip:
        """A line; nothing where there is no room for a character: the library wraps its example to that width."""
        return super().render_line(y) if self.content_size.width > 0 else Strip.blank(self.size.width)

    def action_new_line(self) -> None:
        """Begins a new line, as the library does on enter; bound so that the footer says it."""
        self.insert("\n")

    def action_cursor_up(self, select: bool = False) -> None:
        if self.cursor_at_first_line and not select:
            self.screen.focus_previous()
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        if self.cursor_at_last_line and not select:
            self.screen.focus_next()
        else:
            super().action_cursor_down(select)


Control = Line | Choice | Area


class Entry(Horizontal):
    """One field: its name, its control, and what is to be said of its value."""

    DEFAULT_CSS = """
    Entry { height: 1; }
    Entry.tall { height: 3; }
    Entry > .name { width: 16; color: $text-muted; }
    Entry > Line, Entry > Choice, Entry > Area { width: 3fr; }
    Entry > Choice { height: 1; }
    Entry > Choice:focus { background: $primary 40%; text-style: bold; }
    Entry > Line:focus, Entry > Area:focus { background: $primary 25%; }
    Entry.at > .name { color: $text; text-style: bold; }
    Entry > Remark { width: 4fr; padding-left: 2; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, key: str, name: str, control: Control, hint: str = "") -> None:
        super().__init__(classes="tall" if isinstance(control, Area) else None)
        self.key, self.control, self.hint = key, control, hint
        self.title = name
        """What the operator sees it called."""
        self._remark = Remark(hint)

    @property
    def said(self) -> str:
        return str(self._remark.content)

    @property
    def wrong(self) -> bool:
        return self._remark.tone == "bad"

    @property
    def doubtful(self) -> bool:
        """Whether something of it may be wrong."""
        return self._remark.tone == "warn"

    def compose(self) -> ComposeResult:
        yield Static(self.title, classes="name", markup=False)
        yield self.control
        yield self._remark

    @property
    def value(self) -> str:
        """What the operator has put in, without spaces around it."""
        return (self.control.text if isinstance(self.control, Area) else self.control.value).strip()

    def put(self, value: str) -> None:
        if isinstance(self.control, Area):
            self.control.text = value
        else:
            self.control.value = value
            if isinstance(self.control, Line):
                # The library keeps the cursor where it stood, which may be in the middle of another value.
                self.control.cursor_position = len(self.control.value)

    def describe(self, title: str, hint: str) -> None:
        """Gives it another title and hint; what was said beside it is no longer."""
        self.title, self.hint = title, hint
        for name in self.query(".name").results(Static):
            name.update(title, layout=False)
        self.say()

    def say(self, text: str = "", tone: Tone = "dim") -> None:
        """Says `text` beside the field; nothing: the hint again."""
        self._remark.say((text or self.hint).replace("\n", " "), tone, layout=False)


class Form(VerticalScroll, can_focus=False):
    """Fields below each other; up and down go from one to the next."""

    DEFAULT_CSS = """
    Form { height: 1fr; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "step(1)", "Next field", key_display="↓", id="form.down"),
        Binding("up", "step(-1)", "Previous field", show=False, id="form.up"),
    ]

    def __init__(self, entries: Sequence[Entry], *, id: str | None = None) -> None:
        super().__init__(*entries, id=id)
        self.entries = {entry.key: entry for entry in entries}
        self.touched: set[str] = set()
        """Keys of the fields that the operator has changed."""
        self._known = {entry.key: entry.value for entry in entries}

    def __getitem__(self, key: str) -> Entry:
        return self.entries[key]

    @property
    def values(self) -> dict[str, str]:
        """Every field's value that can be used now; disabled ones are left out."""
        return {key: entry.value for key, entry in self.entries.items() if not entry.disabled}

    @property
    def at(self) -> Entry | None:
        return next((entry for entry in self.entries.values() if entry.control.has_focus), None)

    def to_wrong(self) -> None:
        """Goes to the first field that is wrong."""
        if wrong := next((entry for entry in self.entries.values() if entry.wrong), None):
            wrong.control.focus()

    def fill(self, key: str, value: str) -> None:
        """Puts a value in that the operator did not type; the field stays untouched."""
        self._known[key] = value
        self.entries[key].put(value)

    def add(self, entry: Entry, after: str) -> None:
        self.mount(entry, after=self.entries[after])
        self._known[entry.key] = entry.value
        place = list(self.entries).index(after) + 1
        rows = list(self.entries.items())
        self.entries = dict([*rows[:place], (entry.key, entry), *rows[place:]])
        self._follow(entry)

    def action_step(self, by: int) -> None:
        if by > 0:
            self.screen.focus_next()
        else:
            self.screen.focus_previous()

    def on_mount(self) -> None:
        for entry in self.entries.values():
            self._follow(entry)

    def _follow(self, entry: Entry) -> None:
        if isinstance(entry.control, Choice):
            self.watch(entry.control, "value", lambda: self._tell(entry.key), init=False)

    def on_descendant_focus(self) -> None:
        at = self.at
        for entry in self.entries.values():
            entry.set_class(entry is at, "at")

    @on(Input.Changed)
    @on(TextArea.Changed)
    def _edited(self, event: Input.Changed | TextArea.Changed) -> None:
        event.stop()
        self._tell(next(key for key, entry in self.entries.items() if entry.control is event.control))

    def _tell(self, key: str) -> None:
        # Inputs also tell of the value that they begin with, and of one that was filled in.
        if self._known[key] == self.entries[key].value:
            return
        self._known[key] = self.entries[key].value
        self.touched.add(key)
        self.post_message(Edited(key))


class Dialog(ModalScreen[R], DismissGuard[R]):
    """A full screen with an answer: title, body, machine strip, footer. Nothing behind it can be reached."""

    DEFAULT_CSS = """
    Dialog { background: $background; }
    Dialog #title { height: 1; color: $text-muted; }
    Dialog #body { height: 1fr; padding: 0 1; }
    Dialog #says { max-height: 5; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", key_display="esc", id="dialog.back"),
        Binding("f1", "keys", "Keys", key_display="f1", id="dialog.help"),
    ]

    app: BaseApp

    @property
    def form(self) -> Form:
        """Its first form."""
        return self.query(Form).first()

    def body(self) -> Iterable[Widget]:
        """The widgets between title and strip."""
        raise NotImplementedError

    def heading(self) -> str:
        """What the title line says."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        yield Static(id="title", markup=False)
        with VerticalScroll(id="body", can_focus=False):
            yield from self.body()
        yield Remark(id="says")
        yield MachineStrip()
        yield Keys()

    def ready(self) -> None:
        self.paint_title()
        machine_strip.show(self, self.app.machine)

    def on_resize(self) -> None:
        self.paint_title()

    def paint_title(self) -> None:
        line = title_line(self.app.store_name, strip_control(self.heading()), (self.app.size.width or 80) - 1)
        for title in self.query("#title").results(Static):  # none while it is being left
            title.update(line)

    def say(self, text: str, tone: Tone = "dim") -> None:
        for says in self.query("#says").results(Remark):  # none while it is being left
            says.say(text, tone)

    def soon(self, work: Callable[[], Coroutine[Any, Any, object]], group: str) -> None:
        """Works in the background once typing rests; what the group was to do or does is given up."""

        async def rested() -> None:
            await asyncio.sleep(PAUSE_S)
            if not self.left:
                await work()

        background(self, rested, group=group, exclusive=True)

    def leave(self, what: str, loss: str) -> None:
        """Asks, then leaves without an answer."""

        def answer(yes: bool | None) -> None:
            if yes:
                self.dismiss(None)

        self.app.push_screen(Confirm(f"Leave {what}?", f"Lost is {loss}.", "Leave"), answer)

    def dismiss(self, result: R | None = None) -> AwaitComplete:
        """Leaves with an answer. What still works for the dialog ends first: it would find no widgets to tell."""
        if not self.is_active:
            return AwaitComplete()
        try:
            leaving = get_current_worker()
        except NoActiveWorker:
            leaving = None
        for worker in list(self.app.workers):
            if worker is not leaving and self in worker.node.ancestors_with_self:
                worker.cancel()
        return super().dismiss(result)

    def action_keys(self) -> None:
        """Shows the keys, also where `?` is typed as a character."""
        self.app.action_toggle_help()

    def action_back(self) -> None:
        self.dismiss(None)


class Paths(Suggester):
    """Completes words that may stand in place of a path, then paths: folders, and files with one of the suffixes."""

    def __init__(self, words: Sequence[str] = (), suffixes: tuple[str, ...] = ()) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._words, self._suffixes = words, suffixes

    async def get_suggestion(self, value: str) -> str | None:
        """The first word or path that begins with `value`."""
        if not value:
            return None
        word = next((word for word in self._words if word.startswith(value) and word != value), None)
        return word or await asyncio.to_thread(self._path, value)

    def _path(self, value: str) -> str | None:
        folder, begun = os.path.split(value)
        try:
            with os.scandir(path_of(folder or ".")) as entries:
                found = sorted(
                    entry.name + ("/" if entry.is_dir() else "")
                    for _, entry in zip(range(OFFERED), entries, strict=False)
                    if entry.name.startswith(begun) and (begun or not entry.name.startswith("."))
                    if entry.is_dir() or entry.name.endswith(self._suffixes)
                )
        except OSError:
            return None
        # Not os.path.join: what was typed must stay the beginning of what is offered.
        return value[: len(value) - len(begun)] + found[0] if found and found[0] != begun else None


class Words(Suggester):
    """Completes the last of several words with commas between them."""

    def __init__(self, words: Sequence[str] = ()) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.words = words

    async def get_suggestion(self, value: str) -> str | None:
        """The whole line with its last word completed."""
        head, comma, last = value.rpartition(",")
        begun = last.lstrip()
        space = last[: len(last) - len(begun)]
        word = next((word for word in self.words if begun and word.startswith(begun) and word != begun), None)
        return None if word is None else f"{head}{comma}{space}{word}"


def path_of(text: str) -> Path:
    """The path that was typed, `~` in it being the operator's home; that of a user who is not known stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 — Path's own raises where there is no such user


def words(text: str) -> list[str]:
    """The words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def amount(text: str) -> str:
    """`7.6B`, `135M`, `1,024` as plain digits, for pydantic to read; anything else unchanged."""
    plain = text.replace(",", "").replace("_", "").strip()
    scale = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}.get(plain[-1:].lower())
    if scale is None:
        return plain
    try:
        return f"{float(plain[:-1]) * scale:.0f}"
    except ValueError:
        return text


def problems(error: "ValidationError", keys: Mapping[Place, str]) -> tuple[dict[str, str], list[str]]:
    """(message by field, messages that belong to no field) of a validation.

    `keys` are the fields of places; one that is not among them belongs to the field of its beginning, else to the first
    field below it.
    """
    beside: dict[str, str] = {}
    rest: list[str] = []
    found = error.errors(include_url=False)
    inner = {problem["loc"][:n] for problem in found for n in range(len(problem["loc"]))}
    for problem in found:
        place = problem["loc"]
        if place in inner:
            continue  # said of the whole because of the part, which has its own line
        key = next((keys[place[:n]] for n in range(len(place), 0, -1) if place[:n] in keys), None)
        key = key or next((one for at, one in keys.items() if place and at[: len(place)] == place), None)
        if key is None:
            rest.append(_words(problem))
        else:
            beside.setdefault(key, _words(problem))
    return beside, rest


def _words(problem: Any) -> str:
    kind = problem["type"]
    if kind in ("missing", "string_too_short"):
        return "needed"
    if kind in ("int_parsing", "float_parsing", "int_from_float"):
        return "not a number" if kind == "float_parsing" else "not a whole number"
    if kind in BOUNDS:
        words, bound = BOUNDS[kind]
        return f"must be {words} {problem['ctx'][bound]:g}"
    return said(problem)
