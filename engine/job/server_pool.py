"""The servers of a job: each stays from one fill to the next, while nothing else needs its place.

Starting a server takes a minute, or many for a large model. Two servers never share the CPU, and none stays on a GPU
that a model of this process takes; beside such a model on the CPU a server stays while there is memory to spare.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import psutil

from engine.config.kinds import teacher_kind
from engine.config.vllm import ServerConfig
from engine.teachers import teacher_kinds
from engine.teachers.vllm_server import gpus as _gpus
from storage.records import Model

SPARE = 0.25
"""Share of the machine's memory that must be free for a server to stay beside a model that is loaded."""


class ServerPool:
    """Opens the backends of a job's teachers, and keeps those that have a server of their own.

    Args:
        folder: where servers keep their log files; None: with the temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._kept: dict[str, teacher_kinds.Lasting] = {}
        """By the teacher's name; none of these is being asked."""
        self._lock = Lock()

    @contextmanager
    def backend(self, teacher: Model) -> Iterator[teacher_kinds.Backend]:
        """The teacher's backend, ready to generate; closed afterwards unless its server may stay.

        Raises:
            PersynError: see `engine.teachers.teacher_kinds.open_backend`.
        """
        opened: teacher_kinds.Backend | None
        with self._lock:
            opened = kept = self._kept.pop(teacher.name, None)
        if kept is not None and not kept.warm:  # it died while nobody asked it
            kept.close()
            opened = None
        if opened is None:
            self.make_room_for(teacher)
            opened = teacher_kinds.open_backend(teacher, self._folder)
        try:
            yield opened
        except BaseException:
            opened.close()
            raise
        if isinstance(opened, teacher_kinds.Lasting) and opened.warm:
            with self._lock:
                self._kept[teacher.name] = opened
        else:
            opened.close()

    def rank(self, teacher: Model) -> int:
        """Its place in the order in which teachers that share one are asked: that order starts fewest servers."""
        if teacher.name in self._kept:
            return 0
        return 2 if teacher_kind(teacher.backend).starts_server else 1

    def evict_for(self, device: str) -> None:
        """Ends the servers in the way of a model that this process is about to load.

        Args:
            device: where to, as in the run file: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        """
        if not self._kept:
            return
        kind, _, number = device.partition(":")
        if kind == "auto" and _gpus.read():
            kind = "cuda"
        if kind != "cuda":
            memory = psutil.virtual_memory()
            if memory.available < SPARE * memory.total:
                self._end(lambda gpus: not gpus)
        elif "CUDA_VISIBLE_DEVICES" in os.environ:  # this process counts its GPUs in an order of its own
            self._end(bool)
        else:
            self._end(lambda gpus: int(number or 0) in gpus)

    def close(self) -> None:
        """Ends every server that is kept."""
        self._end(lambda gpus: True)

    def make_room_for(self, teacher: Model) -> None:
        """Ends the servers in the way of a teacher, unless its own is kept."""
        kind = teacher_kind(teacher.backend)
        if teacher.name in self._kept:
            return
        if kind.in_process:
            self.evict_for(teacher.options.get("device", "auto"))
        elif kind.starts_server and self._kept:
            server, gpus = ServerConfig.model_validate(teacher.options.get("server", {})), _gpus.read()
            share = server.gpu_memory_utilization
            if not gpus or len(_gpus.choose(gpus, server.gpus, server.width, share)) < server.width:
                self._end(lambda taken: not server.gpus or not taken or not taken.isdisjoint(server.gpus))

    def _end(self, in_the_way: Callable[[frozenset[int]], bool]) -> None:
        """Ends the kept servers whose GPUs (none: the CPU) are wanted."""
        with self._lock:
            ended = [self._kept.pop(name) for name, kept in list(self._kept.items()) if in_the_way(kept.gpus)]
        for backend in ended:
            backend.close()
