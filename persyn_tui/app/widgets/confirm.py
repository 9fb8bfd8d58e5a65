"""The question before something is lost: it names the object and what goes with it."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from engine.base.sanitize import strip_control
from persyn_tui.app.widgets.question import Question

BESIDE = 5
"""Rows of a low dialog that are not the loss: border, question, buttons."""
AROUND = 10
"""The same of a dialog with room around them."""
LOW = 16
"""Rows of a screen from which on there is room around them."""


class Confirm(Question[bool]):
    """Asks, with what is lost and a yes named `verb`: True for yes, None when the operator goes to another screen."""

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical {
        width: 70; max-width: 90%; height: auto; border: round $error; padding: 1 2; background: $surface;
    }
    Confirm .question { text-style: bold; margin-bottom: 1; max-height: 3; }
    Confirm Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
    Confirm Button { margin-left: 2; min-width: 8; }
    Confirm.-small > Vertical { padding: 0 1; max-width: 100%; }
    Confirm.-small .question { max-height: 2; margin-bottom: 0; }
    Confirm.-small Horizontal { margin-top: 0; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-small"), (LOW, "-tall")]  # noqa: RUF012 — as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes", id="confirm.yes"),
        Binding("n,escape", "dismiss(False)", "No", id="confirm.no"),
    ]

    def __init__(self, question: str, loss: str, verb: str) -> None:
        super().__init__()
        self._question, self._loss, self._verb = strip_control(question), strip_control(loss), verb

    def compose(self) -> ComposeResult:
        """Question, loss, two buttons; the harmless one has the focus."""
        with Vertical():
            yield Static(self._question, classes="question", markup=False)
            yield Static(self._loss, classes="loss", markup=False)
            with Horizontal():
                yield Button(self.app.keyed("No ({confirm.no:n})"), id="no", compact=True)
                yes = f"{self._verb} ({self.app.keyed('{confirm.yes:y}')})"
                yield Button(yes, id="yes", variant="error", compact=True)

    def on_resize(self) -> None:
        """On a low screen the loss gives way: the buttons stay."""
        height = self.app.size.height
        for loss in self.query(".loss"):  # none while it is being left
            loss.styles.max_height = max(1, height - (BESIDE if height < LOW else AROUND))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")
