"""`distill` on several devices in a whole run: two processes on the CPU, under torchrun."""

import shutil
import time

import psutil
import torch
from safetensors.torch import load
from support import RUN, Workspace, wait_until

from engine.job.progress import from_json
from storage import jobs, results

LONGER = RUN.replace(
    "{epochs: 2, batch_size: 8, checkpoint_steps: 1", "{epochs: 8, batch_size: 8, checkpoint_steps: 3"
)
assert LONGER != RUN


def runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def newest(workspace: Workspace):
    with workspace.open() as store:
        adapter = results.adapters(store)[-1]
        weights = (store.folder / adapter.path / "adapter_model.safetensors").read_bytes()
    return adapter, load(weights)


def test_a_killed_engine_leaves_no_process_and_its_training_goes_on_to_the_weights_of_one_device(
    copied, tmp_path
):
    plain = Workspace(tmp_path / "plain")
    shutil.copytree(copied.folder, plain.folder, ignore=shutil.ignore_patterns("plain"))
    plain.write(LONGER)
    plain.finish(until="distill")

    copied.write(LONGER + "devices: [cpu, cpu]\n")
    engine = copied.start("run", copied.folder / "run.yaml")
    with copied.open() as store:
        before = jobs.recent(store)[0].id

        def trains() -> bool:
            job = jobs.recent(store)[0]
            return job.id > before and job.stage == "distill" and from_json(job.progress).done > 10

        wait_until(engine, trains)
    processes = [
        process
        for process in psutil.Process(engine.pid).children(recursive=True)
        if "engine.distill.rank_process" in process.cmdline()
    ]
    assert len(processes) == 3  # torchrun and two
    engine.kill()
    until = time.monotonic() + 10
    while any(map(runs, processes)):
        assert time.monotonic() < until, "a process has outlived its engine"
        time.sleep(0.05)

    copied.finish(until="distill")
    (adapter, found), (alone, expected) = newest(copied), newest(plain)
    assert 0 < adapter.metrics["resumed_from"] < adapter.metrics["steps"] == alone.metrics["steps"]
    assert adapter.spec_sha == alone.spec_sha
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.allclose(value, expected[name], rtol=1e-3, atol=1e-5), name
