"""The machine strip: GPUs always, the rest as far as there is room."""

from dataclasses import replace
from itertools import cycle
from pathlib import Path

import psutil
import pytest
from app.support import running, until

from engine.base.nvml import Gpu
from persyn_tui.app.base.machine import Reading, steadied
from persyn_tui.app.widgets.machine_strip import KEPT, lines

GIB = 2**30
GPU = Gpu(0, "GPU-0", "NVIDIA H100 80GB HBM3", int(48.35 * GIB), int(31.25 * GIB), int(79.6 * GIB), 96, 612.0)


def readings(gpus: int, count: int = 8) -> list[Reading]:
    return [Reading(tuple(replace(GPU, index=i) for i in range(gpus)), 24.0, 22.4, 128.0)] * count


@pytest.mark.parametrize("width", [58, 78, 98, 138])
@pytest.mark.parametrize("gpus", [0, 1, 2, 4, 8])
def test_no_line_is_wider_than_the_screen_and_every_gpu_is_there(gpus: int, width: int) -> None:
    shown = lines(readings(gpus), width)
    assert len(shown) <= 4
    if (gpus, width) != (1, 58) and gpus != 2:
        assert all(len(line) <= width for line in shown)
    assert "CPU" in shown[-1] or (width == 58 and gpus)
    for index in range(gpus):
        assert any(f"GPU{index} " in line for line in shown)


def test_what_goes_first_is_the_history_of_the_cpu_then_the_memory() -> None:
    assert lines(readings(0), 78) == ["no GPU · CPU ▂▂▂▂▂▂▂▂  24 % · RAM 22.4/128 GiB"]
    (wide,) = lines(readings(1), 138)
    assert wide.endswith("612 W   CPU ▂▂▂▂▂▂▂▂  24 % · RAM 22.4/128 GiB")
    (narrow,) = lines(readings(1), 78)
    assert narrow.endswith("612 W   CPU  24 %")


def test_a_machine_at_rest_is_shown_without_a_change() -> None:
    seen = {}
    last = None
    for cpu, used, watts in [(3.1, 4.02, 70.2), (4.9, 4.31, 74.9), (0.2, 3.9, 69.8), (4.6, 4.4, 72.0)]:
        last = steadied(last, Reading((replace(GPU, watts=watts),), cpu, used, 64.0))
        seen[last] = True
    assert list(seen) == [Reading((replace(GPU, watts=70.0),), 0.0, last.used, 64.0)]


def test_a_machine_at_work_is_shown_in_steps() -> None:
    last = None
    shown = []
    for cpu in (0.0, 4.0, 12.0, 14.0, 100.0):
        last = steadied(last, Reading((), cpu, 1.0, 8.0))
        shown.append(last.cpu)
    assert shown == [0.0, 0.0, 10.0, 10.0, 100.0]


def test_a_value_that_wavers_at_the_border_of_a_step_is_held() -> None:
    last = None
    shown = []
    for cpu in (4.99, 5.01, 4.0, 7.4, 0.1):
        last = steadied(last, Reading((), cpu, 1.0, 8.0))
        shown.append(last.cpu)
    assert shown == [0.0] * 5


async def test_nothing_is_painted_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's figures waver, as those of a machine at rest do."""
    loads = cycle((0.4, 3.2, 1.1, 4.6))
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: next(loads))
    memory = psutil.virtual_memory()
    free = cycle((0, 2**26, -(2**26)))
    monkeypatch.setattr(
        "psutil.virtual_memory", lambda: memory._replace(available=memory.available + next(free))
    )
    painted: list[object] = []
    async with running(str(tmp_path / "x.db")) as (app, pilot):
        await until(pilot, lambda: len(app.machine) > 0)
        # The history of the load is as long as it gets.
        app.machine.extend([app.machine[-1]] * KEPT)
        paint = app._display
        monkeypatch.setattr(
            app,
            "_display",
            lambda screen, found: (painted.append(found) if found else None, paint(screen, found)),
        )
        for _ in range(4):  # a start may still have something to paint; what paints every second never ends
            painted.clear()
            enough = len(app.machine) + 3
            await until(pilot, lambda enough=enough: len(app.machine) >= enough)
            if not painted:
                break
    assert painted == []


async def test_another_reading_paints_its_own_line_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = cycle((10.0, 40.0, 70.0))
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: next(loads))
    laid_out: list[object] = []
    async with running(str(tmp_path / "x.db")) as (app, pilot):
        await until(pilot, lambda: len(app.machine) > 3)
        layout = app.screen._refresh_layout
        monkeypatch.setattr(
            app.screen,
            "_refresh_layout",
            lambda *rest, **more: (laid_out.append(rest), layout(*rest, **more)),
        )
        enough = len(app.machine) + 3
        await until(pilot, lambda: len(app.machine) >= enough)
        assert laid_out == []
