"""The line of keys: what has room, what a click does."""

from pathlib import Path

from app.responses import Made
from app.support import running, until
from textual.binding import Binding

from persyn_tui.app.widgets.confirm import Confirm
from persyn_tui.app.widgets.footer import Keys, Offered


def words(keys: Keys, room: int) -> str:
    return " ".join(f"{one.label} {one.name}" if one else "…" for one in keys.shown(room))


def test_where_there_is_no_room_the_key_that_lists_all_of_them_stays() -> None:
    keys = Keys()
    keys.offered = tuple(
        Offered(label, label, name, action, False, "")
        for label, name, action in (
            ("n", "New", "new"),
            ("x", "Cancel", "cancel"),
            ("?", "Help", "toggle_help"),
            ("q", "Detach", "detach"),
        )
    )
    assert words(keys, 30) == "n New x Cancel ? Help q Detach"
    assert words(keys, 29) == "n New x Cancel ? Help …"
    assert words(keys, 22) == "n New … ? Help"
    for room in range(1, 40):
        assert len(words(keys, room)) <= room
        assert room < 8 or "? Help" in words(keys, room)


async def test_a_click_presses_the_key_under_it(made: Made) -> None:
    async with running(made.store.location, size=(100, 28)) as (app, pilot):
        keys = app.screen.query_one(Keys)
        await until(pilot, lambda: any(one.name == "Help" for one in keys.offered) and keys.size.width > 0)
        column = next(x for x in range(100) if (at := keys.at(x)) is not None and at.name == "Help")
        assert keys.at(99) is None
        await pilot.hover(keys, offset=(column, 0))
        await until(pilot, lambda: keys.styles.pointer == "pointer")
        await pilot.click(keys, offset=(column, 0))
        await until(pilot, lambda: type(app.screen).__name__ == "KeysScreen")


async def test_the_line_follows_what_can_be_done(tmp_path: Path) -> None:
    async with running(str(tmp_path / "s.db")) as (app, pilot):
        keys = app.screen.query_one(Keys)

        def names() -> list[str]:
            return [one.name for one in keys.offered]

        assert "Filter" not in names()
        app.screen._bindings.key_to_bindings["f8"] = [Binding("f8", "reread", "Look again")]
        app.screen.refresh_bindings()
        await until(pilot, lambda: "Look again" in names())


async def test_a_screen_is_left_while_its_keys_change(made: Made) -> None:
    """Other keys once were other widgets: the line waited for the old ones, which the screen was taking away."""
    async with running(made.store.location) as (app, pilot):
        below = app.screen
        for _ in range(5):
            shown = Confirm("a?", "b", "c")
            await app.push_screen(shown)
            below.refresh_bindings()
            shown.refresh_bindings()
            shown.dismiss(None)
            shown.refresh_bindings()
            await until(pilot, lambda shown=shown: app.screen is below and shown not in app.children)
