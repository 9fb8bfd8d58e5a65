"""What is trained, what is trained again, and what the store knows of it."""

import json
import signal
import time

from engine.base.durable_files import sha256
from engine.job.progress import from_json
from storage import datasets, jobs, results


def trained(workspace) -> dict[str, int]:
    """How many adapters each strategy's dataset has."""
    with workspace.open() as store:
        names = {dataset.id: dataset.name for dataset in datasets.newest_first(store)}
        found = [names[adapter.dataset_id] for adapter in results.adapters(store) if adapter.complete]
    return {name: found.count(name) for name in names.values()}


def test_an_excluded_row_retrains_its_strategy_alone_and_a_restored_one_none(copied):
    workspace = copied
    text = (workspace.folder / "run.yaml").read_text()
    workspace.write(text + "strategies: [persyn, random]\n")
    first = workspace.finish()
    assert trained(workspace) == {"small/persyn": 1, "small/random": 1}

    with workspace.open() as store:
        (dataset,) = (found for found in datasets.newest_first(store) if found.name == "small/random")
        prompt = datasets.rows(store, dataset.id, limit=1)[0].prompt.id
    assert workspace.call("data", "exclude", dataset.id, prompt).returncode == 0
    again = workspace.finish()
    assert trained(workspace) == {"small/persyn": 1, "small/random": 2}
    assert again["strategies"][0] == first["strategies"][0]
    assert again["strategies"][1]["rows"] == first["strategies"][1]["rows"] - 1
    with workspace.open() as store:
        newest = results.adapters(store)[-1]
    assert newest.metrics["rows"]["rows"] == first["strategies"][1]["rows"] - 1

    assert workspace.call("data", "restore", dataset.id, prompt).returncode == 0
    restored = workspace.finish()
    assert trained(workspace) == {"small/persyn": 1, "small/random": 2}
    assert restored["strategies"] == first["strategies"]


def test_the_store_lists_the_checkpoints_that_are_on_disk(finished):
    workspace, _ = finished
    with workspace.open() as store:
        adapter = results.adapters(store)[0]
        found = results.checkpoints(store, adapter.id)
        folders = [store.folder / checkpoint.path for checkpoint in found]
    last = adapter.metrics["steps"]
    assert [checkpoint.step for checkpoint in found] == [last, last - 1]
    assert sorted(folders) == sorted(folders[0].parent.glob("step-*"))
    for checkpoint, folder in zip(found, folders, strict=True):
        assert checkpoint.sha256 == sha256(folder / "manifest.json")
        assert checkpoint.metrics == json.loads((folder / "manifest.json").read_text())["state"]
        assert checkpoint.metrics["loss"] > 0


def test_a_checkpoint_that_is_asked_for_is_written_and_a_resume_counts_on_from_it(copied):
    workspace = copied
    text = (workspace.folder / "run.yaml").read_text()
    short, long = "{epochs: 2, batch_size: 8, checkpoint_steps: 1", "{epochs: 500, checkpoint_steps: 100000"
    workspace.write(text.replace(short, long))
    process = workspace.start("run", workspace.folder / "run.yaml")
    until = time.monotonic() + 120

    def wait(condition) -> None:
        while not condition():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until, "the condition never came"
            time.sleep(0.02)

    with workspace.open() as store:
        adapters = [adapter.id for adapter in results.adapters(store)]
        wait(
            lambda: jobs.recent(store)[0].stage == "distill" and len(results.adapters(store)) > len(adapters)
        )
        job, adapter = jobs.recent(store)[0], results.adapters(store)[-1]
        assert results.checkpoints(store, adapter.id) == []
        jobs.command(store, job.id, "checkpoint")
        wait(lambda: results.checkpoints(store, adapter.id) != [])
        assert "as asked" in jobs.newest_events(store, job.id)[-1].message
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        stopped = results.checkpoints(store, adapter.id)[0].step

        process = workspace.start("run", workspace.folder / "run.yaml")
        wait(lambda: jobs.recent(store)[0].id > job.id and jobs.recent(store)[0].stage == "distill")
        # The row stands there from the beginning of the stage; what it has done comes with the first step.
        wait(lambda: from_json(jobs.recent(store)[0].progress).done > 0)
        again = from_json(jobs.recent(store)[0].progress)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert again.done >= stopped
    assert again.total > again.done


def test_rows_held_out_are_measured_and_not_trained_on(copied):
    workspace = copied
    text = (workspace.folder / "run.yaml").read_text()
    assert "distill: {" in text
    before = {adapter.id: adapter for adapter in adapters(workspace)}
    workspace.write(text.replace("distill: {", "distill: {held_out: 0.3, ") + "strategies: [persyn]\n")
    workspace.finish()
    (new,) = (adapter for adapter in adapters(workspace) if adapter.id not in before)
    old = next(adapter for adapter in before.values() if adapter.dataset_id == new.dataset_id)
    assert 0 < new.metrics["rows"]["rows"] < old.metrics["rows"]["rows"]
    assert new.metrics["eval_loss"] > 0
    assert old.metrics["eval_loss"] is None
    with workspace.open() as store:
        job = jobs.recent(store, limit=1)[0]
        curve = [point for point in jobs.metrics(store, job.id) if point.name == "persyn/eval_loss"]
    assert len(curve) > 2


def adapters(workspace):
    with workspace.open() as store:
        return results.adapters(store)
