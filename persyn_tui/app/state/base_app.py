"""What the screens may ask of the application: store, followed job, keys, messages.

A class and not a Protocol: Textual types `Widget.app` as an `App`, and a screen uses both sides of it.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.notifications import Notification, Notify, SeverityLevel

from engine.base.sanitize import strip_control
from persyn_tui.app.base import keymap
from persyn_tui.app.base.machine import Reading
from persyn_tui.app.base.settings import Settings
from persyn_tui.app.state.followed_job import Followed
from persyn_tui.app.textual_fixes.private import PrivateApp
from persyn_tui.app.textual_fixes.type_ahead import TypeAhead

if TYPE_CHECKING:
    # The database's library takes longer to import than everything else: it comes after the first paint.
    from storage.store import Store


MESSAGES = 2
"""Shown at a time at most."""
SHOWN_S: dict[SeverityLevel, float] = {"information": 3.0, "warning": 5.0, "error": 10.0}
"""How long, where nothing else is said."""


@dataclass
class Note(Notification):
    """A message below a screen."""

    about: str = ""
    """The action that it is about: what is said of it next takes this message's place. Empty for none."""


def _about(note: Notification) -> str:
    return note.about if isinstance(note, Note) else ""


class BaseApp(PrivateApp):
    """The application as its screens, dialogs and widgets know it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.store: Store | None = None
        """None until it is open."""
        self.store_name = "…"
        self.works: dict[str, str] = {}
        """Binding id → keys, of those that have others than the app gives them."""
        self.followed = Followed()
        """The job that the live screens show."""
        self.waits_for_store = False
        """Whether a write waits for another program's."""
        self.machine: deque[Reading] = deque(maxlen=60)
        """The newest last, one a second."""
        self.leaving = False
        """Whether the app is ending."""
        self.ahead = TypeAhead(self, super().on_event)
        """Keys typed before what they are for is there."""

    def keyed(self, text: str) -> str:
        """The text with the keys that work now in the place of `{jobs.new:n}`."""
        return keymap.keyed(text, self.works)

    def action_toggle_help(self) -> None:
        raise NotImplementedError

    # Messages

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
        about: str = "",
    ) -> None:
        """Shows a message for some seconds. It may hold names and model output: never as markup.

        One about an action (any name) takes the place of what was said of that action before.
        """
        lasts = timeout or SHOWN_S[severity]
        self.post_message(
            Notify(Note(self.keyed(strip_control(message)), title, severity, lasts, about=about))
        )

    def settle(self, about: str) -> None:
        """An action went well, or is begun again: what was said of it before no longer holds."""
        self._take_back(note for note in self.messages if about and _about(note) == about)

    def on_notify(self, event: Notify) -> None:
        """It takes the place of those of the same words or action, else of the oldest, of errors last."""
        new = event.notification
        old = sorted(self.messages, key=lambda note: (note.severity == "error", note.raised_at))
        about = _about(new)
        again = [note for note in old if note.message == new.message or (about and _about(note) == about)]
        left = [note for note in old if note not in again]
        self._take_back(again + left[: max(0, len(left) + 1 - MESSAGES)])

    def clear_notifications(self) -> None:
        self._take_back(self.messages)
        super().clear_notifications()

    def keep_errors(self) -> None:
        self._take_back(note for note in self.messages if note.severity != "error")

    def _take_back(self, notes: Iterable[Notification]) -> None:
        for note in notes:
            self.take_back(note)
