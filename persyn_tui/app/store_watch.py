"""Opens the store, then looks for changes in it for as long as the app runs, and has the current screen follow them."""

import asyncio
import os
from typing import TYPE_CHECKING

from textual.app import ScreenStackError
from textual.css.query import NoMatches

from persyn_tui.app.base.machine import Machine
from persyn_tui.app.screens.base import BaseScreen
from persyn_tui.app.state.base_app import BaseApp
from persyn_tui.app.widgets import machine_strip
from storage.errors import PersynError, StoreMissingError

if TYPE_CHECKING:
    # The database's library takes longer to import than everything else: it comes after the first paint.
    from storage.changes import Changes
    from storage.store import Store

SLOW_OPENING_S = 2.0
SLOW_WRITE_S = 0.5
"""Waits that are said."""
FOLLOWED_EVERY_S = 2.0
"""How often the followed job is read though the store has not changed: an engine may have died."""
MACHINE_EVERY_S = 1.0


class StoreWatch:
    """The app's eye on the store at a path or URL; None as in `Store.open`."""

    def __init__(self, app: BaseApp, location: str | None) -> None:
        self._app, self._location = app, location
        self._changes: Changes | None = None
        self._machine = Machine()
        self._trouble = ""
        """What stands between the app and the store, as it was said last."""

    async def open(self) -> bool:
        """Whether the store is open; else the app ends with what was wrong."""
        app = self._app
        opening = asyncio.create_task(asyncio.to_thread(_open, self._location))
        _, late = await asyncio.wait({opening}, timeout=SLOW_OPENING_S)
        if late and isinstance(app.screen, BaseScreen):
            app.screen.still_loading("waiting for the store …\n\nAnother program may hold it.")
        try:
            store, self._changes = await opening
            await app.followed.read(store)
        except PersynError as problem:
            app.exit(return_code=problem.exit_code, message=f"error: {problem}")
            return False
        # Only now: a screen that reads before the job is picked would say that there is none.
        app.store = store
        named = self._location is not None or "PERSYN_STORE" in os.environ
        if store.made and named and isinstance(app.screen, BaseScreen):
            # Its name may be a mistake.
            app.screen.add_to_empty(f"There was no store here, so this one is new:\n{store.name}")
        app.store_name = store.path.name if store.path else store.name
        return True

    async def follow(self) -> None:
        beat, interval = 0, self._app.settings.interval
        while not self._app.leaving:
            try:
                await self._look(
                    followed=beat % max(1, round(FOLLOWED_EVERY_S / interval)) == 0,
                    machine=beat % max(1, round(MACHINE_EVERY_S / interval)) == 0,
                )
            except ScreenStackError:
                return  # the app is being left
            except NoMatches:
                if self._app.is_running:
                    raise
                return
            beat += 1
            await asyncio.sleep(interval)

    async def _look(self, *, followed: bool, machine: bool) -> None:
        """One look. The followed job and the machine are read where asked for; the job also after a change."""
        app = self._app
        assert app.store is not None, "opened before"
        assert self._changes is not None, "opened before"
        try:
            changed = await asyncio.to_thread(self._changes.seen) or bool(self._trouble)
            if changed or followed:
                await app.followed.read(app.store)
            if isinstance(app.screen, BaseScreen):
                await app.screen.follow(changed=changed)
            if machine:
                app.machine.append(await asyncio.to_thread(self._machine.read))
                machine_strip.show(app.screen, app.machine)
            if self._trouble:
                self._trouble = ""
                app.settle("store")
        except PersynError as problem:
            if str(problem) != self._trouble:
                self._trouble = str(problem)
                app.notify(self._trouble, severity="error", about="store")
            if isinstance(problem, StoreMissingError) and isinstance(app.screen, BaseScreen):
                app.screen.fail(self._trouble)
        self._show_wait(app.store)

    def _show_wait(self, store: "Store") -> None:
        """Says that something waits for another program's write, and no longer when it does not."""
        waits = store.waiting_s > SLOW_WRITE_S
        if waits == self._app.waits_for_store:
            return
        self._app.waits_for_store = waits
        if waits:
            self._app.notify("waiting for the store: another program is writing to it", severity="warning")
        if isinstance(self._app.screen, BaseScreen):
            self._app.screen.paint_title()


def _open(location: str | None) -> "tuple[Store, Changes]":
    from storage.changes import Changes
    from storage.store import Store

    store = Store.open(location)
    return store, Changes(store)
