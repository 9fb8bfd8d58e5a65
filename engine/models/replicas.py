"""Copies of one model on several devices, each in a process of its own, and the work that is handed out to them.

A process gets a piece of work at a time, and the next when that is done, so that all are at work until the end. What a
piece gives comes back with the forward pass that made it, and is stored by whoever asked: there is one writer.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

import torch

from engine.base.errors import Cancelled
from engine.models.batching import shuffled
from engine.models.memory import give_back
from engine.models.replica import Make, Replica

LOOK_S = 0.1
"""Between two looks for a stop while nothing comes."""
AHEAD = 2
"""Pieces that a process has while there are many: one that it works on, and one for the moment when that is done."""
_PIECES = 8
"""Of each process: with fewer, some would wait for the last one to finish."""
_CHARACTERS = 4
"""Of a token, about."""
_PASSES = 4
"""Forward passes of a piece at most: more would not be filled better."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Replicas(Generic[_Item, _Result]):
    """Copies that are ready to work. `close` ends their processes.

    Args:
        devices: one of each copy.
        make: called in each process. The pieces that its copy gets are lists of items.

    Raises:
        PersynError: what `make` raised in one of them.
        NeedsAttention: a process ended, or something else was raised in it.
    """

    def __init__(self, devices: Sequence[str], make: Make[list[_Item], _Result]) -> None:
        self._given = 0
        """The number of the last piece that was handed out, by any call of `run`."""
        self._replicas: list[Replica[list[_Item], _Result]] = []
        give_back()
        threads = max(1, torch.get_num_threads() // len(devices))
        try:
            for index, device in enumerate(devices):
                self._replicas.append(Replica(device, make, threads, logs=index == 0))
            while not all(replica.pass_tokens for replica in self._replicas):
                for replica in self._speaking(None):
                    replica.hear()
        except BaseException:
            self.close()
            raise

    def run(
        self,
        items: Sequence[_Item],
        together: Callable[[_Item], Hashable],
        characters: Callable[[_Item], int],
        should_stop: Callable[[], bool],
    ) -> Iterator[tuple[list[int], _Result]]:
        """(places in `items` of a piece, a result of that piece), as results come.

        Args:
            items: what is to be done.
            together: items of which this is equal are in one piece.
            characters: of an item.
            should_stop: asked here every `LOOK_S`; what is worked on is then left before the model's next layer.

        Raises:
            PersynError: a copy raised it.
            NeedsAttention: a process ended, or something else was raised in it; what had come from the others is
                given before.
            Cancelled: `should_stop` said so.
        """
        one = min(replica.pass_tokens or 1 for replica in self._replicas)
        pieces = cut_work(items, together, characters, one, len(self._replicas))
        waiting, first = deque(pieces), self._given + 1

        def give(replica: Replica[list[_Item], _Result], most: int = AHEAD) -> None:
            # The last pieces are not held by one process while another has none.
            most = most if len(waiting) > len(self._replicas) else 1
            while waiting and len(replica.pieces) < most:
                self._given += 1
                replica.give(self._given, [items[place] for place in waiting.popleft()])

        try:
            for replica in self._replicas:
                give(replica, 1)
            while any(replica.pieces for replica in self._replicas):
                for replica in self._speaking(LOOK_S):
                    try:
                        heard = replica.hear()
                    except Exception:
                        yield from (
                            (pieces[number - first], result) for number, result in self._said(replica)
                        )
                        raise
                    if heard is not None:
                        yield pieces[heard[0] - first], heard[1]
                    give(replica)
                if should_stop():
                    raise Cancelled.between_commits()
        finally:
            for replica in self._replicas:
                replica.drop(self._given)

    def close(self) -> None:
        """Ends the processes. Closing twice is allowed."""
        for replica in self._replicas:
            replica.kill()  # all of them at first: whoever is in a hurry may interrupt the waiting
        for replica in self._replicas:
            replica.close()
        self._replicas = []

    def _speaking(self, timeout: float | None) -> Iterator[Replica[list[_Item], _Result]]:
        by_connection: dict[Any, Replica[list[_Item], _Result]] = {
            replica.connection: replica for replica in self._replicas
        }
        for connection in wait(list(by_connection), timeout):
            yield by_connection[connection]

    def _said(self, failed: Replica[list[_Item], _Result]) -> Iterator[tuple[int, _Result]]:
        """Results that have come from the others by now."""
        for replica in self._replicas:
            with suppress(Exception):  # of several problems the first one is told
                while replica is not failed and replica.connection.poll():
                    if (heard := replica.hear()) is not None:
                        yield heard


def cut_work(
    items: Sequence[_Item],
    together: Callable[[_Item], Hashable],
    characters: Callable[[_Item], int],
    pass_tokens: int,
    processes: int,
) -> list[list[int]]:
    """Places in `items`, in pieces: items of a piece are of like length; pieces of long and of short ones come mixed,
    the longest first.

    A piece fills forward passes, and there are enough pieces for all processes to end at about the same time.

    Args:
        items: what is to be done.
        together: items of which this is equal stay in one piece.
        characters: of an item.
        pass_tokens: that one forward pass holds.
        processes: who does it.
    """
    groups: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(together(item), []).append(place)
    tokens = {
        key: sum(characters(items[place]) for place in places) / _CHARACTERS for key, places in groups.items()
    }
    share = sum(tokens.values()) / processes
    most = min(share, max(pass_tokens, min(_PASSES * pass_tokens, share / _PIECES)))
    pieces: list[list[int]] = []
    filled = most
    for key in sorted(groups, key=lambda key: tokens[key] / len(groups[key]), reverse=True):
        if filled + tokens[key] > most:
            pieces.append([])
            filled = 0.0
        pieces[-1] += groups[key]
        filled += tokens[key]
    return shuffled(pieces)
