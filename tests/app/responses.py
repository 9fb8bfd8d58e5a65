"""A small store of answers, made through the storage API, and what the tests of screen 5 look at."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.support import FINISH, until
from textual.pilot import Pilot
from textual.widgets import Static

from persyn_tui.app.app import PersynApp
from persyn_tui.app.screens.data.response_table import ResponseTable
from persyn_tui.app.screens.data.screen import DataScreen
from storage import datasets, prompts, registry, responses, routing, scores
from storage.records import (
    Assignment,
    DatasetRow,
    Model,
    NewPlan,
    NewResponse,
    Prompt,
    Response,
    Sampling,
    Score,
    Status,
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
        completion = Response(place, text, status, FINISH[status], 5, tokens, 0.25)
        number = self.prompts[place]
        row = NewResponse(number, self.teachers[teacher], f"sha{teacher}", completion, cost=0.002)
        responses.add(self.store, None, [row])


def build(tmp_path: Path) -> Made:
    """The store, filled."""
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
    scores.add(store, None, quality, [(n, Score(float(n % 2))) for n in range(1, 17) if n != 13])
    scores.add(store, None, learnability, [(n, Score(-n / 10, -n, 10)) for n in range(1, 17) if n != 13])
    for name in ("mix", "persyn"):
        plan = routing.open_plan(
            store, None, NewPlan(name, name, opened.id, None, {"teachers": ["wise", "quick"]})
        )
        strengths = (0.75, -0.25) if name == "persyn" else None
        routing.assign(store, None, plan.id, [Assignment(n, one.teachers[0], 0, strengths, 1.0) for n in ids])
        dataset = datasets.open_dataset(store, None, name, plan.id, f"run/{name}", {})
        rows = [DatasetRow(number, place + 1, 1.0, -0.1, place / 10) for place, number in enumerate(ids)]
        datasets.add(store, None, dataset.id, rows)
        datasets.finish(store, None, dataset.id, {"strategy": name})
        one.datasets.append(dataset.id)
    return one


def screen(app: PersynApp) -> DataScreen:
    found = next(one for one in app.screen_stack if isinstance(one, DataScreen))
    assert isinstance(found, DataScreen)
    return found


def sheet(app: PersynApp) -> ResponseTable:
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
