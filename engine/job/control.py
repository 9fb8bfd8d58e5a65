"""What an operator asks of a running job: to stop, to save, to ask more or less at a time. Free of torch."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from engine.base.errors import Cancelled
from storage.errors import FencedError, StoreMissingError

PAUSE_S = 30.0
"""So long a pause waits for responses in flight, which are paid for once they are asked for: most take seconds, and an
operator who pauses watches; what takes longer is asked for again."""
CANCEL_S = 5.0
"""The same of a cancel, a ctrl+c or a SIGTERM: half of the ten seconds that container runtimes allow before a kill."""


class JobControl:
    """Whether the job was asked to stop, and what else was asked of it. For any thread."""

    def __init__(self) -> None:
        self.pausing = False
        """Whether the job is to go on later as the same job."""
        self.fenced: FencedError | StoreMissingError | None = None
        """Why nothing more may be written."""
        self.concurrency: dict[str, int] = {}
        """Teacher → requests in flight at most, where the operator asked for fewer."""
        self._stop, self._checkpoint, self._at_once = threading.Event(), threading.Event(), threading.Event()
        self._until = 0.0
        """`time.monotonic` until which responses in flight are waited for."""
        self._changes = Counter[str]()
        self._changes_lock = threading.Lock()

    @property
    def stopping(self) -> bool:
        """Whether the job was asked to stop."""
        return self._stop.is_set()

    def cancelled(self) -> bool:
        """As `stopping`; raises where the lease is lost or the store's file is gone."""
        if self.fenced is not None:
            raise self.fenced
        return self.stopping

    def check(self) -> None:
        """Raises Cancelled when the operator asked to stop; called between batches."""
        if self.cancelled():
            raise Cancelled.between_commits()

    @property
    def heard_at_once(self) -> bool:
        """Whether the main thread is within `at_once`."""
        return self._at_once.is_set()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it a stop interrupts the main thread, which it is for: what is loaded for minutes asks nobody.

        Not for what writes: it would be left in the middle.

        Raises:
            Cancelled: the operator asked to stop.
        """
        self._at_once.set()
        try:
            self.check()  # a stop that came before found nobody to interrupt
            yield
        except KeyboardInterrupt:
            self._at_once.clear()
            self.check()
            raise
        finally:
            self._at_once.clear()

    def stop(self, *, pause: bool) -> None:
        """Asks the job to stop; responses in flight are waited for, unless it was asked before."""
        if self.stopping:
            self._until, self.pausing = 0.0, self.pausing and pause
            return
        self._until = time.monotonic() + (PAUSE_S if pause else CANCEL_S)
        self.pausing = pause
        self._stop.set()

    def grace_left(self) -> bool:
        """Whether responses in flight are still waited for."""
        if self.fenced is not None:
            raise self.fenced
        return time.monotonic() < self._until

    def checkpoint(self) -> None:
        """Asks for a checkpoint of the training."""
        self._checkpoint.set()

    def take_checkpoint(self) -> bool:
        """True once after each time that the operator asked for a checkpoint."""
        asked = self._checkpoint.is_set()
        self._checkpoint.clear()
        return asked

    def change_concurrency(self, teacher: str, steps: int) -> None:
        """Notes that the operator wants more (steps > 0) or fewer requests of a teacher in flight."""
        with self._changes_lock:
            self._changes[teacher] += steps

    def take_concurrency_changes(self) -> Counter[str]:
        """Teacher → how often more was asked to be in flight at once than fewer, since the last call."""
        with self._changes_lock:
            taken, self._changes = self._changes, Counter()
        return taken
