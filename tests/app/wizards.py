"""Ways through the new-job wizard."""

from pathlib import Path

import pytest
from app.support import until
from textual.pilot import Pilot
from textual.widgets import Static

from engine.registry import register
from persyn_tui.app.app import PersynApp
from persyn_tui.app.screens.wizard.screen import Wizard
from persyn_tui.app.widgets.form_fields import Form
from persyn_tui.app.widgets.virtual_table import VirtualTable
from storage.records import Model
from storage.store import Store


def open_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Store.open(tmp_path / "app.db")


def teacher(store: Store, name: str = "terse") -> Model:
    given = {"name": name, "model": "zoo:brief", "system": "Short.", "sampling": {"temperature": "0.3"}}
    wanted = register.settings(given, "teacher", Path.cwd())
    return register.put(store, register.record(register.fill(wanted)[0], "teacher"))


def said(app: PersynApp, selector: str = "#says") -> str:
    return str(app.screen.query_one(selector, Static).render())


def text(sheet: VirtualTable) -> str:
    return "\n".join(sheet.render_line(y).text for y in range(len(sheet.rows) + 1))


async def wizard(app: PersynApp, pilot: Pilot[None]) -> Wizard:
    await pilot.press("n")
    await until(pilot, lambda: isinstance(app.screen, Wizard))
    shown = app.screen
    assert isinstance(shown, Wizard)
    await until(pilot, lambda: len(shown.query_one("#teachers-list", VirtualTable).rows) > 0)
    return shown


async def to_settings(app: PersynApp, pilot: Pilot[None]) -> Form:
    """Through the form's first steps: two teachers, the first student."""
    shown = await wizard(app, pilot)
    await pilot.press("down", "enter")
    await until(pilot, lambda: "teachers" in said(app, "#title"))
    await pilot.press("space", "down", "space", "enter")
    await until(pilot, lambda: "student" in said(app, "#title"))
    await pilot.press("enter")
    await until(pilot, lambda: "settings" in said(app, "#title"))
    return shown.query_one("#form", Form)
