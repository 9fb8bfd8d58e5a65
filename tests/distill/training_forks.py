"""Processes that train together, forked from the test's: what takes seconds to import is there already."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from engine.distill import parallel, rank_process
from engine.distill.ranks import Ranks

_FORK = multiprocessing.get_context("fork")
_WITHIN_S = 120


def in_processes(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` gave or raised in each of some processes that can speak to each other; None where one has ended."""
    environment = _environment(count)
    ends = []
    for rank in range(count):
        here, there = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_work, args=(rank, count, environment, work, there))
        process.start()
        there.close()
        ends.append((process, here))
    given = []
    for _, here in ends:
        assert here.poll(_WITHIN_S), "a process hangs"
        try:
            given.append(here.recv())
        except EOFError:
            given.append(None)
    for process, _ in ends:
        process.join()
    return given


def _work(rank, count, environment, work, there) -> None:
    os.environ.update(environment, RANK=str(rank))
    torch.set_num_threads(1)  # the pool of threads has not come along
    dist.init_process_group("gloo")
    try:
        there.send(work(Ranks(rank, count)))
    except BaseException as error:
        traceback.print_exc()
        there.send(error)
    os._exit(0)


class Launcher:
    """In the place of torchrun: starts `rank_process` in forks; as much of a `Popen` as `parallel` uses."""

    def __init__(self, count: int, address: str) -> None:
        self._process = _FORK.Process(target=_launch, args=(count, address))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> None:
        self._process.join()


def start(processes: Any, address: str) -> Launcher:
    """In the place of `parallel._Processes._start`."""
    return Launcher(len(processes._order.student.devices), address)


def _launch(count: int, address: str) -> None:
    environment = {**_environment(count), parallel.ADDRESS: address}
    ranks = [_FORK.Process(target=_main, args=(rank, environment)) for rank in range(count)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()


def _main(rank: int, environment: dict[str, str]) -> None:
    os.environ.update(environment, RANK=str(rank))
    torch.set_num_threads(1)
    rank_process.main()
    os._exit(0)


def _environment(count: int) -> dict[str, str]:
    """What torch needs to know to bring the processes together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
