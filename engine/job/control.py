"""What an operator asks of a running job: to stop, to save, to ask more or less at a time. Free of torch."""

import threading
import time
from collections import Counter

from storage.errors import FencedError, StoreMissingError

PAUSE_S = 30.0
"""So long a pause waits for answers in flight, which are paid for once they are sent: most take seconds, and an
operator who pauses watches; what takes longer is asked for again."""
CANCEL_S = 5.0
"""The same of a cancel, a ctrl+c or a SIGTERM: half of the ten seconds that container runtimes allow before a kill."""


class JobControl:
    """Whether the job was asked to stop, and why."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.pausing = False
        """Whether the job is to go on later as the same job."""
        self._until = 0.0
        """`time.monotonic` until which answers in flight are waited for."""
        self.save = threading.Event()
        """Set when the operator asked for a checkpoint."""
        self.fenced: FencedError | StoreMissingError | None = None
        """Why nothing more may be written."""
        self._paces = Counter[str]()
        self._paces_lock = threading.Lock()

    def asked(self) -> bool:
        """True once a signal, a command or a lost lease asks the job to stop."""
        if self.fenced is not None:
            raise self.fenced
        return self.event.is_set()

    def ask(self, *, pause: bool) -> None:
        """Asks the job to stop; answers in flight are waited for, unless it was asked before."""
        if self.event.is_set():
            self._until, self.pausing = 0.0, self.pausing and pause
            return
        self._until = time.monotonic() + (PAUSE_S if pause else CANCEL_S)
        self.pausing = pause
        self.event.set()

    def waits(self) -> bool:
        """Whether answers in flight are still waited for."""
        if self.fenced is not None:
            raise self.fenced
        return time.monotonic() < self._until

    def take_save(self) -> bool:
        """True once after each time that the operator asked for a checkpoint."""
        asked = self.save.is_set()
        self.save.clear()
        return asked

    def pace(self, teacher: str, steps: int) -> None:
        """Notes that the operator wants more (steps > 0) or fewer requests of a teacher in flight."""
        with self._paces_lock:
            self._paces[teacher] += steps

    def take_concurrency_changes(self) -> Counter[str]:
        """What was noted since the last call."""
        with self._paces_lock:
            taken, self._paces = self._paces, Counter()
        return taken
