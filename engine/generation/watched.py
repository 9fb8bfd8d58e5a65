"""Responses of a server, with a look at everything else while they are waited for."""

import queue
from collections.abc import Callable, Generator, Iterable
from threading import Thread

from engine.job.batch_writer import LOOK_S
from engine.teachers.teacher_kinds import Remote
from storage.records import Request, Response


def watched(backend: Remote, requests: Iterable[Request], look: Callable[[], None]) -> Generator[Response]:
    """The responses as they come, the first perhaps after minutes in which a server starts.

    Args:
        backend: asked in a thread of its own, which also reads `requests`; closed when this ends early.
        requests: to answer.
        look: called every 0.25 s in the caller's thread; what it raises ends this.

    Raises:
        PersynError: as `generate` of the backend.
    """
    # Few may wait: what is not taken yet is not committed.
    came: queue.Queue[Response | BaseException | None] = queue.Queue(maxsize=64)

    def ask() -> None:
        try:
            for response in backend.generate(requests):
                came.put(response)
            came.put(None)
        except BaseException as problem:
            came.put(problem)

    asking = Thread(target=ask, name="student's server", daemon=True)
    asking.start()
    ended = False
    try:
        while not ended:
            look()
            try:
                item = came.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            ended = not isinstance(item, Response)
            if isinstance(item, BaseException):
                raise item
            if item is not None:
                yield item
    finally:
        if not ended:
            backend.close()
            while not ended:  # it may wait for a place in the queue
                ended = not isinstance(came.get(), Response)
        asking.join()
