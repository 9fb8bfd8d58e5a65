"""Jobs, leases and fencing."""

import math
import os
import signal
import socket
import threading
from collections.abc import Callable

import psutil
import pytest

from storage import jobs, prompts, responses
from storage.errors import FencedError, StoreError
from storage.responses import Wanted
from storage.store import Store


def test_a_job_launched_twice_is_one_job(store) -> None:
    first, created = jobs.submit(store, {"a": [1, 2.5, None]}, "sha", "my run", until="score")
    assert created
    assert (first.name, first.spec, first.until_stage, first.state) == (
        "my run",
        {"a": [1, 2.5, None]},
        "score",
        "queued",
    )
    assert jobs.submit(store, {}, "sha", "again")[1] is False
    assert jobs.submit(store, {}, "sha", "again")[0].id == first.id
    other, created = jobs.submit(store, {}, "other sha", "other")
    assert created
    assert [job.id for job in jobs.recent(store)] == [other.id, first.id]
    assert [job.id for job in jobs.recent(store, before_id=other.id)] == [first.id]


def test_after_a_job_has_ended_the_same_specification_makes_a_new_one(store, make) -> None:
    job = make.job()
    jobs.release(store, jobs.claim(store, job.id, "me"), "failed", "it broke")
    ended = jobs.get(store, job.id)
    assert (ended.state, ended.error, ended.owner, ended.finished_at is None) == (
        "failed",
        "it broke",
        None,
        False,
    )
    again = make.job()
    assert again.id != job.id
    assert jobs.went_on(jobs.recent(store)) == {job.id: again.id}
    with pytest.raises(StoreError, match=f"job {job.id} is failed"):
        jobs.claim(store, job.id, "me")


def test_a_claim_says_who_holds_the_job(store, make) -> None:
    job = make.job()
    lease = jobs.claim(store, job.id, "me", lease_seconds=60.0)
    assert (lease.job_id, lease.epoch, lease.owner, lease.seconds) == (job.id, 1, "me", 60.0)
    held = jobs.get(store, job.id)
    assert (held.state, held.owner, held.pid, held.host) == (
        "running",
        "me",
        os.getpid(),
        socket.gethostname(),
    )
    assert held.started_at is not None
    assert 50 < held.lease_until - held.seen_at <= 60
    assert held.effective_state == "running"
    with pytest.raises(StoreError, match=f"run by process {os.getpid()} on {socket.gethostname()}"):
        jobs.claim(store, job.id, "you")
    jobs.renew(store, lease)


def test_a_paused_job_can_be_claimed_again(store, make) -> None:
    job = make.job()
    first = jobs.claim(store, job.id, "me")
    jobs.release(store, first, "paused", "disk_full")
    assert jobs.get(store, job.id).error == "disk_full"
    second = jobs.claim(store, job.id, "you")
    assert second.epoch == 2
    assert jobs.get(store, job.id).error == ""
    with pytest.raises(FencedError):
        jobs.renew(store, first)


def test_after_release_the_lease_writes_nothing(store, make) -> None:
    job = make.job()
    lease = jobs.claim(store, job.id, "me")
    jobs.release(store, lease, "done")
    with pytest.raises(FencedError):
        jobs.event(store, lease, "info", "too late")
    assert jobs.events(store, job.id) == []
    assert jobs.get(store, job.id).state == "done"


def test_an_expired_lease_can_be_taken_and_its_holder_is_fenced(store, make, eventually: Callable) -> None:
    a = make.generation("a")
    set_id, ids = make.prompt_set(["synthesis"] * 3)
    job = make.job()
    slow = jobs.claim(store, job.id, "slow", lease_seconds=0.2)
    responses.add(store, slow, [make.answer(ids[0], a)])
    eventually(lambda: jobs.get(store, job.id).effective_state == "interrupted")
    responses.add(store, slow, [make.answer(ids[1], a)])
    assert jobs.get(store, job.id).effective_state == "running", "nobody else wanted it: the holder goes on"
    eventually(lambda: jobs.get(store, job.id).effective_state == "interrupted")
    quick = jobs.claim(store, job.id, "quick")
    writes = [
        lambda: responses.add(store, slow, [make.answer(ids[2], a)]),
        lambda: prompts.finish_set(store, slow, set_id, {"fenced": 1}),
        lambda: jobs.set_stage(store, slow, "late", {}),
        lambda: jobs.progress(store, slow, {"late": 1}),
        lambda: jobs.record_metrics(store, slow, [("s", "loss", 1, 1.0)]),
        lambda: jobs.release(store, slow, "failed"),
        lambda: jobs.renew(store, slow),
    ]
    for write in writes:
        with pytest.raises(FencedError, match="belongs to another process"):
            write()
    assert responses.count_pending(store, Wanted(set_id, None, a)) == 1
    held = jobs.get(store, job.id)
    assert (held.owner, held.stage, held.progress, held.state) == ("quick", "", {}, "running")
    assert responses.add(store, quick, [make.answer(ids[2], a)]) == 1


WRITER = """
    import sys
    from storage import jobs, responses
    from storage.errors import FencedError
    from storage.records import Response, NewResponse
    from storage.store import Store

    store = Store.open(sys.argv[1])
    lease = jobs.claim(store, int(sys.argv[2]), "writer", lease_seconds=float(sys.argv[3]))
    sample = 0
    try:
        while sys.stdin.readline():
            sample += 1
            answer = Response(0, "x", "ok", "stop", 1, 1, 0.1)
            responses.add(store, lease, [NewResponse(1, 1, "g", answer, sample=sample)])
            print("committed", flush=True)
    except FencedError as problem:
        print("fenced", flush=True)
"""


def write_once(writer) -> str:
    """Has the writer store one more response; what it says of it."""
    writer.stdin.write("go\n")
    writer.stdin.flush()
    return writer.stdout.readline()


def test_a_process_stopped_past_its_lease_writes_nothing_when_it_wakes(
    location, script, make_for, eventually
) -> None:
    with Store.open(location) as store:
        make = make_for(store)
        make.prompt_set(["synthesis"])
        make.generation("a")
        job = make.job()
        writer = script(WRITER, location, job.id, 0.3)
        assert [write_once(writer) for _ in range(3)] == ["committed\n"] * 3
        # Between two writes: one that is stopped inside a transaction keeps SQLite's lock as long as it sleeps.
        writer.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: jobs.get(store, job.id).effective_state == "interrupted")
            lease = jobs.claim(store, job.id, "second")
        finally:
            writer.send_signal(signal.SIGCONT)
        assert write_once(writer) == "fenced\n"
        assert writer.wait(30) == 0
        with store.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM responses").scalar() == 3
        jobs.renew(store, lease)


def test_the_job_of_a_killed_process_can_be_taken_at_once(location, script, make_for) -> None:
    with Store.open(location) as store:
        make = make_for(store)
        make.prompt_set(["synthesis"])
        make.generation("a")
        job = make.job()
        writer = script(WRITER, location, job.id, 3600)
        assert write_once(writer) == "committed\n"
        with pytest.raises(StoreError, match=f"run by process {writer.pid}"):
            jobs.claim(store, job.id, "second")
        writer.kill()
        writer.wait(30)
        assert jobs.claim(store, job.id, "second").epoch == 2


CLAIMER = """
    import sys, threading
    from storage import jobs
    from storage.errors import StoreError
    from storage.store import Store

    store = Store.open(sys.argv[1])
    won = []

    def race(name):
        for job_id in range(1, int(sys.argv[2]) + 1):
            try:
                jobs.claim(store, job_id, name)
            except StoreError:
                continue
            won.append(job_id)

    print("ready", flush=True)
    sys.stdin.readline()
    threads = [threading.Thread(target=race, args=(f"{sys.argv[3]}-{number}",)) for number in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(*sorted(won), flush=True)
    # Lives on until the others are done: the jobs of a dead holder may be taken at once.
    sys.stdin.readline()
"""


def race(processes) -> list[str]:
    """What each process printed, all of them started at the same moment."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.stdout.readline() for process in processes]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return outputs


def test_a_job_has_one_winner_among_threads_and_processes(location, script, make_for) -> None:
    count = 30
    with Store.open(location) as store:
        for number in range(count):
            make_for(store).job(f"spec {number}")
    outputs = race([script(CLAIMER, location, count, number) for number in range(2)])
    won = [int(word) for output in outputs for word in output.split()]
    assert sorted(won) == list(range(1, count + 1))


FILLER = """
    import sys, threading
    from storage import responses
    from storage.records import Response, Generation, NewResponse
    from storage.store import Store

    store = Store.open(sys.argv[1])
    who = Generation(1, "g")
    stored = [0, 0]

    def fill(number):
        while page := responses.pending(store, responses.Wanted(1, None, who), limit=500):
            rows = [
                NewResponse(prompt.id, 1, "g", Response(0, "x", "ok", "stop", 1, 1, 0.1)) for _, prompt in page
            ]
            stored[number] += responses.add(store, None, rows)

    print("ready", flush=True)
    sys.stdin.readline()
    threads = [threading.Thread(target=fill, args=(number,)) for number in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(sum(stored))
"""


def test_two_programs_after_the_same_5000_items_store_each_once(location, script, make_for) -> None:
    with Store.open(location) as store:
        make = make_for(store)
        set_id, _ = make.prompt_set(["synthesis"] * 5000)
        make.generation("a")
        outputs = race([script(FILLER, location) for _ in range(2)])
        assert sum(map(int, outputs)) == 5000
        with store.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM responses").scalar() == 5000
        assert list(prompts.counts(store, set_id).values()) == [5000]


def test_events_and_stage_and_progress(store, make) -> None:
    job = make.job()
    lease = jobs.claim(store, job.id, "me")
    jobs.set_stage(store, lease, "calibrate", {"done": 0, "total": 10})
    jobs.progress(store, lease, {"done": 5, "total": 10})
    for number in range(3):
        jobs.event(store, lease, "info", f"event {number}")
    held = jobs.get(store, job.id)
    assert (held.stage, held.progress) == ("calibrate", {"done": 5, "total": 10})
    first = jobs.events(store, job.id, limit=2)
    assert [(item.message, item.kind) for item in first] == [("event 0", "info"), ("event 1", "info")]
    assert [item.message for item in jobs.events(store, job.id, after_id=first[-1].id)] == ["event 2"]
    assert abs(first[0].at - held.seen_at) < 60


def test_metrics_keep_their_order_and_say_what_was_no_number(store, make) -> None:
    job = make.job()
    lease = jobs.claim(store, job.id, "me")
    rows = [("distill", "loss", 1, 2.5), ("distill", "rate", 1, 80.0), ("distill", "loss", 2, math.nan)]
    jobs.record_metrics(store, lease, rows)
    jobs.record_metrics(store, lease, [])
    found = jobs.metrics(store, job.id)
    assert [(item.name, item.step, item.value) for item in found] == [
        ("loss", 1, 2.5),
        ("rate", 1, 80.0),
        ("loss", 2, None),
    ]
    assert [item.step for item in jobs.metrics(store, job.id, "loss", after_id=found[0].id)] == [2]


def test_commands_are_given_once_and_in_order(store, make) -> None:
    job = make.job()
    lease = jobs.claim(store, job.id, "me")
    assert jobs.take_commands(store, lease) == []
    jobs.command(store, job.id, "concurrency", {"n": 4})
    jobs.command(store, job.id, "cancel")
    assert [(item.kind, item.args) for item in jobs.take_commands(store, lease)] == [
        ("concurrency", {"n": 4}),
        ("cancel", {}),
    ]
    assert jobs.take_commands(store, lease) == []
    with pytest.raises(StoreError, match="there is no job 99"):
        jobs.command(store, 99, "cancel")


def test_commands_are_given_once_to_threads_that_ask_at_once(store, make) -> None:
    job = make.job()
    lease = jobs.claim(store, job.id, "me")
    taken: list[int] = []
    stop = threading.Event()

    def take() -> None:
        while not stop.is_set():
            taken.extend(item.id for item in jobs.take_commands(store, lease))

    takers = [threading.Thread(target=take) for _ in range(2)]
    for taker in takers:
        taker.start()
    given = [jobs.command(store, job.id, "note") for _ in range(40)]
    stop.set()
    for taker in takers:
        taker.join()
    taken += [item.id for item in jobs.take_commands(store, lease)]
    assert sorted(taken) == given


def test_a_job_whose_process_has_died_is_ended_before_its_lease_is_over(
    store, make, location, script, eventually
) -> None:
    job = make.job()
    holder = script(
        "import sys\nfrom storage import jobs\nfrom storage.store import Store\n"
        "jobs.claim(Store.open(sys.argv[1]), int(sys.argv[2]), 'other', lease_seconds=600.0)\n"
        "print('claimed', flush=True)\nsys.stdin.readline()",
        location,
        job.id,
    )
    assert holder.stdout.readline() == "claimed\n"
    assert jobs.alive(jobs.get(store, job.id))
    assert not jobs.end_unowned(store, job.id, "cancelled")
    assert jobs.get(store, job.id).state == "running"

    holder.kill()
    # Not waited for: an engine that its starter has not asked about yet is gone all the same.
    eventually(lambda: jobs.get(store, job.id).effective_state == "interrupted")
    left = jobs.get(store, job.id)
    assert (left.effective_state, jobs.alive(left)) == ("interrupted", False)
    assert jobs.end_unowned(store, job.id, "cancelled")
    ended = jobs.get(store, job.id)
    assert (ended.state, ended.pid, ended.finished_at is None) == ("cancelled", None, False)
    assert not jobs.end_unowned(store, job.id, "failed"), "it has ended already"


def test_a_job_of_another_machine_is_alive_until_its_lease_is_over(store, make, monkeypatch) -> None:
    job = make.job()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    lease = jobs.claim(store, job.id, "other", lease_seconds=600.0)
    monkeypatch.undo()
    monkeypatch.setattr(psutil, "Process", lambda *_: pytest.fail("that process number means nothing here"))
    assert jobs.alive(jobs.get(store, job.id))
    assert not jobs.end_unowned(store, job.id, "cancelled")
    jobs.release(store, lease, "queued")
    assert jobs.end_unowned(store, job.id, "cancelled")


def test_unknown_jobs(store) -> None:
    assert jobs.get(store, 5) is None
    with pytest.raises(StoreError, match="there is no job 5"):
        jobs.claim(store, 5, "me")
