"""A real engine behind the app: a run is followed on the screens, the app is left and started again, all is stored."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from app.small_run import lines, words
from app.support import running, until
from sqlalchemy import func, select
from support import RUN
from textual.pilot import Pilot

from engine.config import run_file
from engine.pipeline import job_commands, launch
from persyn_tui.app.app import PersynApp
from persyn_tui.app.screens.data.screen import DataScreen
from persyn_tui.app.state.followed_job import LIVE
from storage import browse, jobs, schema
from storage.job_records import Job
from storage.listing import Listing
from storage.store import Store

SMALLER = (
    ("size: 40", "size: 30"),
    ("calibration: 20, validation: 8, evaluation: 10", "calibration: 12, validation: 5, evaluation: 6"),
    ("epochs: 2,", "epochs: 8,"),  # long enough for the app to be left and started again meanwhile
    ("max_tokens: 40", "max_tokens: 24"),
)
SIZE = (140, 40)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own; engines that are started here do not outlive the test."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app.support.PATIENCE_S", 75.0)
    started, detach = list[int](), launch.detach

    def recorded(store: Store, job: Job) -> int:
        started.append(detach(store, job))
        return started[-1]

    monkeypatch.setattr(launch, "detach", recorded)
    yield tmp_path
    for process in started:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


async def go(app: PersynApp, pilot: Pilot[None], number: int) -> None:
    await pilot.press(str(number))
    await until(pilot, lambda: getattr(app.screen, "NUMBER", 0) == number and app.screen.state == "full")


def answered(app: PersynApp) -> tuple[int, int]:
    """(done, wanted) as the generation screen says it; zeros before it knows."""
    found = re.match(r"([\d,]+) / ([\d,]+) responses", words(app, "#sums"))
    return (0, 0) if found is None else tuple(int(part.replace(",", "")) for part in found.groups())  # type: ignore[return-value]


def by_teacher(app: PersynApp) -> dict[str, str]:
    """Teacher → `done / assigned` on the generation screen."""
    rows = (line.split() for line in lines(app, "#teachers")[1:])
    return {row[0]: " ".join(row[2:5]) for row in rows}


def allocated(app: PersynApp) -> dict[str, int]:
    """Teacher → prompts on the router screen; empty before there is a plan."""
    head, *rows = lines(app, "#shares")
    end = head.find("prompts") + len("prompts")
    if not head.startswith("teacher"):
        return {}
    return {row.split()[0]: int(row[:end].split()[-1]) for row in rows}


def trained(app: PersynApp) -> list[str]:
    """The strategies' rows on the distil screen, that of the untrained student first."""
    return lines(app, "#strategies")[1:]


async def test_a_run_is_followed_left_and_found_again(folder: Path) -> None:
    text = RUN
    for old, new in SMALLER:
        assert old in text
        text = text.replace(old, new)
    (folder / "run.yaml").write_text(f"{text}strategies: [strong, persyn]\n")
    run = run_file.load(folder / "run.yaml")
    location = str(folder / "store.db")

    async with running(location, size=SIZE) as (app, pilot):
        assert app.screen.state == "empty"
        assert app.store is not None
        job = job_commands.start(app.store, run)
        await until(pilot, lambda: app.screen.state == "full" and "● running" in lines(app, "#jobs")[1])
        await go(app, pilot, 4)
        await until(pilot, lambda: answered(app)[0] > 0)
        await go(app, pilot, 3)
        await until(pilot, lambda: re.match(r"persyn (\d+) / \1 ", words(app, "#where")) is not None)
        await until(pilot, lambda: f"persyn {sum(allocated(app).values())} / " in words(app, "#where"))
        await go(app, pilot, 6)
        await until(
            pilot, lambda: any("●" in row and re.search(r"[1-9]\d* / \d", row) for row in trained(app))
        )
        await go(app, pilot, 4)
        # What is trained on has been generated: from here on these totals stay.
        await until(pilot, lambda: answered(app)[0] == answered(app)[1] > 0)
        totals, shown = answered(app), by_teacher(app)
        await go(app, pilot, 3)
        shares = allocated(app)
        assert app.followed.job is not None
        assert app.followed.job.effective_state in LIVE, "the app was to be left in the middle of the run"
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running or app._exit)
    assert f"job {job.id} goes on" in app._farewell()

    with Store.open(location) as store:
        left = jobs.get(store, job.id)
        assert left is not None
        assert left.effective_state in (*LIVE, "done"), left.error

    async with running(location, mode="generation", size=SIZE) as (app, pilot):
        await until(pilot, lambda: answered(app)[0] > 0)
        assert (answered(app), by_teacher(app)) == (totals, shown)
        await go(app, pilot, 3)
        await until(pilot, lambda: allocated(app) == shares)
        await go(app, pilot, 6)
        await until(pilot, lambda: all("%" in row for row in trained(app)))
        assert all("✓" in row for row in trained(app)[1:])
        await go(app, pilot, 1)
        await until(pilot, lambda: "✓ done" in lines(app, "#jobs")[1])
        await go(app, pilot, 5)
        screen = app.screen
        assert isinstance(screen, DataScreen)
        with Store.open(location) as store, store.read() as connection:
            stored = connection.execute(select(func.count()).select_from(schema.ResponseRow)).scalar_one()
        await until(pilot, lambda: screen.sheet.reading is None and len(screen.sheet.rows) == stored)
        await until(pilot, lambda: f"{stored} responses" in words(app, "#title"))
        with Store.open(location) as store:
            newest = browse.browse(store, Listing(), limit=1)[0].response.id
        await until(pilot, lambda: lines(app, "#rows")[1].split()[0] == str(newest))
        assert totals == (stored, stored)
        # N prompts are trained on, each of which has one teacher by the router's plan.
        with Store.open(location) as store, store.read() as connection:
            plan = select(schema.PlanRow.id).where(schema.PlanRow.strategy == "persyn").scalar_subquery()
            wanted = select(func.count()).where(schema.AssignmentRow.plan_id == plan)
            assert sum(shares.values()) == connection.execute(wanted).scalar_one()
