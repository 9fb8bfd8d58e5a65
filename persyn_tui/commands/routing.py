"""`persyn route` and `relabel`: which teacher for a prompt and why, and what another α would change."""

from pathlib import Path
from typing import Annotated

import typer

from persyn_tui.output import JsonOption, StoreOption


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    app.command("route")(route)


def route(
    prompts: Annotated[
        list[str] | None, typer.Argument(help="One argument a prompt.", show_default=False)
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="JSONL with `prompt` or `messages`.")] = None,
    router: Annotated[
        int | None, typer.Option("--router", help="Router number; default: the newest.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which teacher a trained router chooses for prompts, and why."""
    from engine import tools

    options = ["--file", str(file)] if file else []
    options += ["--router", str(router)] if router else []
    tools.replace("route", prompts or [], options, store=store, as_json=as_json)
