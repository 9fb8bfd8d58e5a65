"""Screen 5: millions of rows lazily, filters, search, the answers side by side, excluding and export."""

import json
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from app.support import running, until
from textual.pilot import Pilot
from textual.widgets import Input, Static

from persyn_tui.app.app import PersynApp
from persyn_tui.app.data.answers import SHOWN_CHARACTERS, SHOWN_LINES, AnswerColumn, AnswersPanel, _body
from persyn_tui.app.data.forms import ExportForm, FilterForm, SortMenu
from persyn_tui.app.data.pages import KEPT, Pages
from persyn_tui.app.data.screen import DataScreen
from persyn_tui.app.data.sheet import AnswerSheet
from persyn_tui.app.forms import Form
from persyn_tui.app.text import count
from storage import datasets, listing, prompts, registry, responses, routing, scores
from storage.records import (
    Assignment,
    Completion,
    DatasetRow,
    Model,
    NewResponse,
    Prompt,
    Sampling,
    Status,
    Verdict,
)
from storage.store import Store

HOSTILE = "\x1b[2J\x1b]0;owned\x07 [red]text[/red] \u202etxt.exe"


@dataclass
class Made:
    """`wise` answers every prompt (ids 1–12), `quick` the first four (13–16); `wise` is in two datasets."""

    store: Store
    prompts: list[int]
    teachers: list[int]
    datasets: list[int]

    def answer(self, place: int, teacher: int, text: str, status: Status = "ok", tokens: int = 7) -> None:
        finish = "stop" if status == "ok" else "length"
        completion = Completion(place, text, status, finish, 5, tokens, 0.25)
        number = self.prompts[place]
        row = NewResponse(number, self.teachers[teacher], f"sha{teacher}", completion, cost=0.002)
        responses.add(self.store, None, [row])


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.chdir(tmp_path)
    store = Store.open(tmp_path / "app.db")
    teachers = [
        registry.put(
            store, Model(name, "teacher", "x", f"hub/{name}", sampling=Sampling(max_tokens=77)), name
        ).id
        for name in ("wise", "quick")
    ]
    opened = prompts.open_set(store, "set", "demo")
    asked = [
        Prompt(
            ({"role": "user", "content": f"question {n} {HOSTILE if n == 11 else ''}"},),
            answer=f"ref {n}",
            source="file",
            split="calibration" if n < 4 else "synthesis",
        )
        for n in range(12)
    ]
    prompts.add(store, None, opened.id, asked, 0)
    ids = [prompt.id or 0 for _, prompt in prompts.page(store, opened.id)]
    one = Made(store, ids, [number or 0 for number in teachers], [])
    for place in range(12):
        one.answer(place, 0, f"wise {place} {HOSTILE if place == 11 else 'irrational' if place == 5 else ''}")
    for place in range(4):
        one.answer(place, 1, f"quick {place}", "ok" if place else "truncated", tokens=100 + place)
    quality, learnability = (scores.put_scorer(store, kind, {}) for kind in ("exact_answer", "learnability"))
    scores.add(store, None, quality, [(n, Verdict(float(n % 2))) for n in range(1, 17) if n != 13])
    scores.add(store, None, learnability, [(n, Verdict(-n / 10, -n, 10)) for n in range(1, 17) if n != 13])
    for name in ("mix", "persyn"):
        plan = routing.open_plan(store, None, name, name, opened.id, None, {"teachers": ["wise", "quick"]})
        strengths = (0.75, -0.25) if name == "persyn" else None
        routing.assign(store, None, plan.id, [Assignment(n, one.teachers[0], 0, strengths, 1.0) for n in ids])
        dataset = datasets.open(store, None, name, plan.id, f"run/{name}", {})
        rows = [DatasetRow(number, place + 1, 1.0, -0.1, place / 10) for place, number in enumerate(ids)]
        datasets.add(store, None, dataset.id, rows)
        datasets.finish(store, None, dataset.id, {"strategy": name})
        one.datasets.append(dataset.id)
    return one


def screen(app: PersynApp) -> DataScreen:
    found = next(one for one in app.screen_stack if isinstance(one, DataScreen))
    assert isinstance(found, DataScreen)
    return found


def sheet(app: PersynApp) -> AnswerSheet:
    return screen(app).sheet


def shown(app: PersynApp) -> list[int]:
    return [sheet(app).pages.key(place) for place in range(len(sheet(app).rows))]


def line(app: PersynApp, place: int) -> str:
    return sheet(app).render_line(place + 1).text


def title(app: PersynApp) -> str:
    return str(screen(app).query_one("#title", Static).render())


def settled(app: PersynApp) -> bool:
    rows = sheet(app)
    return rows.reading is None and all(rows.rows.cells(place) is not None for place in rows.window)


async def come(app: PersynApp, pilot: Pilot[None], true: Callable[[], bool]) -> None:
    await until(pilot, lambda: true() and settled(app))


def opened(store: Made) -> str:
    return str(store.store.path)


async def test_every_answer_is_listed_newest_first_with_its_scores(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        assert shown(app) == list(range(16, 0, -1))
        newest = ["16", "question", "3", "quick", "103", "stop", "0.00", "−1.60", "–"]
        await until(pilot, lambda: line(app, 0).split() == newest)
        assert line(app, 3).split()[4:] == ["100", "truncated", "–", "–", "–"]
        assert line(app, 5).split()[-3:] == ["+1.00", "persyn", "+1"]
        await until(pilot, lambda: "16 answers" in title(app))


async def test_prompts_that_begin_alike_show_what_differs_and_are_found_by_their_words(made: Made) -> None:
    opened_set = prompts.open_set(made.store, "alike", "alike")
    task = "State the final answer to the following arithmetic problem: "
    asked = [
        Prompt(({"role": "user", "content": f"{task}{n} + {n} ="},), split="synthesis") for n in (41, 52)
    ]
    prompts.add(made.store, None, opened_set.id, asked, 0)
    for number in (prompt.id or 0 for _, prompt in prompts.page(made.store, opened_set.id)):
        done = Completion(number, "sum", "ok", "stop", 5, 7, 0.25)
        responses.add(made.store, None, [NewResponse(number, made.teachers[0], "sha0", done, cost=0.0)])
    async with running(opened(made), mode="data", size=(80, 24)) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 18)
        await until(pilot, lambda: " 52 + 52 =" in line(app, 0) and " 41 + 41 =" in line(app, 1))
        assert "question 3" in line(app, 2)
        await pilot.press("slash", *"arithmetic 52", "enter")
        await come(app, pilot, lambda: shown(app) == [18])
        assert "State the final" in line(app, 0), "alone it is shown from its beginning"


async def test_an_export_begins_with_persyn_and_says_the_whole_path(made: Made, tmp_path: Path) -> None:
    async with running(opened(made), mode="data", size=(80, 24)) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportForm))
        assert app.screen.query_one(Form)["dataset"].value == "run/persyn"
        says = app.screen.query_one("#says", Static)
        await until(pilot, lambda: str(tmp_path) in str(says.render()))


async def test_esc_clears_messages(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        app.notify("something", timeout=60)
        await until(pilot, lambda: len(app._notifications) == 1)
        await pilot.press("escape")
        await until(pilot, lambda: len(app._notifications) == 0)


async def test_nothing_stored_says_the_next_step(tmp_path: Path) -> None:
    async with running(str(tmp_path / "empty.db"), mode="data") as (app, pilot):
        assert screen(app).state == "empty"
        for key in ("slash", "f", "o", "e", "x", "u", "y", "r", "p", "p", "escape", "enter"):
            await pilot.press(key)
        assert screen(app).state == "empty"
        assert isinstance(app.screen, DataScreen)


async def test_hostile_text_stays_text_in_the_list_and_beside_the_others(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        sheet(app).go_to(12)
        await pilot.press("enter")
        panel = screen(app).query_one(AnswersPanel)
        await until(pilot, lambda: panel.chosen is not None and panel.chosen["id"] == 12)
        painted = str(panel.query(AnswerColumn).first().body.render())
        painted += str(panel.query_one("#about-prompt", Static).render()) + line(app, 4)
        assert "[red]text[/red]" in painted
        assert not {"\x1b", "\x07", "\u202e"} & set(
            painted + str(panel.query_one("#origin-text", Static).render())
        )


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
        await until(pilot, lambda: len(screen(app).query(AnswerColumn)) == 2)
        assert sheet(app).display == (size[1] > 24), "on a low screen the answers stand alone"
        assert app.screen.query_one("#machine").region.height == 1
        assert app.screen.query_one("Footer").region.bottom == size[1]
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
        screen(app).list_answers(listing.Listing(teacher="quick", status="refused"))
        await until(pilot, lambda: screen(app).has_class("none"))
        assert "esc clears" in str(screen(app).query_one("#nothing", Static).render())
        await pilot.press("escape")
        await come(app, pilot, lambda: len(shown(app)) == 16 and not screen(app).has_class("none"))


async def test_sorting_in_both_directions_keeps_the_filter(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        screen(app).list_answers(listing.Listing(teacher="quick"))
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


async def test_all_answers_side_by_side_with_the_choice_starred(made: Made) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("enter")
        panel = screen(app).query_one(AnswersPanel)
        await until(pilot, lambda: panel.chosen is not None and panel.has_focus)
        assert panel.text == "quick 3", "the cursor is on the answer that was opened"
        quick, wise = panel.query(AnswerColumn)
        assert "★" in str(wise.head.render())
        assert "★" not in str(quick.head.render())
        assert "q 0.00 l −0.40 r +0.30 s +0.75" in str(wise.head.render())
        assert "s −0.25" in str(quick.head.render())
        assert "prompt #4 (calibration) · 2 answers" in str(panel.query_one("#which", Static).render())
        assert "ref 3" in str(panel.query_one("#about-prompt", Static).render())
        await pilot.press("tab")
        assert panel.text == "wise 3 "
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard == "wise 3 ")
        screen(app)._looked_s = 0.0
        judge = scores.put_scorer(made.store, "judge", {})
        scores.add(made.store, None, judge, [(4, Verdict(0.25))])
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
        screen(app).list_answers(listing.Listing(dataset_id=made.datasets[0]))
        await come(app, pilot, lambda: len(shown(app)) == 12)
        await pilot.press("G", "enter")
        panel = screen(app).query_one(AnswersPanel)
        await until(pilot, lambda: panel.chosen is not None)
        assert "★ in the dataset" in str(panel.query_one("#which", Static).render())


async def test_marked_rows_leave_the_dataset_and_come_back(made: Made) -> None:
    first = made.datasets[0]
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("x")
        assert datasets.excluded(made.store, first) == [], "without a dataset in view nothing is excluded"
        screen(app).list_answers(listing.Listing(dataset_id=first))
        await come(app, pilot, lambda: len(shown(app)) == 12)
        await pilot.press("space", "space", "x")
        await until(pilot, lambda: datasets.excluded(made.store, first) == made.prompts[-2:])
        assert datasets.excluded(made.store, made.datasets[1]) == []
        await come(app, pilot, lambda: "✗ excluded" in line(app, 0) and not sheet(app).marked)
        # A mixed choice is excluded as a whole; undo gives back only what that changed.
        await pilot.press("g", "space", "j", "space", "x")
        await until(pilot, lambda: len(datasets.excluded(made.store, first)) == 3)
        await pilot.press("u")
        await until(pilot, lambda: datasets.excluded(made.store, first) == made.prompts[-2:])
        await pilot.press("g", "x")
        await until(pilot, lambda: datasets.excluded(made.store, first) == made.prompts[-2:-1])
        await pilot.press("u")
        await until(pilot, lambda: datasets.excluded(made.store, first) == made.prompts[-2:])


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
        screen(app).list_answers(listing.Listing(sort="learnability"))
        await come(app, pilot, lambda: shown(app)[:2] == [1, 2])
        scores.add(made.store, None, 2, [(13, Verdict(-0.01))])
        await pilot.press("r")
        await come(app, pilot, lambda: shown(app)[:2] == [13, 1])
        assert sheet(app).key == 1, "the cursor stays on its row"


async def test_an_export_runs_in_the_background_and_says_where_it_is(made: Made, tmp_path: Path) -> None:
    datasets.exclude(made.store, made.datasets[1], made.prompts[:2])
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportForm))
        await pilot.press("right")
        form = app.screen.query_one("Form")
        await until(pilot, lambda: form.values["out"].endswith("run-persyn-sharegpt.jsonl"))  # type: ignore[attr-defined]
        await pilot.press("enter")
        out = tmp_path / "run-persyn-sharegpt.jsonl"
        await until(pilot, lambda: any(str(out) in note.message for note in app._notifications))
        rows = [json.loads(text) for text in out.read_text().splitlines()]
        assert len(rows) == 10
        assert rows[0]["conversations"][-1] == {"from": "gpt", "value": "wise 2 "}
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportForm))
        await pilot.press("right", "enter")
        assert isinstance(app.screen, ExportForm), "nothing is overwritten"
        assert "already" in app.screen.query_one("Form")["out"].said  # type: ignore[index]


async def test_an_export_form_says_one_thing_beside_the_rows_and_below(made: Made, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    async with running(opened(made), mode="data", size=(120, 30)) as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExportForm))
        form, says = app.screen.query_one(Form), app.screen.query_one("#says", Static)

        async def put(key: str, value: str, told: str) -> None:
            form[key].focus_control()
            await pilot.press("end", "ctrl+u", *value)
            assert told in form[key].said
            assert told in str(says.render())
            assert "a new file" not in str(says.render())
            form["form"].focus_control()
            await pilot.press("enter")
            assert form[key].control.has_focus, "enter goes to what is wrong"
            assert told in str(says.render())

        await put("out", str(tmp_path / "there"), "there already")
        await put("out", str(tmp_path / "nowhere" / "x"), "no such folder")
        await put("out", "~nobody-of-this-name/x", "no such folder")
        await put("out", "x" * 300, "too long")
        await put("out", "", "needed")
        await pilot.press(*"fresh")
        assert str(says.render()).startswith("a new file: ")
        await put("dataset", "nothing", "not stored")
        assert (tmp_path / "there").read_text() == "precious"


async def test_a_failing_store_is_told_and_the_screen_goes_on(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(opened(made), mode="data") as (app, pilot):
        await come(app, pilot, lambda: len(shown(app)) == 16)
        screen(app).list_answers(listing.Listing(words=" "))
        await until(pilot, lambda: any("nothing to search" in note.message for note in app._notifications))
        assert sheet(app).reading is None
        assert len(shown(app)) == 16


def test_pages_fetch_what_is_looked_at_and_forget_the_rest(made: Made) -> None:
    pages = Pages(lambda card: [str(card.id)], 0)
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
        some = [pages.id(place) for place in range(start, start + 100)]
        pages.put(some, dict.fromkeys(some, card), pages.age)
    assert sum(pages.cells(place) is not None for place in range(100_000)) == KEPT
    pages.put_above(array("q", [100_003, 100_002]))
    assert [pages.id(place) for place in range(3)] == [100_003, 100_002, 100_000]
    assert [pages.find(key) for key in (100_003, 100_002, 100_000, 1, 100_001)] == [0, 1, 2, 100_001, None]


async def test_wide_terminals_show_the_responses_in_the_list(made: Made) -> None:
    async with running(opened(made), mode="data", size=(160, 30)) as (app, pilot):
        sheet = screen(app).query_one(AnswerSheet)
        await until(pilot, lambda: "wise 5 irrational" in painted(sheet))
        assert "owned" in painted(sheet)
        assert not set("\x1b\x07\u202e") & set(painted(sheet))
        await pilot.resize_terminal(90, 30)
        await until(pilot, lambda: "wise 5" not in painted(sheet) and "question 5" in painted(sheet))


def painted(sheet: AnswerSheet) -> str:
    """What the list shows."""
    return "\n".join(sheet.render_line(line).text for line in range(sheet.size.height))


@pytest.mark.parametrize("whole", ["line\n" * 20_000, "x" * 100_000], ids=["many lines", "one line"])
def test_a_long_answer_is_shown_from_its_beginning_and_says_how_much_is_left(whole: str) -> None:
    shown = _body({"reasoning": "", "error": "", "text": whole}).plain
    body, _, rest = shown.rpartition("\n… ")
    assert whole.startswith(body)
    assert len(body) <= SHOWN_CHARACTERS
    assert body.count("\n") < SHOWN_LINES
    assert rest == f"{count(len(whole) - len(body))} more characters; y copies all"
