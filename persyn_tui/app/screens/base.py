"""What every screen shares: a title line, one of four states, the machine strip and the footer.

A screen says what it reads from the store (`read`, in a thread, never touching widgets) and how it shows
that (`show`, in the event loop, never touching the store). The frame does the rest: loading until the first
read, the empty state with its next step, an error with what to press, and nothing at all while the store
and the screen's question stay the same.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static
from textual.worker import Worker, WorkerState

from engine.base.sanitize import strip_control
from persyn_tui.app.base.formatting import sent
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.state.cached_query import QueryCache
from persyn_tui.app.textual_fixes.resize_guard import ResizeGuard
from persyn_tui.app.textual_fixes.workers import background
from persyn_tui.app.widgets import machine_strip
from persyn_tui.app.widgets.footer import Keys
from persyn_tui.app.widgets.machine_strip import MachineStrip
from persyn_tui.app.widgets.message_bar import MessageBar
from persyn_tui.app.widgets.one_line import OneLine, title_line
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage.errors import PersynError

if TYPE_CHECKING:
    from storage.store import Store

T = TypeVar("T")
R = TypeVar("R")


class Message(Static):
    """Text in the middle of a screen that has no rows to show."""

    DEFAULT_CSS = """
    Message {
        width: 1fr; height: 1fr; content-align: center middle; text-align: center; color: $text-muted; padding: 0 4;
    }
    """

    def __init__(self, text: str = "", *, id: str | None = None) -> None:
        super().__init__(blocks(text), markup=False, id=id)


def blocks(text: str) -> str:
    """The text with all lines of a paragraph equally long, so that keys stand below each other when centred."""

    def padded(paragraph: str) -> str:
        lines = paragraph.split("\n")
        longest = max(map(cell_len, lines))
        return "\n".join(line + "\u00a0" * (longest - cell_len(line)) for line in lines)

    return "\n\n".join(map(padded, text.split("\n\n")))


class BaseScreen(ResizeGuard[None], Generic[T]):
    """A screen that follows the store."""

    NUMBER: ClassVar[int]
    """Its key, and its place in the title."""
    NAME: ClassVar[str]
    EMPTY: ClassVar[str]
    """What to say when there is nothing: the next step and its key, as `{jobs.new:n}`."""
    EVERY: ClassVar[float] = 2.0
    """Seconds after which it reads again though the store has not changed, for what depends on the clock."""

    LIST: ClassVar[str] = ""
    """Selects the list whose hidden columns the title names."""
    WRITES: ClassVar[frozenset[str]] = frozenset()
    """Actions that write: idle where the store may only be read."""
    NEEDS_ROWS: ClassVar[frozenset[str]] = frozenset()
    """Actions that are offered only where there is something to act on."""

    ALLOW_IN_MAXIMIZED_VIEW = "#title, MachineStrip, Keys"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "freeze", "Freeze", show=False, id="view.freeze"),
        Binding("z", "maximise", "Maximise", show=False, id="view.maximise"),
        Binding("y", "copy", "Copy", show=False, id="view.copy"),
        Binding("f5", "reread", "Read again", show=False, id="view.reread"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.frozen = False
        self._frozen_line = ""
        self._frozen_too = False
        self.data: T | None = None
        self._question: Any = None
        self._reading = asyncio.Lock()
        self._read_at = 0.0
        self._idle: frozenset[str] = frozenset()
        self.cache = QueryCache()
        """For `read`."""

    app: BaseApp

    # What a screen defines

    def body(self) -> Iterable[Widget]:
        """The widgets of the full state."""
        raise NotImplementedError

    def question(self) -> Any:
        """What `read` must know: job, filters, cursor. Taken in the event loop; a new one causes a read."""
        return self.app.followed.id

    def read(self, store: "Store", question: Any) -> T | None:
        """What to show, None when there is nothing. Runs in a thread."""
        raise NotImplementedError

    def show(self, data: T) -> None:
        """Puts `data` into the widgets."""
        raise NotImplementedError

    def about(self) -> str:
        """The title line after the screen's name: counts, job, state."""
        return self.job_line

    @property
    def job_line(self) -> str:
        """The job that is shown; of a frozen screen that of then, whichever is followed by now."""
        return self._frozen_line if self.frozen and self._frozen_line else self.app.followed.line

    def without(self) -> Sequence[str]:
        """What the size leaves no room for, by name; the title line says it."""
        sheets = self.query(self.LIST).results(VirtualTable) if self.LIST else ()
        return [title or "bar" for sheet in sheets for title in sheet.hidden]

    def text_to_copy(self) -> str:
        """What `y` puts on the clipboard; empty for nothing."""
        return ""

    def trouble(self) -> str:
        """What stands in the way, with what helps, above everything else; empty for nothing."""
        return ""

    def idle(self) -> frozenset[str]:
        """Actions that would do nothing now: their keys are not offered, and say why when they are pressed."""
        return frozenset()

    # The frame

    def compose(self) -> ComposeResult:
        yield OneLine(id="title")
        yield MessageBar(id="trouble")
        with ContentSwitcher(initial="loading", id="states"):
            yield Message("loading …", id="loading")
            yield Message(self.app.keyed(self.EMPTY), id="empty")
            yield Message(id="failure")
            with Vertical(id="full"):
                yield from self.body()
        yield MachineStrip()
        yield Keys()

    @property
    def state(self) -> str:
        """loading, empty, failure or full."""
        for switcher in self.query("#states").results(ContentSwitcher):
            return str(switcher.current)
        return "loading"  # its widgets are not there yet

    def on_screen_resume(self) -> None:
        machine_strip.show(self, self.app.machine)
        self.ask()

    def ask(self, *, frozen_too: bool = False) -> None:
        """Reads in the background, whatever was read before; `frozen_too`: also where it is frozen."""
        self._frozen_too |= frozen_too
        background(self, partial(self.follow, changed=True), exit_on_error=False, group="ask")

    async def follow(self, *, changed: bool) -> None:
        """Reads and shows when the store changed, the question did, or the clock asks for it."""
        store = self.app.store
        if store is None or (self.frozen and self.data is not None and not self._frozen_too):
            return
        self._frozen_too = False
        question = self.question()
        clock = asyncio.get_running_loop().time()
        if not changed and question == self._question and clock - self._read_at < self.EVERY:
            return
        async with self._reading:
            self._question, self._read_at = question, clock
            try:
                data = await asyncio.to_thread(self._read, store, question)
            except PersynError as problem:
                self.fail(str(problem))
                return
            if not self._stands:
                return
            same = self.state == "full" and data == self.data
            self.data = data
            if data is None:
                self._to("empty")
            elif not same:
                self._to("full")
                self.show(data)
            self.paint_title()

    def _read(self, store: "Store", question: Any) -> T | None:
        store.check_file()
        return self.read(store, question)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Says what a key could not do, until it can."""
        problem = event.worker.error
        named = event.worker.group != "default"  # of the others one says nothing about the next
        about = f"{self.NAME} {event.worker.group}" if named else ""
        if event.state is WorkerState.SUCCESS:
            self.app.settle(about)
        if event.state is WorkerState.ERROR and problem is not None:
            what = "" if isinstance(problem, PersynError) else f"{type(problem).__name__}: "
            self.app.notify(f"{what}{problem}", severity="error", timeout=10, about=about)

    def _to(self, state: str) -> None:
        switcher = self.query_one("#states", ContentSwitcher)
        if switcher.current != state:
            switcher.current = state
            if state == "full" and self.focused is None:
                self.focus_first()
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in self.NEEDS_ROWS and (not self.is_mounted or self.state != "full"):
            return False
        return super().check_action(action, parameters)

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """The keys that the footer and `?` offer: without those that would do nothing now, the screen's own first."""

        def rank(active: ActiveBinding) -> int:
            shared = (active.binding.id or "").startswith("view.")
            return 2 if active.node is self.app else int(shared)

        found = super().active_bindings
        useful = [(key, active) for key, active in found.items() if active.binding.action not in self._idle]
        return dict(sorted(useful, key=lambda pair: rank(pair[1])))

    def focus_first(self) -> None:
        """Focuses the first list, so that the arrow keys do something at once."""
        for widget in [*self.query(VirtualTable), *self.query("#full *")]:
            if widget.focusable:
                widget.focus()
                return

    def still_loading(self, text: str) -> None:
        if self._stands:
            self.query_one("#loading", Message).update(blocks(text))

    def add_to_empty(self, text: str) -> None:
        """Says something more where there is nothing to show."""
        if self._stands:
            self.query_one("#empty", Message).update(
                blocks(self.app.keyed(f"{self.EMPTY}\n\n{strip_control(text)}"))
            )

    def fail(self, message: str) -> None:
        """Shows an error in place of what was read."""
        if not self._stands:
            return
        more = "" if self.NUMBER == 7 else " · {go.logs:7} shows the log"
        text = f"✗ {strip_control(message)}\n\n{{view.reread:F5}} reads again{more}"
        self.query_one("#failure", Message).update(self.app.keyed(text))
        self._to("failure")
        self.paint_title()

    @property
    def _stands(self) -> bool:
        """Whether there are widgets to show anything in: while the app is being left they go one by one."""
        return self.is_mounted and self.app.is_running

    def paint_title(self) -> None:
        """Rewrites the title line, and what depends on the same: the trouble below it, the keys offered."""
        if not self._stands:
            return
        self.query_one("#trouble", MessageBar).tell(self.app.keyed(self.trouble()), bad=True)
        read_only = self.app.store is not None and self.app.store.read_only
        if (idle := self.idle() | (self.WRITES if read_only else frozenset())) != self._idle:
            self._idle = idle
            self.refresh_bindings()
        about = " ".join(strip_control(self.about()).split())
        frozen = " · ‖ frozen, {view.freeze:p} goes on" if self.frozen else ""
        waits = "waiting for the store … · " if self.app.waits_for_store else ""
        waits += "read-only · " if read_only else ""
        right = f"{waits}{self.NUMBER} {self.NAME}" + (f" · {about}" if about else "") + frozen
        line = title_line(
            self.app.store_name, self.app.keyed(right), (self.app.size.width or 80) - 1, self.without()
        )
        self.query_one("#title", OneLine).update(line)

    def on_resize(self) -> None:
        """The title says what the new width hides, once it is laid out."""
        self.paint_title()
        self.call_after_refresh(self.paint_title)

    def on_virtual_table_arranged(self) -> None:
        self.paint_title()

    def under_cursor(self, which: str, rows: Iterable[R], key: Callable[[R], object]) -> R | None:
        """The one of these whose row in a list has the cursor."""
        at = self.query_one(which, VirtualTable).key
        return next((row for row in rows if key(row) == at), None)

    # Keys that every screen has

    def action_freeze(self) -> None:
        """Stops or goes on following the store, for reading."""
        self._frozen_line = self.app.followed.line
        self.frozen = not self.frozen
        if not self.frozen:
            self.ask()
        self.paint_title()

    def action_maximise(self) -> None:
        """The focused widget fills the screen, or no longer."""
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.focused)

    def action_copy(self) -> None:
        text = self.text_to_copy()
        if text:
            self.app.copy_to_clipboard(text)
            self.app.notify(sent(len(text)), about="copy")

    def action_reread(self) -> None:
        self.ask()
