"""`persyn models`: the registry of teachers and students."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from persyn_tui.output import JsonOption, StoreOption, emit, say, table

if TYPE_CHECKING:
    from storage.records import Model


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    group = typer.Typer(help="Registered teachers and students.", no_args_is_help=True)
    group.command("list")(list_models)
    app.add_typer(group, name="models")


def list_models(
    role: Annotated[str | None, typer.Option("--role", help="teacher, student or reward_model.")] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Archived models too.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List registered models, the newest settings of each name."""
    from storage import registry
    from storage.store import Store

    found = registry.list(Store.open(store), role, archived=archived)  # type: ignore[arg-type]

    def show() -> None:
        if not found:
            say("no models yet; `persyn models add` registers one, and a run registers those of its file")
            return
        rows = [
            (item.name, item.role, item.backend, item.model, item.family or "–", _count(item.parameters))
            for item in found
        ]
        table(("name", "role", "backend", "model", "family", "parameters"), rows, right=("parameters",))

    emit([_as_json(model) for model in found], as_json, show)


def _as_json(model: "Model") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(model)


def _count(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"
