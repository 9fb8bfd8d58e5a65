"""`persyn init`: a run file to start from."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from engine.base import atomic_write
from engine.config import run_file
from engine.registry import new_run, run_file_writer
from persyn_tui.commands.output import JsonOption, StoreOption, emit, say, tell
from storage.errors import StoreMissingError
from storage.store import Store

FileArgument = Annotated[Path, typer.Argument(help="Where to write it; `-`: on stdout.")]


def init(
    file: FileArgument = Path("run.yaml"), store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Write a commented run file from the registered models, with every setting and its default."""
    on_stdout = str(file) == "-"
    if not on_stdout:
        atomic_write.refuse(file)
    start = new_run.from_store(_opened(store))
    if not on_stdout:
        start.data["name"] = file.stem[:200]
    text = run_file_writer.text(start.data, notes=start.notes)
    run = run_file.parse(text, where=str(file))  # as it is read later
    if not on_stdout:
        atomic_write.write(file, lambda path: path.write_text(text, encoding="utf-8"))
    for one in start.missing:
        say(f"{one.what}\n  → {one.remedy}")
    teachers = [one.name for one in run.teachers]

    def show() -> None:
        if on_stdout:
            print(text, end="")
            return
        tell(f"{file}: {', '.join(teachers)} → {run.student.name}")
        say(f"next: `persyn run --dry-run {file}` counts what it would take")

    missing = [asdict(one) for one in start.missing]
    data = {"file": str(file), "teachers": teachers, "student": run.student.name, "missing": missing}
    emit({**data, "text": text}, as_json, show)


def _opened(location: str | None) -> Store | None:
    """The store; None where there is none yet, which writing a run file is no reason to make."""
    try:
        return Store.open(location, create=False)
    except StoreMissingError:
        return None
