"""One of the processes that train a student together: `torchrun … -m engine.distill.rank_process`, one a device.

The engine hands it its order over a socket and is told over it what happens. When the engine's end of the socket is
closed, or the engine gone, this process ends at once.
"""

import os
import pickle
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Client
from queue import SimpleQueue
from typing import Any

import torch
import torch.distributed as dist

from engine.base.errors import PersynError
from engine.distill.layouts import Copies, Layout
from engine.distill.loop import train_tokenised
from engine.distill.lora import trainable
from engine.distill.parallel import ADDRESS, SAVE, STOP, Order
from engine.distill.ranks import PeerLost, Ranks
from engine.distill.settings import Hooks, TrainResult
from engine.distill.sharding import Shards
from engine.models.loading import load_causal_lm

TOLD_BY_FIRST = ("on_progress", "on_eval", "on_notice", "on_begin", "on_checkpoints")
"""Hooks whose calls are the same in every process; `on_work` is each process's own."""


_OUTLIVE_S = 30.0
"""Seconds that a process waits for its end when another one is lost: torchrun names the first and ends all."""


class Engine:
    """The engine, as one of its processes reaches it.

    Args:
        rank: this process's number.
        address: of the engine's socket.
    """

    def __init__(self, rank: int, address: str) -> None:
        self.rank = rank
        self._connection = Client(address)
        self._orders = SimpleQueue[bytes]()
        self._stop, self._save = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, name="engine", daemon=True).start()

    def _listen(self) -> None:
        """Takes what the engine says, and ends the process with it."""
        while True:
            try:
                said = self._connection.recv_bytes()
            except (EOFError, OSError):
                os._exit(1)  # whatever the main thread waits for: another process, most likely
            if said == STOP:
                self._stop.set()
            elif said == SAVE:
                self._save.set()
            else:
                self._orders.put(said)

    def order(self) -> Order:
        """What this process is to do, once the engine has said so."""
        order: Order = pickle.loads(self._orders.get())
        return order

    def tell(self, name: str, *arguments: Any) -> None:
        """Says something that `parallel` knows by this name."""
        self._connection.send((self.rank, name, arguments))

    def hooks(self) -> Hooks:
        """Hooks that tell and ask the engine."""
        told = TOLD_BY_FIRST if self.rank == 0 else ()
        found: dict[str, Any] = {name: self._teller(name) for name in (*told, "on_work")}
        return Hooks(**found, should_stop=self._stop.is_set, should_save=self._take_save)

    def _teller(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.tell(name, *arguments)

    def _take_save(self) -> bool:
        asked = self._save.is_set()
        self._save.clear()
        return asked


def main() -> None:
    """Trains as the engine orders; exit code 1 where that ended in an error, which the engine was told."""
    engine = Engine(int(os.environ["RANK"]), os.environ[ADDRESS])
    try:
        result = _train(engine.order(), engine)
    except PersynError as error:
        engine.tell("error", error)
        os._exit(1)  # at once: the end of NCCL waits for processes that wait for this one
    except PeerLost:
        time.sleep(_OUTLIVE_S)
        raise
    if engine.rank == 0:
        engine.tell("end", replace(result, model=None))
    dist.destroy_process_group()


def _train(order: Order, engine: Engine) -> TrainResult:
    """What training gave, the same in every process but for the speed of each."""
    student = order.student
    device = student.devices[engine.rank]
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # else what names no device would also take memory of the first one
        torch.cuda.init()  # type: ignore[no-untyped-call]  # else torch.distributed would choose another one by itself
    sharded = order.task.settings.tuning.method == "full"
    model, tokenizer = load_causal_lm(
        student.ref, student.dtype, "cpu" if sharded else device, student.revision, four_bit=student.four_bit
    )
    dist.init_process_group(_backend(student.devices))
    ranks = Ranks(engine.rank, len(student.devices))

    def lay_out(trained: Any) -> Layout:
        if not sharded:
            return Copies(trainable(trained), ranks)
        return Shards(trained, ranks, torch.device(device), lambda: engine.tell("on_work", 0, 0.0))

    return train_tokenised(model, tokenizer, order.task, engine.hooks(), lay_out)


def _backend(devices: tuple[str, ...]) -> str:
    """Gloo for what lies on the CPU, NCCL for GPUs; it refuses one that two processes share, which gloo does not."""
    gpus = all(device.startswith("cuda") for device in devices)
    return "cpu:gloo,cuda:nccl" if gpus and len(set(devices)) == len(devices) else "gloo"


if __name__ == "__main__":
    main()
