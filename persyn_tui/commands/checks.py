"""`persyn doctor` and `schema`: this machine, a run file's models, and the run file's schema."""

from pathlib import Path
from typing import Annotated

import typer

from engine import tools
from engine.config import json_schema
from engine.registry import run_files
from persyn_tui.commands.output import JsonOption, StoreOption


def doctor(
    file: Annotated[Path | None, typer.Argument(help="Run file to try.", show_default=False)] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine and, with a run file, each of its models: template, mask, context, one token."""
    if file is not None:
        run_files.load(file, store)  # a wrong run file is told at once, before torch is imported
    tools.replace("doctor", [str(file)] if file else [], [], store=store, as_json=as_json)


def schema() -> None:
    """Print the JSON Schema of a run file, for editors."""
    print(json_schema.json_schema())
