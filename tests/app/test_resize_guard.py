"""Sizes of the terminal that come faster than a screen can be laid out for them."""

import pytest
from app.responses import Made
from app.support import running, settled, until
from textual.events import Resize
from textual.geometry import Size

from persyn_tui.app.screens.wizard.screen import Wizard
from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.palette import Palette

MODES = ("data", "models", "logs")


@pytest.mark.parametrize(
    "above",
    [None, lambda: Confirm("a?", "b", "c"), lambda: Palette([]), Wizard],
    ids=["a screen", "question", "palette", "dialog"],
)
async def test_two_sizes_under_way_do_not_take_turns_for_ever(made: Made, above) -> None:
    async with running(made.store.location, size=(100, 28)) as (app, pilot):
        for mode in MODES:  # those behind are laid out too
            app.switch_mode(mode)
            await until(pilot, lambda mode=mode: app.current_mode == mode and settled(app))
        if above is not None:
            await app.push_screen(above())
        for screen in [app.screen, *app._background_screens]:
            for size in (Size(60, 20), Size(140, 40)) * 3:
                screen.post_message(Resize(size, size))
                screen.call_later(lambda: None)  # sizes that follow each other at once would become one
        await until(pilot, lambda: settled(app))
        assert app.screen.size == Size(100, 28) == app.size
