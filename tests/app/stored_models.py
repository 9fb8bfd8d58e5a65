"""Models in a store, and what screen 2 shows of them."""

from pathlib import Path
from typing import Any

import pytest
from app.support import until
from rich.console import Group
from textual.pilot import Pilot
from textual.widgets import Static

from engine.registry import register
from persyn_tui.app.app import PersynApp
from persyn_tui.app.screens.models.form import ModelForm
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage import prompts, responses
from storage.records import Model, NewResponse, Prompt, Response
from storage.store import Store


def open_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Store.open(tmp_path / "app.db")


def teacher(store: Store, name: str = "terse", model: str = "zoo:brief", **more: Any) -> Model:
    wanted = register.settings({"name": name, "model": model, **more}, "teacher", Path.cwd())
    return register.put(store, register.record(register.fill(wanted)[0], "teacher"))


def answered(store: Store, model: Model, count: int) -> None:
    opened = prompts.open_set(store, "set", "demo")
    made = [
        Prompt(({"role": "user", "content": f"question {n}"},), source=f"file:{n}", split="synthesis")
        for n in range(count)
    ]
    prompts.add(store, None, opened.id, made, 0)
    numbers = [prompt.id or 0 for _, prompt in prompts.page(store, opened.id)]
    assert model.id is not None
    rows = [
        NewResponse(number, model.id, "sha", Response(number, "answer", "ok", "stop", 5, 7, 0.25), cost=0.0)
        for number in numbers
    ]
    responses.add(store, None, rows)


def sheet(app: PersynApp) -> VirtualTable:
    return app.screen.query_one("#models", VirtualTable)


def row(app: PersynApp, y: int = 1) -> str:
    return sheet(app).render_line(y).text


def said(app: PersynApp, selector: str = "#says") -> str:
    shown = app.screen.query_one(selector, Static)
    if not isinstance(shown.content, Group):
        return str(shown.render())
    head, table = shown.content.renderables
    rows = zip(*(column._cells for column in table.columns), strict=True)
    return "\n".join([str(head), *(f"{name} {value}" for name, value in rows)])


async def form(app: PersynApp, pilot: Pilot[None], key: str) -> ModelForm:
    await pilot.press(key)
    await until(pilot, lambda: isinstance(app.screen, ModelForm) and app.screen.form.at is not None)
    assert isinstance(app.screen, ModelForm)
    return app.screen
