"""Words of any length in as many lines as they need: an error is of use only with its whole remedy."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from engine.base.sanitize import strip_control
from persyn_tui.app.widgets.virtual_table import Tone


class Remark(Static):
    """Words in a tone: what is wrong, right or doubtful."""

    DEFAULT_CSS = """
    Remark { color: $text-muted; }
    Remark.bad { color: $text-error; }
    Remark.good { color: $text-success; }
    Remark.warn { color: $text-warning; }
    """

    def __init__(self, text: str = "", *, id: str | None = None) -> None:
        super().__init__(text, markup=False, id=id)
        self.tone: Tone = "dim"

    def say(self, text: str, tone: Tone = "dim", *, layout: bool = True) -> None:
        """Says this instead; `layout`: it may need other room."""
        text = strip_control(text)
        if (text, tone) != (self.content, self.tone):
            self.tone = tone
            self.update(text, layout=layout)
            for name in ("bad", "good", "warn"):
                self.set_class(name == tone, name)


class MessageBar(VerticalScroll):
    """Wraps what it is told; where there is no room for all of it, it takes the focus and the arrows scroll it."""

    DEFAULT_CSS = """
    MessageBar { height: auto; max-height: 50%; scrollbar-size-vertical: 1; }
    MessageBar > Static { height: auto; }
    MessageBar.bad > Static { color: $text-error; }
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._text = ""

    def compose(self) -> ComposeResult:
        yield Static(markup=False)

    def allow_focus(self) -> bool:
        """Only where there is something to scroll."""
        return self.max_scroll_y > 0

    def tell(self, text: str, *, bad: bool = False) -> None:
        """Shows this; nothing: takes no room."""
        text = strip_control(text)
        self.display = bool(text)
        self.set_class(bad, "bad")
        if text != self._text:
            self._text = text
            self.query_one(Static).update(text)
            self.scroll_home(animate=False)

    @property
    def text(self) -> str:
        return self._text
