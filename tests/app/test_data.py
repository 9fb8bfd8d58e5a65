"""Screen 5: millions of rows lazily, filters, order, search."""

from array import array
from pathlib import Path

import pytest
from app.responses import Made, come, line, opened, screen, sheet, shown, title
from app.support import running, until
from textual.widgets import Input, Static

from persyn_tui.app.screens.data.filter_form import FilterForm
from persyn_tui.app.screens.data.pages import KEPT, Pages
from persyn_tui.app.screens.data.response_table import ResponseTable
from persyn_tui.app.screens.data.responses_panel import ResponseColumn
from persyn_tui.app.screens.data.screen import DataScreen
from persyn_tui.app.screens.data.sort_menu import SortMenu
from storage import listing, prompts, responses, scores
from storage.records import NewResponse, Prompt, Response, Score


async def test_every_answer_is_listed_newest_first_with_its_scores(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        assert shown(app) == list(range(16, 0, -1))
        newest = ["16", "question", "3", "quick", "103", "stop", "0.00", "−1.60", "–"]
        await until(pilot, lambda: line(app, 0).split() == newest)
        assert line(app, 3).split()[4:] == ["100", "truncated", "–", "–", "–"]
        assert line(app, 5).split()[-3:] == ["+1.00", "persyn", "+1"]
        await until(pilot, lambda: "16 responses" in title(app))


async def test_prompts_that_begin_alike_show_what_differs_and_are_found_by_their_words(made: Made) -> None:
    opened_set = prompts.open_set(made.store, "alike", "alike")
    task = "State the final answer to the following arithmetic problem: "
    asked = [
        Prompt(({"role": "user", "content": f"{task}{n} + {n} ="},), split="synthesis") for n in (41, 52)
    ]
    prompts.add(made.store, None, opened_set.id, asked, 0)
    for number in (prompt.id or 0 for _, prompt in prompts.page(made.store, opened_set.id)):
        done = Response(number, "sum", "ok", "stop", 5, 7, 0.25)
        responses.add(made.store, None, [NewResponse(number, made.teachers[0], "sha0", done, cost=0.0)])
    async with running(opened(made), mode="data", size=(80, 24)) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 18)
        await until(pilot, lambda: " 52 + 52 =" in line(app, 0) and " 41 + 41 =" in line(app, 1))
        assert "question 3" in line(app, 2)
        await pilot.press("slash", *"arithmetic 52", "enter")
        await come(app, pilot, lambda: shown(app) == [18])
        assert "State the final" in line(app, 0), "alone it is shown from its beginning"


async def test_esc_clears_messages(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        app.notify("something", timeout=60)
        await until(pilot, lambda: len(app.messages) == 1)
        await pilot.press("escape")
        await until(pilot, lambda: len(app.messages) == 0)


async def test_nothing_stored_says_the_next_step(tmp_path: Path) -> None:
    async with running(str(tmp_path / "empty.db"), mode="data") as (app, pilot):
        assert screen(app).state == "empty"
        for key in ("slash", "f", "o", "e", "x", "u", "y", "r", "p", "p", "escape", "enter"):
            await pilot.press(key)
        assert screen(app).state == "empty"
        assert isinstance(app.screen, DataScreen)


@pytest.mark.parametrize(
    ("size", "hidden"),
    [((80, 24), "hidden: response, tok, set"), ((100, 28), "hidden: response"), ((140, 40), "")],
)
async def test_what_the_width_leaves_out_is_named(made: Made, size: tuple[int, int], hidden: str) -> None:
    async with running(opened(made), mode="data", size=size) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await until(pilot, lambda: title(app).partition("hidden: ")[2] == hidden.partition(": ")[2])
        needed = ("quality", "learn.", "reward", "finish", "id▼")
        await until(pilot, lambda: all(name in line(app, -1) for name in needed))
        await pilot.press("enter")
        await until(pilot, lambda: len(screen(app).query(ResponseColumn)) == 2)
        assert sheet(app).display == (size[1] > 24), "on a low screen the answers stand alone"
        assert app.screen.query_one("#machine").region.height == 1
        assert app.screen.query_one("Keys").region.bottom == size[1]
        await pilot.press("escape")
        await until(pilot, lambda: sheet(app).has_focus)


async def test_the_filter_completes_checks_and_is_cleared(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("f", *"qui")
        form = app.screen
        assert isinstance(form, FilterForm)
        await pilot.press("enter")
        assert app.screen is form, "a name that is not stored filters nothing"
        await until(pilot, lambda: app.focused is not None and app.focused._suggestion == "quick")  # type: ignore[attr-defined]
        await pilot.press("tab", "down", "down", "down", "down", "down", *"-1.45", "enter")
        await come(app, pilot, lambda: shown(app) == [14])
        assert "teacher quick · learnability ≥ -1.45" in str(screen(app).query_one("#query", Static).render())
        await pilot.press("escape")
        await come(app, pilot, lambda: len(shown(app)) == 16)


async def test_a_filter_that_nothing_passes_says_how_to_go_on(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        screen(app).list_responses(listing.Listing(teacher="quick", status="refused"))
        await until(pilot, lambda: screen(app).has_class("none"))
        assert "esc clears" in str(screen(app).query_one("#nothing", Static).render())
        await pilot.press("escape")
        await come(app, pilot, lambda: len(shown(app)) == 16 and not screen(app).has_class("none"))


async def test_sorting_in_both_directions_keeps_the_filter(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        screen(app).list_responses(listing.Listing(teacher="quick"))
        await come(app, pilot, lambda: len(shown(app)) == 4)
        await pilot.press("o", "j", "enter")
        await come(app, pilot, lambda: shown(app) == [16, 15, 14, 13])
        assert "tok▼" in line(app, -1)
        await pilot.press("o")
        assert isinstance(app.screen, SortMenu)
        await pilot.press("left", "enter")
        await come(app, pilot, lambda: shown(app) == [13, 14, 15, 16])
        assert "tok▲" in line(app, -1)
        await pilot.press("o", "escape")
        assert shown(app) == [13, 14, 15, 16]
        await pilot.click("#rows", offset=(7, 0))  # the title of the ids
        await come(app, pilot, lambda: shown(app) == [16, 15, 14, 13] and "id▼" in line(app, -1))
        await pilot.click("#rows", offset=(7, 0))
        await come(app, pilot, lambda: shown(app) == [13, 14, 15, 16] and "id▲" in line(app, -1))


async def test_search_indexes_first_and_finds_whole_words(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("slash", *"irrational", "enter")
        await come(app, pilot, lambda: shown(app) == [6])
        assert 'q:"irrational"' in str(screen(app).query_one("#query", Static).render())
        await until(pilot, lambda: sheet(app).has_focus)
        await pilot.press("slash")
        assert screen(app).query_one("#search", Input).value == "irrational"
        await pilot.press("escape")
        assert not screen(app).query_one("#search").display
        await pilot.press("escape")
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("slash", *'"* OR', "enter")
        await come(app, pilot, lambda: shown(app) == [])


async def test_new_answers_come_in_above_and_the_cursor_stays(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("j", "j")
        made.answer(5, 1, "new")
        await come(app, pilot, lambda: shown(app)[:2] == [17, 16])
        assert sheet(app).key == 14
        assert sheet(app).place == 3
        made.answer(6, 1, "newer")
        await come(app, pilot, lambda: shown(app)[:3] == [18, 17, 16])
        assert sheet(app).rows.find(17) == 1


async def test_frozen_rows_stay_and_new_ones_are_counted(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("p")
        made.answer(5, 1, "new")
        made.answer(6, 1, "new")
        await until(pilot, lambda: "2 new rows" in title(app))
        assert len(shown(app)) == 16
        await pilot.press("p")
        await come(app, pilot, lambda: len(shown(app)) == 18)
        assert "new rows" not in title(app)


async def test_a_sorted_list_takes_new_scores_in_when_it_is_read_again(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        screen(app).list_responses(listing.Listing(sort="learnability"))
        await come(app, pilot, lambda: shown(app)[:2] == [1, 2])
        scores.add(made.store, None, 2, [(13, Score(-0.01))])
        await pilot.press("r")
        await come(app, pilot, lambda: shown(app)[:2] == [13, 1])
        assert sheet(app).key == 1, "the cursor stays on its row"


async def test_a_failing_store_is_told_and_the_screen_goes_on(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        screen(app).list_responses(listing.Listing(words=" "))
        await until(pilot, lambda: any("nothing to search" in note.message for note in app.messages))
        assert sheet(app).reading is None
        assert len(shown(app)) == 16


def test_pages_fetch_what_is_looked_at_and_forget_the_rest(made: Made) -> None:
    pages = Pages(lambda card: [str(card.id)])
    pages.restart(array("q", range(100_000, 0, -1)))
    wanted = pages.wanted(range(500, 520))
    assert (wanted[0], wanted[-1]) == (100_000 - 420, 100_000 - 599)
    card = listing.cards(made.store, [1])[1]
    pages.put(wanted, dict.fromkeys(wanted, card), pages.age)
    assert pages.wanted(range(500, 520)) == []
    pages.outdate()
    assert pages.wanted(range(500, 502)) == [99_500, 99_499], "only what is visible is read anew"
    assert pages.cells(500) == ["1"], "and it is shown as it was until then"
    for start in range(0, 8000, 100):
        some = [pages.key(place) for place in range(start, start + 100)]
        pages.put(some, dict.fromkeys(some, card), pages.age)
    assert sum(pages.cells(place) is not None for place in range(100_000)) == KEPT
    pages.put_above(array("q", [100_003, 100_002]))
    assert [pages.key(place) for place in range(3)] == [100_003, 100_002, 100_000]
    assert [pages.find(key) for key in (100_003, 100_002, 100_000, 1, 100_001)] == [0, 1, 2, 100_001, None]


async def test_wide_terminals_show_the_responses_in_the_list(made: Made) -> None:
    async with running(opened(made), mode="data", size=(160, 30)) as (app, pilot):
        sheet = screen(app).query_one(ResponseTable)
        await until(pilot, lambda: "wise 5 irrational" in painted(sheet))
        assert "owned" in painted(sheet)
        assert not set("\x1b\x07\u202e") & set(painted(sheet))
        await pilot.resize_terminal(90, 30)
        await until(pilot, lambda: "wise 5" not in painted(sheet) and "question 5" in painted(sheet))


def painted(sheet: ResponseTable) -> str:
    """What the list shows."""
    return "\n".join(sheet.render_line(line).text for line in range(sheet.size.height))
