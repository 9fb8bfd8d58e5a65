"""The last line of every screen: the keys that work now.

One widget that paints them all. The library's footer has a widget for each key, and other ones for every other list
of keys: while a screen is left they are taken away twice, by the screen and by the new list, and each waits for the
other.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.binding import ActiveBinding
from textual.screen import Screen
from textual.widget import Widget

MORE = "…"
"""Stands for keys that there is no room for; `?` lists them."""
OF_HELP = ("toggle_help", "keys")
"""Actions that list the keys: theirs are the last to go."""


@dataclass(frozen=True)
class Offered:
    """A key of the line."""

    key: str
    label: str
    name: str
    action: str
    idle: bool
    tooltip: str

    @property
    def width(self) -> int:
        """Cells, with none around it."""
        return cell_len(self.label) + 1 + cell_len(self.name)


class Keys(Widget, can_focus=False):
    """The keys that work now, as many as there is room for; a click presses one."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"keys--key", "keys--name", "keys--under"}
    DEFAULT_CSS = """
    Keys {
        dock: bottom; height: 1; width: 1fr; color: $footer-foreground;
        & > .keys--key { color: $footer-key-foreground; text-style: bold; }
        & > .keys--name { color: $footer-description-foreground; }
        & > .keys--under { color: $footer-key-foreground; background: $block-hover-background; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.offered: tuple[Offered, ...] = ()
        """In the order of the line, also those that it has no room for."""
        self._under: Offered | None = None
        """The one that the mouse is on."""

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)
        self._changed(self.screen)

    def on_unmount(self) -> None:
        self.screen.bindings_updated_signal.unsubscribe(self)

    def _changed(self, screen: Screen[Any]) -> None:
        if not self.is_attached or screen is not self.screen:
            return
        of_action: dict[str, ActiveBinding] = {}
        for active in screen.active_bindings.values():
            if active.binding.show:
                of_action.setdefault(active.binding.action, active)
        offered = tuple(map(self._offer, of_action.values()))
        if offered != self.offered:
            self.offered = offered
            self._point(None)
            self.refresh()

    def _offer(self, active: ActiveBinding) -> Offered:
        binding = active.binding
        return Offered(
            binding.key,
            self.app.get_key_display(binding),
            binding.description,
            binding.action,
            not active.enabled,
            active.tooltip,
        )

    def shown(self, room: int) -> list[Offered | None]:
        """What fits `room` cells, None where something is left out: the key that lists all of them stays."""
        kept: list[Offered] = [*self.offered]
        line: list[Offered | None] = [*kept]
        last = [one for one in kept if one.action in OF_HELP]
        for gone in [*(one for one in reversed(self.offered) if one not in last), *reversed(last)]:
            if _width(line) <= room:
                break
            at = kept.index(gone)
            kept.remove(gone)
            line = [*kept[:at], None, *kept[at:]]
        return line

    def render(self) -> Text:
        key, name, under = (
            self.get_component_rich_style(f"keys--{part}", partial=True) for part in ("key", "name", "under")
        )
        line = Text(no_wrap=True, end="")
        for at, one in enumerate(self.shown(self.size.width)):
            line.append(" " if at else "")
            if one is None:
                line.append(MORE, name)
                continue
            text = Text.assemble((one.label, key), (f" {one.name}", name))
            if one.idle:
                text.stylize("dim")
            if one is self._under:
                text.stylize(under)
            line.append_text(text)
        return line

    def at(self, column: int) -> Offered | None:
        left = 0
        for one in self.shown(self.size.width):
            width = _width([one])
            if left <= column < left + width:
                return one
            left += width + 1
        return None

    def on_mouse_down(self, event: events.MouseDown) -> None:
        one = self.at(event.x)
        if one is None:
            return
        if one.idle:
            self.app.bell()
        else:
            self.app.simulate_key(one.key)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self._point(self.at(event.x))

    def on_leave(self) -> None:
        self._point(None)

    def _point(self, one: Offered | None) -> None:
        if one is not self._under:
            self._under = one
            self.tooltip = (one.tooltip or None) if one else None
            self.styles.pointer = "pointer" if one else "default"
            self.refresh()


def _width(line: list[Offered | None]) -> int:
    return sum(one.width if one else cell_len(MORE) for one in line) + max(0, len(line) - 1)
