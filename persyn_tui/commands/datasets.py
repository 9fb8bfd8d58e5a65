"""`persyn data datasets`, `export`, `exclude`, `restore`: the rows that a student is trained on."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.base.errors import ConfigError
from engine.base.suggest import hint
from engine.report import export as exporting
from persyn_tui.commands.output import JsonOption, StoreOption, emit, say, table, tell
from persyn_tui.views.dataset_view import Datasets
from storage import datasets, registry
from storage.listing import Listing
from storage.records import Dataset
from storage.store import Store

DatasetArgument = Annotated[
    str,
    typer.Argument(help="Number of a dataset, or its name where no other has the same.", show_default=False),
]
PromptsArgument = Annotated[
    list[int], typer.Argument(help="Numbers of prompts, column `no.` of `data list`.", show_default=False)
]


def list_datasets(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List datasets, newest first."""
    opened = Store.open(store, create=False)
    known = Datasets(datasets.newest_first(opened))
    found = []
    for one in known.all:
        rows, every = (datasets.count(opened, one.id, include_excluded=both) for both in (False, True))
        counted = {"rows": rows, "excluded": every - rows, "complete": one.complete}
        found.append({"id": one.id, "name": one.name, **counted, "manifest": dict(one.manifest)})

    def show_datasets() -> None:
        rows = [
            (
                row["id"],
                row["name"],
                dataset.manifest.get("job", "–"),
                known.reward_words(dataset.id) or "none",
                f"{row['rows']:,}",
                f"{row['excluded']:,}",
                "yes" if row["complete"] else "no",
            )
            for dataset, row in zip(known.all, found, strict=True)
        ]
        columns = ("id", "name", "job", "reward", "rows", "excluded", "complete")
        nothing = "no datasets yet; `persyn run FILE.yaml` builds one"
        table(columns, rows, right=("id", "job", "rows", "excluded"), empty=nothing)

    emit(found, as_json, show_datasets)


def export(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File or folder to make.", show_default=False)],
    form: Annotated[
        str, typer.Option("--format", "-f", help="messages, sharegpt, alpaca, parquet or huggingface.")
    ] = "messages",
    teacher: Annotated[str | None, typer.Option("--teacher", help="Only responses of this teacher.")] = None,
    quality: Annotated[
        float | None, typer.Option("--min-quality", help="Only rows of at least this.")
    ] = None,
    learnability: Annotated[
        float | None, typer.Option("--min-learnability", help="Only rows of at least this, nats per token.")
    ] = None,
    reward: Annotated[float | None, typer.Option("--min-reward", help="Only rows of at least this.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a dataset to a new file (or folder, for huggingface), each row with its provenance."""
    opened = Store.open(store, create=False)
    chosen = named(opened, dataset)
    if teacher is not None:
        check_teacher(opened, teacher)
    for option, bound in (("quality", quality), ("learnability", learnability), ("reward", reward)):
        if bound is not None and not math.isfinite(bound):
            raise ConfigError(f"--min-{option} {bound}: not a number", "give one, e.g. 0.5")
    only = exporting.passing(
        opened, chosen, Listing(teacher, quality=quality, learnability=learnability, reward=reward)
    )
    with _bar() as update:
        written = exporting.export(opened, chosen, form, out, update, only)
    data = {
        "path": written.path,
        "format": written.format,
        "rows": written.rows,
        "excluded": written.excluded,
        "filtered": written.filtered,
        "teachers": dict(written.teachers),
        "means": written.means,
    }
    emit(data, as_json, lambda: tell(f"{written.path}: {written.rows:,} rows of `{chosen.name}`"))


def check_teacher(opened: Store, name: str) -> None:
    """Refuses a `--teacher` that the store does not have, with the nearest that it has."""
    names = [model.name for model in registry.models(opened, "teacher", archived=True)]
    if name not in names:
        raise ConfigError(
            f"--teacher {name}: not in {opened.name}{hint(name, names)}",
            "list them with `persyn models list`",
        )


def exclude(
    dataset: DatasetArgument, prompts: PromptsArgument, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Take rows out of a dataset; they stay visible and are not trained on or exported."""
    _mark(store, dataset, prompts, True, as_json)


def restore(
    dataset: DatasetArgument, prompts: PromptsArgument, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Put excluded rows back."""
    _mark(store, dataset, prompts, False, as_json)


def _mark(location: str | None, ref: str, prompts: list[int], excluded: bool, as_json: bool) -> None:
    opened = Store.open(location, create=False)
    chosen = named(opened, ref)
    missing = sorted(set(prompts) - datasets.prompts_in(opened, chosen.id, prompts))
    if missing:
        raise ConfigError(
            f"dataset `{chosen.name}` has no row for prompt {', '.join(map(str, missing))}; nothing was changed",
            f"`persyn data list --dataset {chosen.id} --json` shows its prompts",
        )
    changed = datasets.exclude(opened, chosen.id, prompts, excluded)
    left = datasets.count(opened, chosen.id)
    word, undo = ("excluded", "restore") if excluded else ("restored", "exclude")
    data = {"dataset": chosen.id, "changed": changed, "rows": left}

    def show_change() -> None:
        if not changed:
            tell(f"nothing to do: {'they are' if len(prompts) > 1 else 'it is'} {word} already")
            return
        rows = "row" if changed == 1 else "rows"
        tell(f"{word} {changed:,} {rows}; `{chosen.name}` now has {left:,}")
        say("the student is distilled anew by the next `persyn run`")
        say(f"undo: persyn data {undo} {chosen.id} {' '.join(map(str, prompts))}")

    emit(data, as_json, show_change)


def named(opened: Store, ref: str) -> Dataset:
    """The dataset of this number, or of this name where it is the only one.

    Raises:
        ConfigError: there is none, or several have the name: which one is meant would be a guess.
    """
    known = Datasets(datasets.newest_first(opened))
    found = known.find(ref)
    if not found:
        what = f"number {ref}" if ref.isdecimal() else f"the name `{ref}`"
        near = hint(ref, [dataset.name for dataset in known.all])
        raise ConfigError(
            f"there is no dataset of {what} in {opened.name}{near}",
            "list them with `persyn data datasets`",
        )
    if len(found) > 1:
        rows = {one.id: datasets.count(opened, one.id) for one in found}
        raise ConfigError(
            f"{len(found)} datasets have the name `{ref}`: {known.which(found, rows)}",
            f"use the number: {found[0].id} is the newest",
        )
    return found[0]


def of_strategy(opened: Store, strategy: str) -> Dataset:
    """The newest dataset of a strategy; says which, where there are others."""
    known = Datasets(datasets.newest_first(opened))
    found = [dataset for dataset in known.all if dataset.name.endswith(f"/{strategy}")]
    if not found:
        raise ConfigError(
            f"there is no dataset of the strategy `{strategy}` in {opened.name}",
            "list them with `persyn data datasets`",
        )
    if len(found) > 1:
        say(f"the newest of {len(found)} datasets of `{strategy}`: {known.about(found[0])}")
    return found[0]


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar with its ETA on stderr where that is a terminal; what it gives is called with (rows written, in all)."""
    console = Console(stderr=True)
    columns = (TextColumn("export"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("export", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
