"""Driving the app in tests: every helper waits for a condition, none for a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from persyn_tui.app.app import PersynApp
from persyn_tui.app.frame import View
from persyn_tui.app.settings import Settings
from persyn_tui.app.sheet import Sheet

PATIENCE_S = 30.0


@asynccontextmanager
async def running(
    location: str, *, mode: str = "jobs", size: tuple[int, int] = (100, 28), notifications: bool = False
) -> AsyncIterator[tuple[PersynApp, Pilot[None]]]:
    """The app on a store, once its first screen has read."""
    app = PersynApp(location, settings=Settings(interval=0.1), start=mode)
    async with app.run_test(size=size, notifications=notifications) as pilot:
        await until(pilot, lambda: stands(app))
        yield app, pilot


def stands(app: PersynApp) -> bool:
    """Whether the screen has read, and what it shows has its place."""
    screen = app.screen
    if not isinstance(screen, View) or screen.state == "loading":
        return False
    if screen._layout_required:
        return False
    shown = screen.query_one(f"#{screen.state}")
    return all(sheet.size.width > 0 for sheet in shown.query(Sheet) if sheet.display)


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Returns once `true` holds; fails after `PATIENCE_S`."""
    clock = asyncio.get_running_loop().time
    end = clock() + PATIENCE_S
    while not true():
        if clock() > end:
            raise AssertionError("the condition did not come to hold")
        await pilot.pause(0.02)
