"""Every screen in each of its four states at two sizes, as the characters on the screen.

`PERSYN_UPDATE_SNAPSHOTS=1` writes `snapshots/` anew: read what has changed before it is committed.
"""

import asyncio
import difflib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from app import full_store
from app.support import stands, until
from sqlalchemy import text
from textual.pilot import Pilot

from persyn_tui.app import store_watch
from persyn_tui.app.app import PersynApp
from persyn_tui.app.base.settings import Settings
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.state import context_cache
from storage.job_records import Lease
from storage.store import Store

FOLDER = Path(__file__).with_name("snapshots")
UPDATE = bool(os.environ.get("PERSYN_UPDATE_SNAPSHOTS"))
SIZES = ((80, 24), (140, 40))
PATIENCE_S = 10.0
STILL_S = 1.5
"""How long a screen must not have changed before it is written as a snapshot."""
MODES = tuple(PersynApp.MODES)
GONE = {
    "jobs": "events",
    "models": "models",
    "router": "plans",
    "generation": "responses",
    "data": "responses",
    "distil": "metrics",
    "logs": "events",
}
"""The table that each screen cannot do without."""


class StillMachine:
    """The same load at every reading."""

    def read(self) -> object:
        return full_store.READINGS[-1]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder; clock, machine and paths are those of nowhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store_watch, "Machine", StillMachine)
    monkeypatch.setattr(Store, "name", property(lambda store: "/home/ada/persyn.db"))
    monkeypatch.setattr(
        "persyn_tui.app.screens.logs.screen.settings_path",
        lambda: Path("/home/ada/.config/persyn/settings.json"),
    )
    facts = [("python", "3.11.9"), ("system", "Linux 6.8.0"), ("textual", "8.2.8"), ("connection", "ssh")]
    monkeypatch.setattr("persyn_tui.app.base.bug_report.machine", lambda: facts)
    context_cache._known.clear()
    yield tmp_path
    context_cache._known.clear()
    monkeypatch.undo()
    time.tzset()


def picture(app: PersynApp) -> str:
    """The characters on the screen."""
    strips = app.screen._compositor.render_strips()
    shown = "\n".join(strip.text.rstrip() for strip in strips) + "\n"
    return re.sub(r"\(\d+\.\d MB\)", "(0.0 MB)", shown)


async def compare(app: PersynApp, pilot: Pilot[None], mode: str, state: str) -> str:
    """The difference between the screen and its snapshot, once it has come to rest; empty where there is none."""
    number = MODES.index(mode) + 1
    await until(
        pilot,
        lambda: (
            isinstance(app.screen, BaseScreen) and number == app.screen.NUMBER and app.screen.state == state
        ),
    )
    return await compare_with(app, pilot, f"{mode}-{'error' if state == 'failure' else state}")


async def compare_with(app: PersynApp, pilot: Pilot[None], name: str) -> str:
    """The difference between what is shown and the snapshot of this name at this size; empty where there is none."""
    width, height = app.size
    file = FOLDER / f"{name}-{width}x{height}.txt"
    clock = asyncio.get_running_loop().time
    seen, since = picture(app), clock()
    expected = None if UPDATE or not file.exists() else file.read_text(encoding="utf-8")
    end = since + PATIENCE_S
    while seen != expected and clock() < end and not (UPDATE and clock() - since > STILL_S):
        await pilot.pause(0.02)
        if (now := picture(app)) != seen:
            seen, since = now, clock()
    if UPDATE:
        file.write_text(seen, encoding="utf-8")
        return ""
    if expected is None:
        return f"{file.name} is missing: PERSYN_UPDATE_SNAPSHOTS=1 writes it"
    lines = difflib.unified_diff(
        expected.splitlines(), seen.splitlines(), file.name, "the screen", lineterm=""
    )
    return "\n".join(lines)


async def walk(
    location: Path, size: tuple[int, int], state: str, before: Callable[[str], None] = lambda mode: None
) -> None:
    """Goes through all screens in one app and compares each; `before` is called ahead of going to a screen."""
    before(MODES[0])
    app = PersynApp(str(location), settings=Settings(interval=0.1))
    if state != "loading":
        app.machine.extend(full_store.READINGS)
    async with app.run_test(size=size) as pilot:
        found = []
        for number, mode in enumerate(MODES, start=1):
            if number > 1:
                await asyncio.to_thread(before, mode)
                await pilot.press(str(number))
            found.append(await compare(app, pilot, mode, state))
        assert "\n\n".join(filter(None, found)) == ""


@pytest.mark.parametrize("size", SIZES)
async def test_loading(place: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    held, opened = threading.Event(), store_watch._open
    monkeypatch.setattr(store_watch, "_open", lambda location: held.wait(60) and opened(location))
    monkeypatch.setattr(store_watch, "SLOW_OPENING_S", 60.0)
    try:
        await walk(place / "persyn.db", size, "loading")
    finally:
        held.set()


@pytest.mark.parametrize("size", SIZES)
async def test_empty(place: Path, size: tuple[int, int]) -> None:
    Store.open(place / "persyn.db").close()  # else the first screen says that it is new, and where
    await walk(place / "persyn.db", size, "empty")


@contextmanager
def copied(filled: tuple[Path, Lease], place: Path) -> Iterator[Store]:
    shutil.copy(filled[0], place / "persyn.db")
    with Store.open(place / "persyn.db") as store:
        yield store


@pytest.mark.parametrize("size", SIZES)
async def test_error(filled: tuple[Path, Lease], place: Path, size: tuple[int, int]) -> None:
    gone: list[str] = []
    with copied(filled, place) as store:

        def take_away(mode: str) -> None:
            with store.write() as connection:
                while gone:
                    table = gone.pop()
                    connection.execute(text(f"ALTER TABLE {table}_gone RENAME TO {table}"))
                gone.append(GONE[mode])
                connection.execute(text(f"ALTER TABLE {GONE[mode]} RENAME TO {GONE[mode]}_gone"))

        await walk(place / "persyn.db", size, "failure", take_away)


@pytest.mark.parametrize("size", SIZES)
async def test_full(filled: tuple[Path, Lease], place: Path, size: tuple[int, int]) -> None:
    with copied(filled, place) as store:
        await walk(
            place / "persyn.db", size, "full", lambda mode: full_store.put_stage(store, filled[1], mode)
        )


DIALOGS = {
    "help": ("jobs", "question_mark"),
    "confirm": ("jobs", "x"),
    "wizard": ("jobs", "n"),
    "model": ("models", "a"),
    "export": ("data", "e"),
    "filter": ("data", "f"),
    "sort": ("data", "o"),
}
"""Dialog → (screen, the key that opens it there)."""


@pytest.mark.parametrize("name", DIALOGS)
async def test_dialogs(
    filled: tuple[Path, Lease], place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode, key = DIALOGS[name]
    monkeypatch.setattr(Path, "cwd", lambda: Path("/"))
    with copied(filled, place):
        app = PersynApp(str(place / "persyn.db"), settings=Settings(interval=0.1), start=mode)
        app.machine.extend(full_store.READINGS)
        async with app.run_test(size=SIZES[0]) as pilot:
            await until(pilot, lambda: stands(app) and app.screen.state == "full")
            under = picture(app)
            await pilot.press(key)
            await until(pilot, lambda: picture(app) != under and picture(app).strip() != "")
            assert await compare_with(app, pilot, f"dialog-{name}") == ""
