"""Copies in processes of their own: who does what, and what becomes of it when one fails, is stopped or is orphaned."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest
from replica_copies import Load, Result

from engine.base.errors import Cancelled, ModelError, NeedsAttention, ScoreError
from engine.models.replicas import Replicas, cut_work
from engine.scorers.scorer_kinds import never

ITEMS = [f"{number} {'x' * (number % 40)}" for number in range(100)]


def started(
    devices: tuple[str, ...] = ("cpu", "cpu"), seconds: float = 0.0
) -> closing[Replicas[str, Result]]:
    return closing(Replicas(devices, Load(seconds)))


def results(
    replicas: Replicas[str, Result], items: list[str], should_stop=never
) -> Iterator[tuple[list[int], Result]]:
    return replicas.run(items, lambda item: item, len, should_stop)


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children() if process.status() != "zombie"}


def gone(pids: set[int]) -> bool:
    """Whether they have ended, soon."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_every_item_is_done_once_by_all_and_what_is_logged_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    before = children()
    with started(seconds=0.002) as replicas:
        for _ in range(2):
            found = list(results(replicas, ITEMS))
            assert sorted(item for _, (item, _) in found) == sorted(ITEMS)
            assert all(item in {ITEMS[place] for place in places} for places, (item, _) in found)
            assert {pid for _, (_, pid) in found} == children() - before
    assert children() == before
    assert caplog.messages == ["loaded to cpu"]  # by the first: the others say the same
    assert caplog.records[0].levelno == logging.WARNING


def test_pieces_fill_passes_and_are_enough_for_all() -> None:
    items = [(number % 30, "x" * 40 * (number % 30 + 1)) for number in range(300)]
    pieces = cut_work(items, lambda item: item[0], lambda item: len(item[1]), 1000, 2)
    assert sorted(place for piece in pieces for place in piece) == list(range(300))
    owners = [{items[place][0] for place in piece} for piece in pieces]
    assert sum(map(len, owners)) == 30  # what belongs together is nowhere apart
    tokens = [sum(len(items[place][1]) for place in piece) / 4 for piece in pieces]
    assert max(tokens) <= max(10 * 300, 4 * 1000)
    assert len(pieces) >= 2 * 8
    assert tokens[0] == max(tokens)  # which shows at once whether memory holds it
    assert len(cut_work(items[:30], lambda item: item[0], lambda item: 1, 1000, 4)) >= 4
    assert cut_work([], lambda item: item, len, 1000, 4) == []


@pytest.mark.parametrize(
    ("order", "kind", "said"),
    [
        ("nan", ScoreError, "^it is nan"),
        ("bug", NeedsAttention, "the process on cpu: RuntimeError: CUDA error: an illegal memory access"),
        (
            "die",
            NeedsAttention,
            "the process on cpu was killed by SIGKILL, as Linux does where memory runs out",
        ),
        ("crash", NeedsAttention, "the process on cpu ended with SIGABRT: segment violated"),
    ],
)
def test_a_failure_is_told_once_what_came_before_is_given_and_none_lingers(
    order: str, kind: type[Exception], said: str
) -> None:
    before, found = children(), []

    def work() -> None:
        with started() as replicas:
            found.extend(item for _, (item, _) in results(replicas, [*ITEMS, order]))

    with pytest.raises(kind, match=said) as met:
        work()
    assert met.value.remedy
    assert len(found) == len(set(found))
    assert children() == before


def test_a_copy_that_cannot_be_loaded_says_so_as_in_one_process() -> None:
    before = children()
    with pytest.raises(ModelError, match=r"^no such model") as met:
        started(("cpu", "broken"))
    assert met.value.remedy == "name another one"
    assert children() == before


def test_a_stop_is_heard_within_a_pass_and_the_copies_can_go_on() -> None:
    with started() as replicas:
        asked = time.monotonic() + 0.3
        with pytest.raises(Cancelled):
            list(
                results(replicas, ["forever", "and", "forever", "so", "on"], lambda: time.monotonic() > asked)
            )
        assert time.monotonic() - asked < 2
        assert sorted(item for _, (item, _) in results(replicas, ITEMS)) == sorted(ITEMS)


def test_who_takes_no_more_results_leaves_the_rest_undone() -> None:
    with started() as replicas:
        some = results(replicas, ["the longest begins", "forever", "the next", "forever!"])
        next(some)
        some.close()
        found = list(results(replicas, ITEMS))
    assert sorted(item for _, (item, _) in found) == sorted(ITEMS)


def test_an_engine_that_is_killed_leaves_no_process() -> None:
    program = (
        "from replica_copies import Load; from engine.models.replicas import Replicas;"
        "from engine.scorers.scorer_kinds import never;"
        "replicas = Replicas(('cpu', 'cpu'), Load());"
        "print(*(one.pid for one in replicas._replicas), flush=True);"
        "list(replicas.run(['forever', 'forever too'], str, len, never))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    engine = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert engine.stdout is not None
    pids = set(map(int, engine.stdout.readline().split()))
    assert len(pids) == 2
    assert all(psutil.pid_exists(pid) for pid in pids)
    engine.send_signal(signal.SIGKILL)
    engine.communicate()
    assert gone(pids)
