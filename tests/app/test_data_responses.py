"""Screen 5: the answers to one prompt, side by side."""

import pytest
from app.responses import Made, come, line, opened, screen, sheet, shown
from app.support import running, until
from textual.widgets import Static

from persyn_tui.app.base.formatting import count
from persyn_tui.app.screens.data import query
from persyn_tui.app.screens.data.formatting import SHOWN_CHARACTERS, SHOWN_LINES, body, head
from persyn_tui.app.screens.data.responses_panel import ResponseColumn, ResponsesPanel
from persyn_tui.views import response_view
from storage import listing, registry, responses, scores
from storage.records import Model, NewResponse, Response, Sampling, Score


async def test_hostile_text_stays_text_in_the_list_and_beside_the_others(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        sheet(app).go_to(12)
        await pilot.press("enter")
        panel = screen(app).query_one(ResponsesPanel)
        await until(pilot, lambda: panel.chosen is not None and panel.chosen["id"] == 12)
        painted = str(panel.query(ResponseColumn).first().body.render())
        painted += str(panel.query_one("#about-prompt", Static).render()) + line(app, 4)
        assert "[red]text[/red]" in painted
        assert not {"\x1b", "\x07", "\u202e"} & set(
            painted + str(panel.query_one("#origin-text", Static).render())
        )


async def test_all_answers_side_by_side_with_the_choice_starred(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("enter")
        panel = screen(app).query_one(ResponsesPanel)
        await until(pilot, lambda: panel.chosen is not None and panel.has_focus)
        assert panel.text == "quick 3", "the cursor is on the answer that was opened"
        quick, wise = panel.query(ResponseColumn)
        assert "★" in str(wise.head.render())
        assert "★" not in str(quick.head.render())
        assert "q 0.00 l −0.40 r +0.30 s +0.75" in str(wise.head.render())
        assert "s −0.25" in str(quick.head.render())
        assert "prompt #4 (calibration) · 2 responses" in str(panel.query_one("#which", Static).render())
        assert "ref 3" in str(panel.query_one("#about-prompt", Static).render())
        await pilot.press("tab")
        assert panel.text == "wise 3 "
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard == "wise 3 ")
        assert any("7 characters of response" in note.message for note in app.messages)
        assert all("is on the clipboard" not in note.message for note in app.messages)
        screen(app)._looked_s = 0.0
        judge = scores.put_scorer(made.store, "judge", {})
        scores.add(made.store, None, judge, [(4, Score(0.25))])
        await until(pilot, lambda: "q 0.25" in str(wise.head.render()))
        assert panel.text == "wise 3 ", "what is read anew does not move the cursor"
        await pilot.press("shift+tab", "i")
        origin = str(panel.query_one("#origin-text", Static).render())
        for known in (
            "max_tokens 77",
            "hub/quick",
            "$0.002000",
            "generation sha1",
            "5 + 103 tok",
        ):
            assert known in origin
        await pilot.press("i", "right_square_bracket")
        await until(pilot, lambda: panel.text == "quick 2" and sheet(app).key == 15)
        await pilot.press("escape")
        await until(pilot, lambda: sheet(app).has_focus and not panel.display)


async def test_the_star_is_the_row_of_the_dataset_in_view(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        screen(app).list_responses(listing.Listing(dataset_id=made.datasets[0]))
        await come(app, pilot, lambda: len(shown(app)) == 12)
        await pilot.press("G", "enter")
        panel = screen(app).query_one(ResponsesPanel)
        await until(pilot, lambda: "★ in the dataset" in str(panel.query_one("#which", Static).render()))


def test_quality_and_learnability_are_told_apart_by_what_the_scorers_kinds_declare() -> None:
    scores = {"exact_answer": 1.0, "learnability": -0.4, "not installed here": 0.25, "judge": None}
    assert response_view.halves(scores) == (0.25, -0.4), "of several the newest that is known"
    assert response_view.halves({"judge": None}) == (None, None)


async def test_two_teachers_of_one_name_say_what_they_differ_in(made: Made) -> None:
    other = Model("wise", "teacher", "x", "hub/wise", sampling=Sampling(max_tokens=160))
    again = registry.put(made.store, other, "wise again").id or 0
    answer = Response(0, "longer", "ok", "stop", 5, 7, 0.25)
    responses.add(made.store, None, [NewResponse(made.prompts[0], again, "sha9", answer)])
    data = query.beside(made.store, 1)
    assert data is not None
    heads = [head(one, data).plain.splitlines()[0] for one in data.responses]
    assert [line.partition(" · ")[2] for line in heads] == ["", "max_tokens 77", "max_tokens 160"]


@pytest.mark.parametrize("whole", ["line\n" * 20_000, "x" * 100_000], ids=["many lines", "one line"])
def test_a_long_answer_is_shown_from_its_beginning_and_says_how_much_is_left(whole: str) -> None:
    shown = body({"reasoning": "", "error": "", "text": whole}).plain
    begun, _, rest = shown.rpartition("\n… ")
    assert whole.startswith(begun)
    assert len(begun) <= SHOWN_CHARACTERS
    assert begun.count("\n") < SHOWN_LINES
    assert rest == f"{count(len(whole) - len(begun))} more characters; y copies all"
