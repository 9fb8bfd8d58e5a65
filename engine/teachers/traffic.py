"""Where the requests to a teacher, or to a judge, are."""

from typing import NamedTuple


class Traffic(NamedTuple):
    """Where a backend's requests are at this moment."""

    in_flight: int = 0
    """Sent and not answered."""
    allowed: int = 0
    """How many may be in flight now."""
    most: int = 0
    """How many its settings ever allow."""
    retries: int = 0
    """Requests sent again since the backend was opened."""
    note: str = ""
    """Why nothing moves; empty when something does."""
    held: str = ""
    """Why fewer than `most` may be in flight, in a few words; empty where nothing stands in their way."""
