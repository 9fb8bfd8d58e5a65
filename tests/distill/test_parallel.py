"""Two processes that train one student, under torchrun and gloo on the CPU, beside one process."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from distill import training_forks
from safetensors.torch import load_file

from engine.base.errors import Cancelled, TrainingError
from engine.distill import loop, parallel
from engine.distill.data import Rows
from engine.distill.lora import Tuning
from engine.distill.optimizer import OptimizerConfig
from engine.distill.settings import Hooks, Settings, Task
from engine.models.loading import load_causal_lm, load_tokenizer

TOTAL = 60


class Trainings:
    """Trainings of one student on the same rows, by one process or two, in whatever folder."""

    def __init__(self, student, rows, method):
        self.student, self.rows = str(student), rows
        self.settings = Settings(
            tuning=Tuning(method=method, rank=4),
            optimizer=OptimizerConfig(learning_rate=1e-3),
            batch_rows=8,
            epochs=10,
            checkpoint_every=10,
            eval_every=25,
            pass_tokens=100,
            seed=3,
        )
        self.losses, self.measured = {}, {}

    def go(self, processes, folder, stop_after=TOTAL, at_begin=lambda: None, at_step=lambda step: None):
        steps = []

        def progress(report):
            steps.append(report["step"])
            self.losses.setdefault(report["step"], []).append(report["loss"])
            at_step(report["step"])

        hooks = Hooks(
            on_begin=lambda step, total, work: at_begin(),
            on_progress=progress,
            on_eval=lambda step, loss: self.measured.setdefault(step, []).append(loss),
            should_stop=lambda: bool(steps) and stop_after <= steps[-1] < TOTAL,
        )
        rows = Rows(self.rows, held_out=self.rows[:12])
        if processes == 1:
            model, tokenizer = load_causal_lm(self.student)
            return loop.train(model, tokenizer, rows, folder, self.settings, hooks)
        student = parallel.Student(self.student, "float32", ("cpu",) * processes)
        tokenizer = load_tokenizer(self.student)
        return parallel.train(student, tokenizer, rows, folder, self.settings, hooks)

    def same_as(self, other):
        """Whether every step was taken, with the other's losses, however often it was taken."""
        assert sorted(self.losses) == sorted(other.losses) == list(range(1, TOTAL + 1))
        assert self.measured.keys() == other.measured.keys()
        for mine, theirs in ((self.losses, other.losses), (self.measured, other.measured)):
            for step, values in mine.items():
                assert values == pytest.approx([theirs[step][0]] * len(values), rel=1e-4), step


@pytest.fixture
def trainings(student_folder, make):
    return lambda method: Trainings(student_folder, make.rows(48), method)


def weights(result):
    (path,) = result.path.glob("*.safetensors")
    return load_file(path)


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.allclose(value, expected[name], rtol=1e-3, atol=1e-5), name


def process(rank):
    """The id of one of the processes that this one's torchrun has started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # one that has ended, of an earlier test
            if "engine.distill.rank_process" in child.cmdline() and child.environ().get("RANK") == str(rank):
                found.append(child.pid)
    # The launcher has the module in its command line too, and no rank.
    (one,) = found
    return one


def test_a_killed_process_ends_all_with_a_clear_error_and_another_number_of_processes_goes_on(
    trainings, tmp_path
):
    whole, disturbed, pids, folders = trainings("lora"), trainings("lora"), [], []
    undisturbed = whole.go(1, tmp_path / "whole")
    folder = tmp_path / "disturbed"
    assert disturbed.go(1, folder, stop_after=5).step == 5

    def begin():
        pids.extend([process(0), process(1)])
        folders.append(Path(psutil.Process(pids[0]).environ()[parallel.ADDRESS]).parent)

    def kill(step):
        if step == 25:
            # The engine can be killed just as well, and would leave it behind.
            assert not folders[0].exists()
            os.kill(pids[1], signal.SIGKILL)

    with pytest.raises(TrainingError, match="process 2 of 2, on cpu, was ended by SIGKILL") as caught:
        disturbed.go(2, folder, at_begin=begin, at_step=kill)
    assert "the newest checkpoint is step-000000" in caught.value.message
    assert "Warning" not in caught.value.message
    assert "run the same command again" in caught.value.remedy
    assert not any(map(psutil.pid_exists, pids))

    last = disturbed.go(1, folder)
    assert 20 <= last.resumed_from < TOTAL
    disturbed.same_as(whole)
    assert_close(weights(last), weights(undisturbed))


def test_two_processes_hear_a_stop_and_one_goes_on(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel._Processes, "_start", training_forks.start)
    whole, disturbed = trainings("full"), trainings("full")
    undisturbed = whole.go(1, tmp_path / "whole")
    first = disturbed.go(2, tmp_path / "disturbed", stop_after=5)
    assert first.stopped
    assert 5 <= first.step < TOTAL
    assert not first.path.exists()
    last = disturbed.go(1, tmp_path / "disturbed")
    assert (last.resumed_from, last.step) == (first.step, TOTAL)
    disturbed.same_as(whole)
    assert_close(weights(last), weights(undisturbed))


HANGS = """
import os, signal, sys
from multiprocessing.connection import Client
engine = Client(sys.argv[1])
engine.recv_bytes()
engine.send((int(sys.argv[2]), "on_begin", (0, 60, 1.0)))
os.kill(os.getpid(), signal.SIGSTOP)
"""
LAUNCHES = """
import subprocess, sys
command = [sys.executable, "-c", sys.argv[1], sys.argv[2]]
ranks = [subprocess.Popen([*command, rank], start_new_session=True) for rank in "01"]
for rank in ranks:
    rank.wait()
"""


class Hung:
    """Two processes that have begun and are then stopped by a signal, each in its session as torchrun starts them."""

    def __init__(self, folder, monkeypatch):
        def start(processes, address):
            self.launcher = subprocess.Popen([sys.executable, "-c", LAUNCHES, HANGS, address])
            return self.launcher

        monkeypatch.setattr(parallel._Processes, "_start", start)
        student = parallel.Student("student", "float32", ("cpu", "cpu"))
        self.order = parallel.Order(student, Task(None, folder, Settings()))
        self.ranks = []

    def stopped(self):
        """Whether both have begun and are stopped."""
        self.ranks = psutil.Process(self.launcher.pid).children()
        return [rank.status() for rank in self.ranks] == [psutil.STATUS_STOPPED] * 2

    def follow(self, should_stop):
        with parallel._Processes(self.order) as processes:
            parallel._follow(processes, Hooks(should_stop=should_stop))


def test_processes_that_hang_are_killed_a_while_after_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "_SILENT_S", 0.5)
    hung = Hung(tmp_path, monkeypatch)
    with pytest.raises(Cancelled, match=r"did nothing for . s .* no checkpoint had been written yet"):
        hung.follow(hung.stopped)
    assert len(hung.ranks) == 2
    assert not any(rank.is_running() for rank in hung.ranks)


def test_a_second_stop_kills_processes_that_hang_at_once(tmp_path, monkeypatch):
    hung, asked = Hung(tmp_path, monkeypatch), []

    def ctrl_c():
        if hung.stopped():
            asked.append(time.monotonic())
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        hung.follow(ctrl_c)
    assert time.monotonic() - asked[0] < parallel._GONE_S
    assert len(hung.ranks) == 2
    assert not any(rank.is_running() for rank in hung.ranks)


def test_a_checkpoint_that_is_being_written_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "_SILENT_S", 0.3)
    monkeypatch.setattr(parallel, "_SEALED_BYTES_S", 1.0)
    hung, writes, waited = Hung(tmp_path, monkeypatch), [], parallel.wait
    file = tmp_path / "checkpoints" / "step-00000001.partial" / "weights"
    file.parent.mkdir(parents=True)

    def write(*arguments):
        if hung.ranks and len(writes) < 10:
            file.write_bytes(b"x")
            writes.append(time.monotonic())
        return waited(*arguments)

    monkeypatch.setattr(parallel, "wait", write)
    with pytest.raises(Cancelled):
        hung.follow(hung.stopped)
    assert len(writes) == 10  # a second
    assert time.monotonic() - writes[-1] > 1.3  # the byte is given a second
