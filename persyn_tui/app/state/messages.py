"""Messages below a screen: two at most, errors stay longest, and one about an action goes when that has its way."""

from collections.abc import Iterable
from dataclasses import dataclass

from textual.notifications import Notification, SeverityLevel

SHOWN = 2
"""At a time at most."""
SHOWN_S: dict[SeverityLevel, float] = {"information": 3.0, "warning": 5.0, "error": 10.0}
"""How long, where nothing else is said."""


@dataclass
class Note(Notification):
    """A message."""

    about: str = ""
    """The action that it is about: what is said of it next takes this message's place. Empty for none."""


def about(note: Notification) -> str:
    """The action that a message is about; empty for none."""
    return note.about if isinstance(note, Note) else ""


def giving_way(new: Notification, shown: Iterable[Notification]) -> list[Notification]:
    """The messages that a new one takes the place of: of the same words or action, else the oldest, errors last."""
    old = sorted(shown, key=lambda note: (note.severity == "error", note.raised_at))
    again = [
        note for note in old if note.message == new.message or (about(new) and about(note) == about(new))
    ]
    left = [note for note in old if note not in again]
    return again + left[: max(0, len(left) + 1 - SHOWN)]
