"""The sheet: what is shown of columns and cells."""

import pytest
from app.support import until
from textual.app import App, ComposeResult

from persyn_tui.app.base.colours import readable
from persyn_tui.app.widgets.virtual_table import Cell, Column, Listed, VirtualTable, cut, fit


class Coloured(App[None]):
    """An app with nothing of ours but the colours."""

    def get_css_variables(self) -> dict[str, str]:
        theme = super().get_css_variables()
        return {**theme, **readable(theme)}


COLUMNS = (Column("id", 5, right=True), Column("prompt"), Column("tok", 6, drop=1), Column("cost", 6, drop=2))


def test_columns_leave_by_priority_and_the_flexible_one_takes_the_rest() -> None:
    assert fit(COLUMNS, 60) == [(0, 5), (1, 40), (2, 6), (3, 6)]
    assert fit(COLUMNS, 30) == [(0, 5), (1, 17), (2, 6)]
    assert fit(COLUMNS, 20) == [(0, 5), (1, 14)]
    assert fit(COLUMNS, 3)[1] == (1, 1)


def test_flexible_columns_share_the_rest_and_one_of_them_may_leave() -> None:
    columns = (Column("prompt"), Column("response", drop=3), Column("tok", 6, drop=1))
    assert fit(columns, 80) == [(0, 36), (1, 36), (2, 6)]
    assert fit(columns, 81) == [(0, 37), (1, 36), (2, 6)]
    assert fit(columns, 31) == [(0, 24), (2, 6)]


@pytest.mark.parametrize(
    ("text", "width", "right", "shown"),
    [
        ("abc", 5, False, "abc  "),
        ("abc", 5, True, "  abc"),
        ("abcdef", 5, False, "abcd…"),
        ("日本語です", 5, False, "日本…"),
        ("a\nb\tc", 6, False, "a⏎b c "),
        ("\x1b[31mred", 8, False, "�[31mred"),
        ("", 3, False, "   "),
    ],
)
def test_a_cell_is_one_harmless_line_of_its_width(text: str, width: int, right: bool, shown: str) -> None:
    assert cut(text, width, right=right) == shown


async def test_a_marked_row_is_told_without_colour() -> None:
    rows = [(n, [str(n), f"row {n}"]) for n in range(3)]
    sheet = VirtualTable((Column("id", 4, right=True), Column("text")), id="rows", markable=True)

    class Shown(Coloured):
        def compose(self) -> ComposeResult:
            yield sheet

    async with Shown().run_test(size=(40, 10)) as pilot:
        sheet.update(Listed(rows))
        sheet.focus()
        await pilot.press("space")
        await until(pilot, lambda: sheet.marked == {0})
        assert [sheet.render_line(y).text.rstrip() for y in (1, 2)] == ["   0✓row 0", "   1 row 1"]


async def test_a_list_of_the_newest_stays_at_the_newest_until_the_cursor_leaves_it() -> None:
    def rows(newest: int) -> Listed:
        return Listed([(n, [str(n), f"row {n}"]) for n in range(newest, 0, -1)])

    sheet = VirtualTable((Column("id", 4, right=True), Column("text")), rows(30), newest_first=True)

    class Shown(Coloured):
        def compose(self) -> ComposeResult:
            yield sheet

    async with Shown().run_test(size=(40, 10)) as pilot:
        sheet.update(rows(40))
        await pilot.pause()
        assert (sheet.key, sheet.window[0]) == (40, 0)
        await pilot.press("down")
        sheet.update(rows(50))
        await pilot.pause()
        assert sheet.key == 39
        await pilot.press("g")
        sheet.update(rows(51))
        await pilot.pause()
        assert (sheet.key, sheet.window[0]) == (51, 0)


async def test_a_moved_cursor_paints_two_lines_anew_and_a_scrolled_list_only_what_has_come() -> None:
    sheet = VirtualTable((Column("id", 4, right=True), Column("text")), id="rows")
    shown: list[int] = []
    painted: list[str] = []
    show, paint = sheet.render_line, sheet._painted

    class Shown(Coloured):
        def compose(self) -> ComposeResult:
            yield sheet

    async with Shown().run_test(size=(40, 10)) as pilot:
        sheet.update(Listed([(n, [str(n), f"row {n}"]) for n in range(30)]))
        sheet.focus()
        await pilot.pause()
        sheet.render_line = lambda y: (shown.append(y), show(y))[1]  # type: ignore[method-assign]
        sheet._painted = lambda cells, *rest: (painted.append(str(cells[1])), paint(cells, *rest))[1]  # type: ignore[method-assign]
        await pilot.press("j")
        await until(pilot, lambda: sorted(shown) == [1, 2])
        await pilot.press(*"jjjjjjj")
        await pilot.pause()
        painted.clear()
        await pilot.press("j")
        await until(pilot, lambda: sheet.window[0] == 1)
        await pilot.pause()
        assert set(painted) <= {"row 8", "row 9"}
        assert [sheet.render_line(y).text.strip() for y in (1, 9)] == ["1 row 1", "9 row 9"]


async def test_another_theme_paints_every_line_in_its_colours() -> None:
    sheet = VirtualTable(
        (Column("id", 4), Column("text")), Listed([(1, ["1", Cell("x", "good")])]), id="rows"
    )

    class Shown(Coloured):
        def compose(self) -> ComposeResult:
            yield sheet

    def colours() -> set[object]:
        return {segment.style.color for segment in sheet.render_line(1) if segment.style}

    async with Shown().run_test(size=(40, 10)) as pilot:
        dark = colours()
        pilot.app.theme = "textual-light"
        await until(pilot, lambda: not colours() & dark)
