"""A number from 0 to 1 that keys and the mouse move."""

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

STEP = 0.05


class Slider(Widget, can_focus=True):
    """A track with a knob, and a mark where the run's own setting is; `letter` names the number in one cell."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"slider--knob", "slider--track"}
    DEFAULT_CSS = """
    Slider { height: 1; }
    Slider > .slider--knob { color: $text-primary; text-style: bold; }
    Slider > .slider--track { color: $foreground 45%; }
    Slider:focus > .slider--track { color: $foreground 75%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "Less", show=False, id="slider.less"),
        Binding("right,l", "step(1)", "More", show=False, id="slider.more"),
    ]

    value: reactive[float] = reactive(0.0)
    mark: reactive[float] = reactive(0.0)
    words: reactive[str] = reactive("")
    """What stands behind the track."""

    class Changed(Message):
        """The operator moved the knob."""

    def __init__(self, letter: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._letter = letter
        self._held = False

    @property
    def _first(self) -> int:
        return len(f"{self._letter} 0.00 ")

    @property
    def _track(self) -> int:
        return max(5, self.size.width - self._first - len(self.words) - 1)

    def render(self) -> Text:
        knob, mark = (round(at * (self._track - 1)) for at in (self.value, self.mark))
        strong, weak = (
            Style(color=self.get_component_rich_style(f"slider--{part}").color) for part in ("knob", "track")
        )
        line = Text(f"{self._letter} ", no_wrap=True, end="")
        line.append(f"{self.value:.2f} ", strong)
        for cell in range(self._track):
            if cell == knob:
                line.append("●", strong)
            else:
                line.append("┼" if cell == mark else "─", weak)
        line.append(f" {self.words}", weak)
        return line

    def move(self, value: float) -> None:
        """Puts the knob on the nearest step, and tells who listens when that is another one."""
        value = round(min(1.0, max(0.0, round(value / STEP) * STEP)), 2)
        if value != self.value:
            self.value = value
            self.post_message(self.Changed())

    def action_step(self, steps: int) -> None:
        self.move(self.value + steps * STEP)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A press on the track moves the knob there, and holds it."""
        self._held = True
        self.capture_mouse()
        self._to(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._held:
            self._to(event.x)

    def on_mouse_up(self) -> None:
        self._held = False
        self.release_mouse()

    def _to(self, x: int) -> None:
        self.move((x - self._first) / max(1, self._track - 1))
