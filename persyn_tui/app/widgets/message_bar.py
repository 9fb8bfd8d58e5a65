"""Words of any length in as many lines as they need: an error is of use only with its whole remedy."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from engine.base.sanitize import strip_control
from storage.job_records import Job

TROUBLED = ("failed", "needs_attention", "paused")
"""States in which a job's error says what to do."""


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


def trouble(job: Job | None) -> str:
    """Why a job stopped, and what helps; empty where nothing stands in its way."""
    if job is None or not job.error or job.effective_state not in TROUBLED:
        return ""
    return f"✗ job {job.id} {job.effective_state.replace('_', ' ')}: {job.error.strip()}"
