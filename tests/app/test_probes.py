"""Screen 2: models are asked for one real token, and what comes in its place is said."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from app.stored_models import form, open_store, row, said, sheet, teacher
from app.support import running, until
from teachers.endpoint import Endpoint, Reply, answer

from engine.registry import candidates
from persyn_tui.app.app import PersynApp
from storage import registry
from storage.records import Model
from storage.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return open_store(tmp_path, monkeypatch)


def far(store: Store, name: str, url: str, **more: str) -> Model:
    return registry.put(
        store, Model(name, "teacher", "openai", "m", options={"base_url": url, **more}), f"sha-{name}"
    )


def health(app: PersynApp, name: str) -> str:
    lines = [row(app, y) for y in range(1, len(sheet(app).rows) + 1)]
    return next(line for line in lines if f" {name} " in line)


def _ended(pid: int) -> bool:
    """Whether the process is gone, or only waits for its parent to read its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_probe_shows_a_real_token_and_the_template_as_plain_text(store: Store) -> None:
    model = teacher(store, system="[b]Be\x1b[2J brief.[/b]")
    async with running(store.location, mode="models") as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: "esc stops it" in said(app, "#token"))
        await until(pilot, lambda: "what the model was given" in said(app, "#token"))
        text = said(app, "#token")
        assert "[b]Be" in text
        assert "What is 2 + 3?" in text
        assert "\x1b" not in text
        assert "✓" in row(app)
        assert "ms" in row(app)
        assert model.id is not None


async def test_a_probe_that_cannot_work_says_why(store: Store, tmp_path: Path) -> None:
    registry.put(store, Model("gone", "teacher", "transformers", str(tmp_path / "gone")), "x")
    async with running(store.location, mode="models") as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: "✗ failed" in row(app))
        assert "does not exist" in said(app, "#token")
        assert "t tries again" in said(app, "#token")


async def test_escape_ends_the_process_of_a_probe_and_leaving_does_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[asyncio.subprocess.Process] = []
    real = asyncio.create_subprocess_exec

    async def start(*line: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await real(*line, **options)
        started.append(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    teacher(store)
    async with running(store.location, mode="models") as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: len(started) == 1)
        await pilot.press("escape")
        await until(pilot, lambda: "not probed" in row(app))
        await pilot.press("t")
        await until(pilot, lambda: len(started) == 2)
    end = asyncio.get_running_loop().time() + 10
    while not all(_ended(process.pid) for process in started):
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.02)


async def test_an_endpoint_that_hangs_holds_no_other_up(store: Store) -> None:
    hold = threading.Event()
    slow = Endpoint(lambda body, number: Reply(hold=hold))
    try:
        with slow, Endpoint() as quick:
            far(store, "quick", quick.url)
            far(store, "slow", slow.url)
            async with running(store.location, mode="models") as (app, pilot):
                await until(pilot, lambda: len(sheet(app).rows) == 2)
                assert "t asks the endpoint for one real token" in said(app, "#token")
                await pilot.press("j", "t")
                await until(pilot, lambda: "asked for one token" in said(app, "#token"))
                assert "loading" not in said(app, "#token")
                assert "60 s" in said(app, "#token")
                await pilot.press("k", "t")
                await until(pilot, lambda: "✓" in health(app, "quick"))
                assert "loaded in" not in said(app, "#token")
                await until(pilot, lambda: slow.in_flight == 1)
                assert "✓" not in health(app, "slow")
                await pilot.press("j", "escape")
                await until(pilot, lambda: "not probed" in health(app, "slow"))
    finally:
        hold.set()


async def test_local_models_are_probed_in_turn_and_the_waiting_one_says_for_whom(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, release = list[str](), asyncio.Event()

    async def ask(store: Store, tool: str, positional: list[str], options: list[str]) -> dict[str, Any]:
        asked.extend(positional)
        await release.wait()
        return {"token": "5", "latency_s": 0.1, "load_s": 1.0, "rendered": "x", "finish_reason": "length"}

    monkeypatch.setattr("persyn_tui.app.state.engine_process.ask", ask)
    models = [teacher(store, name) for name in ("a1", "b2", "c3")]
    far(store, "d4", "http://127.0.0.1:9/v1")
    async with running(store.location, mode="models") as (app, pilot):
        await until(pilot, lambda: len(sheet(app).rows) == 4)
        await pilot.press("t", "j", "t")
        await until(pilot, lambda: "waits for the probe of a1" in said(app, "#token"))
        assert "waits" in health(app, "b2")
        await pilot.press("j", "t")
        await until(pilot, lambda: "waits for the probe of a1" in said(app, "#token"))
        await pilot.press("j", "t")
        await until(pilot, lambda: len(asked) == 2)
        await pilot.press("k", "escape")
        await until(pilot, lambda: "not probed" in health(app, "c3"))
        await pilot.press("k", "k", "escape")
        await until(pilot, lambda: "not probed" in health(app, "a1"))
        await until(pilot, lambda: len(asked) == 3)
        await pilot.press("j")
        await until(pilot, lambda: "loading the model" in said(app, "#token"))
        release.set()
        await until(pilot, lambda: "✓" in health(app, "b2") and "✓" in health(app, "d4"))
        assert asked[0] == str(models[0].id)
        assert asked[2] == str(models[1].id)


async def test_a_key_that_is_not_set_needs_another_start(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    far(store, "keyed", "http://127.0.0.1:9/v1", api_key_env="MY_KEY")
    async with running(store.location, mode="models") as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: "✗ failed" in row(app))
        text = said(app, "#token")
        assert "MY_KEY is not set" in text
        assert "start persyn again" in text
        assert "before the run" not in text
        assert "t tries again" not in text
        shown = await form(app, pilot, "e")
        await until(pilot, lambda: "start persyn again" in shown.form["api_key_env"].said)
    assert (
        "start persyn again"
        in next(one for one in candidates.candidates(store)[0] if one.name == "keyed").trouble
    )


async def test_what_an_endpoint_sent_in_place_of_a_token_is_told(store: Store) -> None:
    with Endpoint(lambda body, number: answer("", "content_filter")) as filtered:
        far(store, "filtered", filtered.url)
        async with running(store.location, mode="models") as (app, pilot):
            await pilot.press("t")
            await until(pilot, lambda: "✗ failed" in row(app))
            assert "content filter refused the response" in said(app, "#token")
