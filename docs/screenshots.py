"""Takes the pictures of README and docs/app.md from a real run: `make screenshots`.

    python docs/screenshots.py [--store PATH] [--size 100x28]

Without --store it runs the demo first, into a temporary store. SVG, so that they stay sharp and small.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from textual.pilot import Pilot

from persyn_tui.app.app import PersynApp
from persyn_tui.app.base.settings import Settings
from persyn_tui.app.screens.base import BaseScreen

FOLDER = Path(__file__).parent / "screens"
SCREENS: dict[str, tuple[str, tuple[str, ...]]] = {
    "jobs": ("jobs", ()),
    "models": ("models", ()),
    "router": ("router", ()),
    "why": ("router", ("enter",)),
    "generation": ("generation", ()),
    "data": ("data", ()),
    "answers": ("data", ("enter",)),
    "distil": ("distil", ()),
    "evaluated": ("distil", ("enter", "f")),
}
"""Picture → (mode, keys pressed there). Not the logs: they name paths of the machine."""
PATIENCE_S = 120.0
"""The router that is asked why loads its backbone first."""


def settled(app: PersynApp) -> bool:
    """Whether the screen has read, and nothing is still worked out for it."""
    if not isinstance(app.screen, BaseScreen) or app.screen.state == "loading" or not app.machine:
        return False
    return all(worker.is_finished or worker.group == "live" for worker in app.workers)


async def rest(app: PersynApp, pilot: Pilot[None]) -> None:
    """Returns once the screen has settled and stays as it is, a second long."""
    clock = asyncio.get_running_loop().time
    end, seen, since = clock() + PATIENCE_S, "", clock()
    while not (settled(app) and clock() - since > 1.0):
        if clock() > end:
            raise SystemExit(f"{type(app.screen).__name__} did not come to rest within {PATIENCE_S:g} s")
        await pilot.pause(0.05)
        now = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
        if now != seen:
            seen, since = now, clock()


async def take(store: str, size: tuple[int, int]) -> None:
    """One file for each picture."""
    for name, (mode, keys) in SCREENS.items():
        app = PersynApp(store, settings=Settings(interval=0.1), start=mode)
        async with app.run_test(size=size) as pilot:
            await rest(app, pilot)
            for key in keys:
                await pilot.press(key)
                await rest(app, pilot)
            svg = app.export_screenshot(title="persyn", simplify=True)
        # Ids and class names are random; without them an unchanged screen gives an unchanged file.
        svg = re.sub(r"terminal-\d+", f"terminal-{name}", svg)
        (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")
        print(f"{name}: {len(svg) // 1000} kB", file=sys.stderr)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path)
    parser.add_argument("--size", default="100x28")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        store = options.store
        if store is None:
            store = Path(folder) / "persyn.db"
            subprocess.run([sys.executable, "-m", "persyn_tui.cli", "demo", "--store", store], check=True)
        asyncio.run(take(str(store), (width, height)))


if __name__ == "__main__":
    main()
