"""Why a teacher was chosen, of a stored prompt and of one that is typed: the router itself is asked."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from app.router_run import Made, lines, make, words
from app.support import running, until
from textual.widgets import Input

from persyn_tui.app.screens.router.why_screen import WhyScreen
from persyn_tui.app.state.engine_process import reason


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path)


async def test_why_shows_what_is_stored_before_the_router_answers_and_esc_goes_back(made: Made) -> None:
    made.answer()
    made.route()
    made.finish()
    async with running(made.location, mode="router") as (app, pilot):
        router = app.screen
        await until(pilot, lambda: len(lines(router, "#choices")) == 9)
        for _ in range(5):
            await pilot.press("j")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, WhyScreen) and app.screen.state == "full")
        assert "question number 2" in words(app.screen, "#prompt")
        assert "→ spell, by the measured rewards of this prompt; the router: brief" in words(
            app.screen, "#decision"
        )
        await until(pilot, lambda: "+0.30" in lines(app.screen, "#teachers")[1])
        _, spell = lines(app.screen, "#teachers")[1:]
        assert spell.startswith("★")
        await until(pilot, lambda: "the router reads the prompt" in words(app.screen, "#neighbour"))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is router)
        assert router.chosen.prompt_id == made.prompts[2]


async def test_why_asks_the_real_router_for_a_typed_prompt_without_torch_here(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made.answer()
    made.route()
    made.finish()
    program = f"""
import sys, torch
from engine.config import run_file
from engine.job.progress import from_json
from engine.pipeline.run_view import reader
from engine.router.backbone import load_backbone
from engine.router.model import Router
from engine.router.manifest import Labelling, Teacher
from storage.store import Store
with Store.open({made.location!r}) as store:
    context = reader(store, run_file.load({str(made.file)!r}))
    pairs = zip(context.teachers, context.generations, strict=True)
    made = Router(load_backbone("zoo:student"), [Teacher(t.name, g.generation_sha) for t, g in pairs])
    with torch.no_grad():
        made.head.bias.copy_(torch.tensor([0.0, 1.0]))
    made.save(store.folder / "routers" / "r", Labelling())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    async with running(made.location, mode="router", size=(120, 34)) as (app, pilot):
        await until(pilot, lambda: app.screen.data is not None and app.screen.data.router is not None)
        await pilot.press("slash")
        await until(pilot, lambda: isinstance(app.screen, WhyScreen) and app.focused is not None)
        await pilot.press(*"question 1", "enter")
        screen = app.screen
        await until(pilot, lambda: bool(screen.data and screen.data.asked and screen.data.asked.nearest))
        assert "→ spell" in words(screen, "#decision")
        assert "73% to beat brief" in words(screen, "#decision")
        await until(pilot, lambda: len(lines(screen, "#teachers")) == 3)
        assert "q 1.00" in "".join(lines(screen, "#teachers"))
        await until(pilot, lambda: "response of spell (ok, 3 tokens)" in words(screen, "#response"))
        assert "\x1b" not in words(screen, "#response")
        first = words(screen, "#neighbour")
        assert "nearest 1 of 3: calibration prompt" in first
        await pilot.press("right")
        await until(pilot, lambda: "nearest 2 of 3" in words(screen, "#neighbour"))
        # The process goes on: the second question does not read the router again.
        process = screen._process._process
        await pilot.press("slash", *"again", "enter")
        await until(pilot, lambda: "again" in words(screen, "#prompt") and bool(screen.data.asked.nearest))
        assert screen._process._process is process
        # A prompt like none of the calibration's is marked; these are too few to tell, so the reply is told to.
        assert "unlike" not in words(screen, "#decision")
        screen._asked = replace(screen._asked, said={**screen._asked.said, "unlike": True})
        screen.ask()
        await until(pilot, lambda: "▲ unlike all it learned from" in words(screen, "#decision"))
        assert not screen.query_one("#ask", Input).has_focus
        # A process that dies is told, and the next question starts another.
        os.kill(process.pid, signal.SIGSTOP)
        await pilot.press("slash", *"once more", "enter")
        await until(pilot, lambda: "the router reads the prompt" in words(screen, "#neighbour"))
        process.kill()
        await until(pilot, lambda: "✗ the router's process ended" in words(screen, "#neighbour"))
        await pilot.press("slash", *"and now", "enter")
        await until(pilot, lambda: screen._process._process is not None)
        process = screen._process._process
    assert await process.wait() != 0, "the app's end is the process's end"


def test_the_reason_is_the_engines_error_with_its_remedy() -> None:
    said = "loading\nerror: routers/r: no head\nin it\n  → train it again\n"
    assert reason(said) == ("routers/r: no head\nin it", "train it again")
    assert reason("Traceback …\nMemoryError") == ("MemoryError", "ask again, or look at screen 7")
    assert reason("")[0] == "the router's process ended"


def test_nothing_of_the_screen_imports_torch() -> None:
    program = (
        "import sys\n"
        "from persyn_tui.app.screens.router import screen, what_if, why_screen\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
