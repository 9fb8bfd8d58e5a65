"""Driving the app in tests: every helper waits for a condition, none for a time."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual._context import active_app
from textual.app import App
from textual.events import Key
from textual.keys import _character_to_key
from textual.pilot import Pilot

from persyn_tui.app.app import PersynApp
from persyn_tui.app.base.settings import Settings
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.widgets.form_fields import Form
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage.records import Status

PATIENCE_S = 30.0
FINISH: dict[Status, str] = {
    **{"ok": "stop", "empty": "stop", "truncated": "length", "refused": "content_filter"},
    **{"too_long": "too_long", "error": "error"},
}
"""Status of a response → the finish reason that it is stored with."""


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
    if not isinstance(screen, BaseScreen) or screen.state == "loading":
        return False
    if screen._layout_required:
        return False
    shown = screen.query_one(f"#{screen.state}")
    return all(sheet.size.width > 0 for sheet in shown.query(VirtualTable) if sheet.display)


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Returns once `true` holds; fails after `PATIENCE_S`."""
    clock = asyncio.get_running_loop().time
    end = clock() + PATIENCE_S
    while not true():
        if clock() > end:
            raise AssertionError("the condition did not come to hold")
        await pilot.pause(0.02)


LASTING = "live"
"""The group of the worker that runs as long as the app."""
IDLE_S = 0.02
IDLE_SHARE = 0.05
LOOKS = 5


def answered(app: App[Any]) -> bool:
    """Whether no key is under way or waits for what it is meant for."""
    return not isinstance(app, PersynApp) or not (app.ahead._keys or app.ahead._passing)


def settled(app: App[Any]) -> bool:
    """Whether nothing is under way: no key, no message, no work, nothing to be laid out or painted."""
    if not app.screen_stack or not answered(app):
        return False
    if any(not worker.is_finished and worker.group != LASTING for worker in app.workers):
        return False
    for pump in (app, *app._registry):
        if not pump._running or pump._closing:
            continue
        ready = pump._message_queue.ready_event
        if ready.is_set() or not ready._waiters or pump._next_callbacks:
            return False
    screen = app.screen
    if screen._layout_required or screen._dirty_widgets or screen._callbacks:
        screen._on_timer_update()  # as `Pilot.pause`: else at the next sixtieth of a second
        return False
    return True


async def settle(min_sleep: float = IDLE_S, max_sleep: float = 1.0) -> None:
    """Textual's `wait_for_idle`, which sleeps 20 ms and more at a key, ended at once where nothing is under way.

    Work that waits for something else, as a thread that a test holds, ends it as there: by an idle processor.
    """
    app, clock, computed = active_app.get(), time.monotonic, time.process_time
    end = clock() + max_sleep
    while clock() < end:
        for _ in range(LOOKS):
            await asyncio.sleep(0)
            if settled(app):
                return
        began, before, own = clock(), computed(), 0.0
        while clock() - began < IDLE_S:
            await asyncio.sleep(IDLE_S / LOOKS)
            since = computed()
            if settled(app):
                return
            own += computed() - since
        if computed() - before - own < IDLE_SHARE * (clock() - began):
            return


async def put(pilot: Pilot[None], form: Form, key: str, text: str) -> None:
    """Goes to a field of a form, empties it and types into it, faster than anything is painted."""
    form[key].control.focus()
    await until(pilot, lambda: form.at is form[key])
    burst(pilot.app, "end", "ctrl+u", *text)
    await pilot.pause()
    await until(pilot, lambda: answered(pilot.app))
    await pilot.pause()


def burst(app: App[Any], *keys: str) -> None:
    """All of them at once, as a terminal that was not read for a while gives them."""
    for key in keys:
        single = len(key) == 1
        name = _character_to_key(key) if single and not key.isalnum() else key
        app.post_message(Key(name, key if single else None))
