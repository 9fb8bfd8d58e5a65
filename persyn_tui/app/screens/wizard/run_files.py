"""The run files that the wizard offers."""

from pathlib import Path

import engine
from engine.zoo import resolve

LISTED = 200
"""Run files that are offered at most."""


def in_reach() -> list[tuple[str, str]]:
    """(path, its first comment) of the run files in reach: here, in `examples`, and those of the package."""
    package = Path(engine.__file__).parent
    here = Path.cwd()
    folders = [here, here / "examples", package.parent / "examples", Path(resolve.__file__).parent]
    found: dict[Path, tuple[str, str]] = {}
    for folder in folders:
        for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")))[:LISTED]:
            # One file under two names is one run.
            name = path.relative_to(here) if path.is_relative_to(here) else path
            found.setdefault(path.resolve(), (str(name), _first_comment(path)))
    return [*found.values()][:LISTED]


def _first_comment(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            line = file.readline(300).strip()
    except OSError:
        return "cannot be read"
    return line.lstrip("# ") if line.startswith("#") else ""
