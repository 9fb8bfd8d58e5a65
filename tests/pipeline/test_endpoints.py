"""Runs with endpoint teachers, by the real engine (processes that are killed) and a real local server."""

import signal
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest
from support import RUN, Workspace, good, wait_until
from teachers.endpoint import Endpoint, Reply, error

from engine.job import control
from engine.job.progress import from_json
from engine.pipeline import runner
from persyn_tui.app.screens.generation import query
from persyn_tui.app.state.cached_query import QueryCache
from persyn_tui.app.state.stopping import in_flight
from storage import jobs, schema
from storage.errors import PersynError
from storage.store import Store

NEAR = """  - {name: near, backend: openai, model: m, base_url: [%s, %s], price: {input: 1, output: 100},
     endpoint: {retry: {cooldown: 0.01, probes: 3}}}
"""
FAR = """  - {name: far, backend: openai, model: m, base_url: %s, api_key_env: FAR_KEY,
     endpoint: {retry: {cooldown: 0.01, probes: 3}}}
"""
KEY = "secret-of-far"
CALIBRATED = 28


@pytest.fixture
def servers():
    found = [Endpoint(good) for _ in range(3)]
    yield found
    for server in found:
        server.close()


def write(workspace: Workspace, servers: list[Endpoint], **replaced: str) -> None:
    """A run with one zoo teacher, one endpoint with two replicas and one with a key."""
    first, second, far = (server.url for server in servers)
    start, end = RUN.index("  - {name: speller"), RUN.index("prompts:")
    text = RUN[:start] + NEAR % (first, second) + FAR % far + RUN[end:]
    for old, new in replaced.items():
        text = text.replace(f"{old}: {{", f"{old}: {{{new}, ")
    workspace.write(text)
    workspace.environment["FAR_KEY"] = KEY


def rows(store: Store) -> Counter[tuple[str, str]]:
    """Responses by (teacher, status)."""
    with store.read() as connection:
        names = dict(
            connection.execute(
                schema.ModelRow.__table__.select().with_only_columns(schema.ModelRow.id, schema.ModelRow.name)
            ).all()
        )
        found = connection.execute(
            schema.ResponseRow.__table__.select().with_only_columns(
                schema.ResponseRow.teacher_id, schema.ResponseRow.status
            )
        ).all()
    return Counter((names[teacher], status) for teacher, status in found)


def test_two_endpoints_and_a_local_teacher_to_the_end_through_kill_9(workspace, servers) -> None:
    release = threading.Event()
    near, far = servers[:2], servers[2]
    far.script = lambda body, number: (
        good(body, number) if number < 10 else Reply(body=good(body, number).body, hold=release)
    )
    write(workspace, servers)
    process = workspace.start("run", workspace.folder / "run.yaml")
    lost: list[int] = []

    def stuck() -> bool:
        """All that can be stored is stored, and the rest is in flight."""
        if not workspace.database.exists():
            return False
        try:
            with workspace.open() as store:
                if sum(rows(store).values()) < 2 * CALIBRATED + 10:
                    return False
                rows_shown = jobs.recent(store)[0].progress["rows"].values()
                lost[:] = [sum(row["in_flight"] for row in rows_shown)]
        except PersynError:
            return False
        return lost[0] == len(far.requests) - 10

    wait_until(process, stuck)
    process.kill()
    process.communicate()
    release.set()
    report = workspace.finish()
    assert report["strategies"][0]["accuracy_after"] is not None
    assert 0 < lost[0] <= 20
    with workspace.open() as store:
        stored = rows(store)
        (job,) = jobs.recent(store)
        said = [event.message for event in jobs.events(store, job.id)]
    assert any(message.startswith(f"{lost[0]} requests were in flight") for message in said)
    prompts = workspace.counts()["prompts"]
    assert sum(stored.values()) == 3 * CALIBRATED + (prompts - CALIBRATED - 10)
    assert {status for _, status in stored} <= {"ok", "truncated", "empty"}
    assert sum(len(server.requests) for server in near) == stored["near", "ok"]
    assert min(len(server.requests) for server in near) > 3
    assert len(far.requests) == stored["far", "ok"] + lost[0]
    assert {headers["authorization"] for headers in far.headers} == {f"Bearer {KEY}"}
    for path in workspace.folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_an_answer_is_stored_before_the_next_one_comes_and_a_kill_loses_none(workspace) -> None:
    release, waits = threading.Event(), list[float]()
    last = CALIBRATED - 8

    def script(body, number) -> Reply:
        began = time.monotonic()
        while number and time.monotonic() - began < 1.5:
            with suppress(PersynError), workspace.open() as store:
                if rows(store)["far", "ok"] >= number:
                    break
        waits.append(time.monotonic() - began)
        return good(body, number) if number < last else Reply(body=good(body, number).body, hold=release)

    with Endpoint(script) as far:
        one = "endpoint: {concurrency: {start: 1, max: 1}}"
        start, end = RUN.index("  - {name: speller"), RUN.index("prompts:")
        teacher = f"  - {{name: far, backend: openai, model: m, base_url: {far.url}, {one}}}\n"
        workspace.write(RUN[:start] + teacher + RUN[end:])
        process = workspace.start("run", workspace.folder / "run.yaml", "--until", "calibrate")
        wait_until(process, lambda: len(waits) == last + 1)
        process.kill()
        process.communicate()
        release.set()
        with workspace.open() as store:
            kept = rows(store)["far", "ok"]
        workspace.run("--until", "calibrate")
    assert kept == last
    assert len(far.requests) == CALIBRATED + 1  # only the one in flight was sent again
    assert max(waits[: last + 1]) < 1


def test_an_operator_halves_what_is_in_flight(workspace) -> None:
    release, counted = threading.Event(), list[int]()

    def script(body, number) -> Reply:
        if number < 8:
            return Reply(body=good(body, number).body, hold=release)
        counted.append(far.in_flight)
        time.sleep(0.02)  # as long as an answer takes
        return good(body, number)

    with Endpoint(script) as far:
        eight = "endpoint: {concurrency: {start: 8, max: 8}}"
        start, end = RUN.index("  - {name: speller"), RUN.index("prompts:")
        teacher = f"  - {{name: far, backend: openai, model: m, base_url: {far.url}, {eight}}}\n"
        workspace.write(RUN[:start] + teacher + RUN[end:])
        process = workspace.start("run", workspace.folder / "run.yaml", "--until", "calibrate")
        wait_until(process, lambda: far.in_flight == 8)

        def said() -> str:
            with workspace.open() as store:
                return " ".join(event.message for event in jobs.events(store, 1))

        wait_until(process, lambda: workspace.call("concurrency", 1, "far", "less").returncode == 0)
        wait_until(process, lambda: "4 requests may be in flight instead of 8" in said())
        release.set()
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert len(counted) == CALIBRATED - 8
    assert max(counted) < 8


def held(workspace: Workspace, far: Endpoint, release: threading.Event) -> None:
    """A run whose only teacher, five requests at a time, answers the first 10 and the others once `release` is set."""
    far.script = lambda body, number: (
        good(body, number) if number < 10 else Reply(body=good(body, number).body, hold=release)
    )
    five = "endpoint: {concurrency: {start: 5, max: 5}}"
    start, end = RUN.index("  - {name: speller"), RUN.index("prompts:")
    teacher = f"  - {{name: far, backend: openai, model: m, base_url: {far.url}, {five}}}\n"
    workspace.write(RUN[:start] + teacher + RUN[end:])


def waits(workspace: Workspace) -> bool:
    """Whether the engine has said that it waits for the five responses in flight."""
    with workspace.open() as store:
        said = [event.message for event in jobs.events(store, 1)]
    return "nothing more is sent; 5 responses in flight are waited for" in said


def stored(workspace: Workspace) -> int:
    with workspace.open() as store:
        return rows(store)["far", "ok"]


@pytest.mark.parametrize(
    ("how", "code", "state"), [("pause", 3, "paused"), ("cancel", 130, "cancelled"), ("", 130, "cancelled")]
)
def test_what_is_in_flight_at_a_stop_is_waited_for_and_stored(
    workspace, servers, how: str, code: int, state: str
) -> None:
    """It is paid for: neither a pause nor a cancel, nor one ctrl+c (``), gives it up at once."""
    far, release = servers[2], threading.Event()
    held(workspace, far, release)
    process = workspace.start("run", workspace.folder / "run.yaml", "--until", "calibrate")
    wait_until(process, lambda: far.in_flight == 5 and stored(workspace) == 10)
    with workspace.open() as store:
        if how:
            jobs.command(store, 1, how)
        else:
            process.send_signal(signal.SIGINT)
        wait_until(process, lambda: waits(workspace))
        if how:
            assert jobs.stopping(store)[1].kind == how
        wait_until(process, lambda: in_flight(jobs.get(store, 1)) == 5)  # what the app says
    release.set()
    process.communicate(timeout=60)
    assert process.returncode == code
    with workspace.open() as store:
        (job,) = jobs.recent(store)
    assert (job.state, stored(workspace), len(far.requests)) == (state, 15, 15)
    workspace.finish("calibrate")
    assert (stored(workspace), len(far.requests)) == (CALIBRATED, CALIBRATED)
    with workspace.open() as store:
        assert len(jobs.recent(store)) == (1 if state == "paused" else 2)


@pytest.mark.parametrize(
    ("how", "state"), [(("pause", "pause"), "paused"), (("pause", "cancel"), "cancelled"), ((), "cancelled")]
)
def test_a_stop_that_is_asked_for_again_gives_up_what_is_in_flight(
    workspace, servers, how: tuple[str, ...], state: str
) -> None:
    far, release = servers[2], threading.Event()
    held(workspace, far, release)
    process = workspace.start("run", workspace.folder / "run.yaml", "--until", "calibrate")
    wait_until(process, lambda: far.in_flight == 5 and stored(workspace) == 10)
    with workspace.open() as store:
        for time_asked in range(2):
            if how:
                jobs.command(store, 1, how[time_asked])
            else:
                process.send_signal(signal.SIGINT)
            if not time_asked:
                wait_until(process, lambda: waits(workspace))
    began = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - began < control.PAUSE_S
    assert not release.is_set()
    release.set()
    with workspace.open() as store:
        (job,) = jobs.recent(store)
        said = " ".join(event.message for event in jobs.events(store, 1))
    assert (job.state, stored(workspace), len(far.requests)) == (state, 10, 15)
    if how:
        assert "5 responses in flight are given up, which their endpoints may bill" in said
    else:
        assert job.error.startswith("stopped at once")


def test_a_pause_waits_so_long_and_no_longer(workspace, servers, monkeypatch) -> None:
    far, release = servers[2], threading.Event()
    held(workspace, far, release)
    monkeypatch.setattr(control, "PAUSE_S", 0.3)
    monkeypatch.setattr(runner, "HEARTBEAT_S", 0.05)

    def pause() -> None:
        end = time.monotonic() + 60
        while far.in_flight < 5 and time.monotonic() < end:
            time.sleep(0.01)
        with workspace.open() as store:
            jobs.command(store, 1, "pause")

    thread = threading.Thread(target=pause)
    thread.start()
    code, job, _ = workspace.work("calibrate")
    thread.join()
    release.set()
    assert (code, job.state, stored(workspace)) == (3, "paused", 10)
    workspace.finish("calibrate")
    assert len(far.requests) == CALIBRATED + 5  # those that were given up are sent again


def test_what_was_sent_again_stays_known_after_its_stage_and_its_job(workspace, servers) -> None:
    far = servers[2]
    far.script = lambda body, number: (
        error(429, "busy", retry_after="0") if number in (3, 30, 32) else good(body, number)
    )
    start, end = RUN.index("  - {name: speller"), RUN.index("prompts:")
    teacher = f"  - {{name: far, backend: openai, model: m, base_url: {far.url}}}\n"
    workspace.write(RUN[:start] + teacher + RUN[end:] + "strategies: [random, persyn]\n")
    workspace.finish("build_dataset")
    with workspace.open() as store:
        (job,) = jobs.recent(store)
        shown = {line.name: line.retries for line in query.read(store, job.id, QueryCache()).teachers}
    assert job.stage == "build_dataset"
    assert from_json(job.progress).retries == {"calibrate": {"far": 1}, "generate": {"far": 2}}
    assert shown == {"far": 3, "brief": 0}


def test_a_teacher_that_only_fails_stops_no_other_and_is_named(workspace, servers) -> None:
    near, far = servers[:2], servers[2]
    far.script = lambda body, number: error(500 if number % 2 else 429, "out of order")
    write(workspace, servers)
    code, job, _ = workspace.work("calibrate")
    assert (code, job.state) == (3, "needs_attention")
    assert "teacher `far` cannot be asked" in job.error
    assert "out of order" in job.error
    with workspace.open() as store:
        found = rows(store)
    assert found["near", "ok"] == CALIBRATED
    assert sum(count for (name, _), count in found.items() if name == "brief") == CALIBRATED
    assert found["far", "ok"] == 0
    asked = len(far.requests)
    assert asked <= 15
    for _ in range(3):  # however often it is tried while the server is dead, no answer runs out of attempts
        assert workspace.work("calibrate")[0] == 3
    asked = len(far.requests)
    far.script = good
    workspace.finish("calibrate")
    with workspace.open() as store:
        assert rows(store)["far", "ok"] == CALIBRATED
        assert {name for name, status in rows(store) if status == "error"} == set()
    assert len(far.requests) == asked + CALIBRATED
    assert sum(len(server.requests) for server in near) == CALIBRATED


def test_a_renamed_teacher_is_another_one_and_the_run_says_so_before_it_asks(workspace, servers) -> None:
    write(workspace, servers)
    workspace.finish("route")
    text = (workspace.folder / "run.yaml").read_text()
    workspace.write(text.replace("name: far,", "name: further,"))
    workspace.finish("route")
    with workspace.open() as store:
        newest = max(job.id for job in jobs.recent(store))
        said = [event.message for event in jobs.events(store, newest)]
        assert rows(store)["further", "ok"] == rows(store)["far", "ok"] == CALIBRATED
    assert any("`further` has the settings of `far`, whose responses are stored" in line for line in said)


def test_a_budget_pauses_the_job_and_a_larger_one_goes_on(workspace, servers) -> None:
    # An answer of `near` costs $0.00051, and at most about $0.0042 before it is there.
    write(workspace, servers, generation="budget_usd: 0.01")
    for _ in range(2):
        code, job, _ = workspace.work("calibrate")
        assert (code, job.state, job.error.partition(":")[0]) == (3, "paused", "budget")
        assert "raise `generation.budget_usd`" in job.error
        with workspace.open() as store:
            found = rows(store)
            assert len(jobs.recent(store)) == 1
        assert found["far", "ok"] == CALIBRATED  # free
        assert 0.004 < found["near", "ok"] * 0.00051 <= 0.01
    write(workspace, servers, generation="budget_usd: 1")
    workspace.finish("calibrate")
    with workspace.open() as store:
        (job,) = jobs.recent(store)
        assert rows(store)["near", "ok"] == CALIBRATED
    assert job.state == "done"
    assert sum(len(server.requests) for server in servers[:2]) == CALIBRATED
