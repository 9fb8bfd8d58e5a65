"""`persyn data`: the stored answers and datasets."""

import typer

from persyn_tui.output import JsonOption, StoreOption, emit, say, table


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    group = typer.Typer(help="Stored synthetic data: answers, scores, datasets.", no_args_is_help=True)
    group.command("datasets")(list_datasets)
    app.add_typer(group, name="data")


def list_datasets(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List datasets, newest first."""
    from storage import datasets
    from storage.store import Store

    opened = Store.open(store)
    found = [
        {
            "id": dataset.id,
            "name": dataset.name,
            "rows": datasets.count(opened, dataset.id),
            "complete": dataset.complete,
            "manifest": dict(dataset.manifest),
        }
        for dataset in datasets.list(opened)
    ]

    def show() -> None:
        if not found:
            say("no datasets yet; `persyn run FILE.yaml` builds one")
            return
        rows = [
            (row["id"], row["name"], f"{row['rows']:,}", "yes" if row["complete"] else "no") for row in found
        ]
        table(("id", "name", "rows", "complete"), rows, right=("id", "rows"))

    emit(found, as_json, show)
