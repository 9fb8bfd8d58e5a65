"""`persyn data`: stored answers, their scores and where they came from; datasets and their export.

Everything that a model or a file wrote passes `printable` before it reaches the terminal.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from persyn_tui.output import JsonOption, StoreOption, emit, say, table, tell

if TYPE_CHECKING:
    from storage.records import Dataset, ResponseContext, ResponseLine
    from storage.store import Store

DatasetArgument = Annotated[str, typer.Argument(help="Number or name of a dataset.", show_default=False)]
PromptsArgument = Annotated[
    list[int], typer.Argument(help="Numbers of prompts, column `no.` of `data list`.", show_default=False)
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Rows at most.")]
AfterOption = Annotated[int | None, typer.Option("--after", help="The last id of the page before.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    group = typer.Typer(help="Stored synthetic data: answers, scores, datasets.", no_args_is_help=True)
    group.command("list")(list_answers)
    group.command("show")(show)
    group.command("search")(search)
    group.command("datasets")(list_datasets)
    group.command("export")(export)
    group.command("exclude")(exclude)
    group.command("restore")(restore)
    app.add_typer(group, name="data")


def list_answers(
    teacher: Annotated[str | None, typer.Option("--teacher", help="Only this teacher's answers.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="ok, truncated, empty, refused, …")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="calibration, validation, synthesis, …")
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only rows of this dataset.")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help="Rows of its newest dataset.")] = None,
    limit: LimitOption = 20,
    after: AfterOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List stored answers, newest first."""
    from storage import browse
    from storage.store import Store

    opened = Store.open(store, create=False)
    _check_filters(opened, teacher, status, split)
    within = _dataset(opened, dataset, strategy) if dataset or strategy else None
    found = browse.browse(
        opened,
        teacher=teacher,
        status=status,  # type: ignore[arg-type]  # checked above
        split=split,  # type: ignore[arg-type]
        dataset_id=within.id if within else None,
        after_id=after or 0,
        limit=limit,
        newest_first=True,
    )
    _print_lines(opened, found, as_json)
    if len(found) == limit:
        say(f"more: the same command with --after {found[-1].response.id}")


def search(
    words: Annotated[
        list[str],
        typer.Argument(help="Words, all of them in the answer or in its prompt.", show_default=False),
    ],
    limit: LimitOption = 20,
    after: AfterOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find answers that hold every word, or whose prompt does, newest first."""
    from engine.printing import printable
    from storage import browse
    from storage import search as index
    from storage.store import Store

    opened = Store.open(store, create=False)
    indexed = 0
    while added := index.sync(opened):
        indexed += added
        say(f"indexed {indexed:,} prompts and answers")
    hits = index.search(opened, " ".join(words), limit=limit, after=after)
    lines = {line.response.id: line for line in browse.lines(opened, [hit.response_id for hit in hits])}
    data = [
        {
            "id": hit.response_id,
            "prompt_id": hit.prompt_id,
            "teacher": printable(lines[hit.response_id].teacher),
            "found_in": hit.found_in,
            "snippet": printable(hit.snippet),
        }
        for hit in hits
        if hit.response_id in lines
    ]

    def show_hits() -> None:
        if not data:
            say("no answer and no prompt holds all of these words")
            return
        table(
            ("id", "no.", "teacher", "in", "text"),
            [tuple(row.values()) for row in data],
            right=("id", "no."),
        )

    emit(data, as_json, show_hits)
    if len(hits) == limit:
        say(f"more: the same command with --after {hits[-1].response_id}")


def show(
    number: Annotated[
        int, typer.Argument(help="Id of an answer, as `data list` shows it.", show_default=False)
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one answer: prompt, scores, every teacher's answer to the prompt, and where it came from."""
    from engine.errors import ConfigError
    from persyn_tui import answer_view
    from storage import browse, lookup
    from storage.store import Store

    opened = Store.open(store, create=False)
    found = browse.get(opened, number)
    if found is None:
        raise ConfigError(
            f"there is no answer {number} in {opened.name}", "list them with `persyn data list`"
        )
    beside: list[ResponseContext] = []
    for other in lookup.answers(opened, found.line.response.prompt_id):
        context = found if other == number else browse.get(opened, other)
        if context is not None:
            beside.append(context)
    names = {a.plan_id: lookup.plan_teachers(opened, a.plan_id) for a in found.assignments}
    emit(answer_view.as_json(found, beside, names), as_json, lambda: answer_view.show(found, beside, names))


def list_datasets(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List datasets, newest first."""
    from storage import datasets
    from storage.store import Store

    opened = Store.open(store, create=False)
    found = [
        {
            "id": dataset.id,
            "name": dataset.name,
            "rows": datasets.count(opened, dataset.id),
            "excluded": datasets.count(opened, dataset.id, include_excluded=True)
            - datasets.count(opened, dataset.id),
            "complete": dataset.complete,
            "manifest": dict(dataset.manifest),
        }
        for dataset in datasets.list(opened)
    ]

    def show_datasets() -> None:
        if not found:
            say("no datasets yet; `persyn run FILE.yaml` builds one")
            return
        rows = [
            (
                row["id"],
                row["name"],
                f"{row['rows']:,}",
                f"{row['excluded']:,}",
                "yes" if row["complete"] else "no",
            )
            for row in found
        ]
        table(("id", "name", "rows", "excluded", "complete"), rows, right=("id", "rows", "excluded"))

    emit(found, as_json, show_datasets)


def export(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File or folder to make.", show_default=False)],
    form: Annotated[
        str, typer.Option("--format", "-f", help="messages, sharegpt, alpaca, parquet or huggingface.")
    ] = "messages",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a dataset to a new file (or folder, for huggingface), each row with its provenance."""
    from engine import export as exporting
    from storage.store import Store

    opened = Store.open(store, create=False)
    chosen = _dataset(opened, dataset, None)
    bar = _Bar()
    try:
        written = exporting.export(opened, chosen, form, out, bar.update)
    finally:
        bar.close()
    data = {
        "path": written.path,
        "format": written.format,
        "rows": written.rows,
        "excluded": written.excluded,
        "teachers": dict(written.teachers),
        "means": written.means,
    }
    emit(data, as_json, lambda: tell(f"{written.path}: {written.rows:,} rows of `{chosen.name}`"))


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
    from engine.errors import ConfigError
    from storage import datasets, lookup
    from storage.store import Store

    opened = Store.open(location, create=False)
    chosen = _dataset(opened, ref, None)
    missing = sorted(set(prompts) - lookup.dataset_prompts(opened, chosen.id, prompts))
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


def _dataset(opened: "Store", ref: str | None, strategy: str | None) -> "Dataset":
    """The dataset of this number or name (the newest of several), or the newest of a strategy."""
    from engine.errors import ConfigError
    from engine.suggest import nearest
    from storage import datasets

    found = datasets.list(opened)
    if ref is None:
        chosen = [dataset for dataset in found if dataset.name.endswith(f"/{strategy}")]
        what = f"the strategy `{strategy}`"
    elif ref.isdecimal():
        chosen = [dataset for dataset in found if dataset.id == int(ref)]
        what = f"number {ref}"
    else:
        chosen = [dataset for dataset in found if dataset.name == ref]
        what = f"the name `{ref}`"
    if not chosen:
        guess = nearest(ref, [dataset.name for dataset in found]) if ref else None
        raise ConfigError(
            f"there is no dataset of {what} in {opened.name}"
            + (f"; did you mean `{guess}`?" if guess else ""),
            "list them with `persyn data datasets`",
        )
    if len(chosen) > 1:
        say(f"{len(chosen)} datasets have {what}; taking the newest, number {chosen[0].id}")
    return chosen[0]


def _check_filters(opened: "Store", teacher: str | None, status: str | None, split: str | None) -> None:
    from engine.errors import ConfigError
    from engine.suggest import nearest
    from storage import registry
    from storage.records import Split, Status

    for option, given, known in (("status", status, get_args(Status)), ("split", split, get_args(Split))):
        if given is not None and given not in known:
            guess = nearest(given, known)
            raise ConfigError(
                f"--{option} {given}: unknown" + (f"; did you mean `{guess}`?" if guess else ""),
                f"use one of: {', '.join(known)}",
            )
    if teacher is not None:
        names = [model.name for model in registry.list(opened, "teacher", archived=True)]
        if teacher not in names:
            guess = nearest(teacher, names)
            raise ConfigError(
                f"--teacher {teacher}: not in {opened.name}"
                + (f"; did you mean `{guess}`?" if guess else ""),
                "list them with `persyn models list`",
            )


def _print_lines(opened: "Store", found: "list[ResponseLine]", as_json: bool) -> None:
    from engine.printing import printable
    from storage import lookup

    values = lookup.values(opened, [line.response.id for line in found])
    data: list[dict[str, Any]] = [
        {
            "id": line.response.id,
            "prompt_id": line.response.prompt_id,
            "prompt": printable(str(line.prompt.messages[-1]["content"])),
            "source": printable(line.prompt.source),
            "teacher": printable(line.teacher),
            "status": line.response.status,
            "finish_reason": line.response.finish_reason,
            "prompt_tokens": line.response.prompt_tokens,
            "completion_tokens": line.response.completion_tokens,
            "scores": values.get(line.response.id, {}),
            "text": printable(line.response.text),
        }
        for line in found
    ]

    def show_lines() -> None:
        if not data:
            say("no answers here; `persyn run FILE.yaml` makes some")
            return
        rows = []
        for row in data:
            scores = dict(row["scores"])
            learnability = scores.pop("learnability", None)
            quality = next((value for value in scores.values() if value is not None), None)
            rows.append(
                (
                    row["id"],
                    row["prompt_id"],
                    row["prompt"][:40],
                    row["teacher"],
                    row["status"],
                    f"{row['completion_tokens']:,}",
                    "–" if quality is None else f"{quality:.2f}",
                    "–" if learnability is None else f"{learnability:.2f}",
                    row["text"][:120],
                )
            )
        columns = ("id", "no.", "prompt", "teacher", "status", "tokens", "quality", "learn.", "answer")
        table(columns, rows, right=("id", "no.", "tokens", "quality", "learn."))

    emit(data, as_json, show_lines)


class _Bar:
    """Progress of an export on stderr: a bar with rate and ETA on a terminal, a line at the end elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("export"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("export", total=None)
        self._bar.start()

    def update(self, done: int, total: int) -> None:
        """Moves the bar."""
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """Removes the bar."""
        self._bar.stop()
