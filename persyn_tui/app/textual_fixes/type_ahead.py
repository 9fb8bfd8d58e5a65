"""Keys typed ahead wait for what the key before them opens.

Textual 8.2 passes a key to the widget that has the focus when it arrives (as in
github.com/Textualize/textual/issues/4704). On a busy machine several keys arrive before the first of them has opened
its dialog or its line: they would go to the list behind it, where a letter of a word is a command. Here a key is passed
on once the one before it has been handled, and the screen that it is for can hear it. Keys keep their order. Once
`PATIENCE_S` have gone by in which none could be passed on, they are passed on to what is there. Can go once Textual
holds keys back while a screen is being pushed: `tests/app/test_type_ahead.py`.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from textual.app import App, ScreenStackError
from textual.dom import DOMNode
from textual.events import Key
from textual.screen import Screen

PATIENCE_S = 2.0
"""How long keys wait: for a key that is not handled, for a dialog that takes no focus."""
LOOKS_S = 0.02
STEP_S = 0.1
"""What one look takes of that at most: while the loop stands still, what keys wait for cannot come either."""


class TypeAhead:
    """The keys that have arrived for an app; `deliver` passes one to the widget with the focus."""

    def __init__(self, app: App[Any], deliver: Callable[[Key], Awaitable[None]]) -> None:
        self._app, self._deliver = app, deliver
        self._keys: deque[Key] = deque()
        self._spent = 0.0
        """Seconds waited since a key could be passed on last."""
        self._looked = 0.0
        self._going = False
        """Whether keys are being passed on: a timer and a message may ask for it at the same time."""
        self._passing: tuple[Key, float] | None = None
        """The key that is on its way, and since when."""
        self._opening = set[tuple[Screen[Any], float]]()
        """Screens that are about to show something else, and since when."""
        self._looking = False
        self._top: tuple[Screen[Any], float] | None = None
        """The screen that was on top when a key came last, and since when."""
        self._deaf: tuple[Screen[Any], float] | None = None
        """The dialog that has no focus yet, and since when."""

    async def take(self, key: Key) -> None:
        if not self._keys:
            self._spent = 0.0
        self._keys.append(key)
        await self._go_on()

    def hold(self) -> Callable[[], None]:
        """Keys wait for what the last one has asked of this screen, until what this returns is called."""
        began = self._app.screen, time.monotonic()
        self._opening.add(began)
        return lambda: self._opening.discard(began)

    async def _go_on(self) -> None:
        if self._going:
            return
        self._going = True
        try:
            while self._keys and self._may_pass():
                key, app = self._keys.popleft(), self._app
                target: DOMNode = app.focused or app.screen
                self._passing = key, time.monotonic()
                await self._deliver(key)
                self._passed(key, target)
        finally:
            self._going = False

    def _may_pass(self) -> bool:
        """Whether the next key can be heard, or has waited long enough; else looks again later."""
        if self._hears():
            self._spent = 0.0
            return True
        if self._spent >= PATIENCE_S:
            return True
        if not self._looking:
            self._looking, self._looked = True, time.monotonic()
            self._app.set_timer(LOOKS_S, self._look)
        return False

    def _shown_at(self, screen: Screen[Any]) -> float:
        """Since when this screen has been on top, as far as keys came for it."""
        if self._top is None or self._top[0] is not screen:
            self._top = screen, time.monotonic()
        return self._top[1]

    async def _look(self) -> None:
        self._looking = False
        try:
            self._app.screen  # noqa: B018 — none is left while the app ends
        except ScreenStackError:
            return
        self._spent += min(STEP_S, time.monotonic() - self._looked)
        await self._go_on()

    def _hears(self) -> bool:
        """Whether the key before is handled, the screen on top is there, and a dialog has its focus."""
        app = self._app
        screen, clock = app.screen, time.monotonic()
        # A widget that is taken away handles nothing.
        if self._passing is not None and clock - self._passing[1] < PATIENCE_S:
            return False
        self._opening = {one for one in self._opening if clock - one[1] < PATIENCE_S}
        if not screen.is_mounted or any(which is screen for which, _ in self._opening):
            return False
        # A screen that has read nothing yet would drop what is meant for its rows.
        if getattr(screen, "state", "") == "loading" and clock - self._shown_at(screen) < PATIENCE_S:
            return False
        # Where a screen has nothing to show, nothing takes the focus: its own keys are heard.
        bare = getattr(screen, "state", "") in ("empty", "failure")
        if len(app.screen_stack) == 1 or screen.focused is not None or bare:
            self._deaf = None
            return True
        if self._deaf is None or self._deaf[0] is not screen:
            self._deaf = screen, clock
        return clock - self._deaf[1] > PATIENCE_S

    def _passed(self, key: Key, node: DOMNode | None) -> None:
        """Follows a key from the widget up to the app: each has handled it when it comes to this."""
        if node is None or node is self._app or not node.call_later(self._passed, key, node.parent):
            # Once more round the app: the focus that it has moved is moved there.
            self._app.call_later(self._app.call_later, self._handled, key)

    async def _handled(self, key: Key) -> None:
        if self._passing is not None and key is self._passing[0]:
            self._passing = None
            await self._go_on()
