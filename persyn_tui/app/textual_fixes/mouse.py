"""Clicks on widgets that are gone.

Textual 8.2 keeps a removed widget on its map until the next layout, and `App.on_event` asserts that what is clicked has
a parent: a click that comes meanwhile ends the app. Can go once `on_event` passes over mouse events for nodes that are
not attached: `tests/app/test_dismiss_guard.py`.
"""

from typing import Any

from textual.errors import NoWidget
from textual.events import MouseEvent
from textual.screen import Screen


def is_gone(screen: Screen[Any], event: MouseEvent) -> bool:
    """Whether what the mouse is on has been taken away, and is only still painted."""
    try:
        under, _ = screen.get_widget_at(event.x, event.y)
    except NoWidget:
        return False
    return under is not screen and not under.is_attached
