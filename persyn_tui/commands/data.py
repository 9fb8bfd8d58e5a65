"""`persyn data`: stored answers, their scores and where they came from.

Everything that a model or a file wrote passes `strip_control` before it reaches the terminal.
"""

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from persyn_tui.commands import datasets as dataset_commands
from persyn_tui.output import JsonOption, StoreOption, emit, say, table

if TYPE_CHECKING:
    from engine.job.context import RunContext
    from persyn_tui.dataset_view import Datasets
    from storage.records import Dataset, ResponseContext, ResponseLine
    from storage.store import Store

LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Rows at most.")]
AfterOption = Annotated[int | None, typer.Option("--after", help="The last id of the page before.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    group = typer.Typer(help="Stored synthetic data: answers, scores, datasets.", no_args_is_help=True)
    group.command("list")(list_answers)
    group.command("show")(show)
    group.command("search")(search)
    dataset_commands.register(group)
    app.add_typer(group, name="data")


def list_answers(
    teacher: Annotated[str | None, typer.Option("--teacher", help="Only this teacher's answers.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="ok, truncated, empty, refused, …")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="calibration, validation, synthesis, …")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Only rows of this dataset: its number or name.")
    ] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help="Rows of its newest dataset.")] = None,
    limit: LimitOption = 20,
    after: AfterOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List stored answers, newest first."""
    from storage import browse
    from storage.listing import Listing
    from storage.store import Store

    opened = Store.open(store, create=False)
    _check_filters(opened, teacher, status, split)
    within: Dataset | None = None
    if dataset:
        within = dataset_commands.named(opened, dataset)
    elif strategy:
        within = dataset_commands.of_strategy(opened, strategy)
    listing = Listing(
        teacher=teacher,
        status=status,  # type: ignore[arg-type]  # checked above
        split=split,  # type: ignore[arg-type]
        dataset_id=within.id if within else None,
    )
    found = browse.browse(opened, listing, after or 0, limit)
    _print_lines(opened, found, within, as_json)
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
    from engine.base.sanitize import strip_control
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
            "teacher": strip_control(lines[hit.response_id].teacher),
            "found_in": hit.found_in,
            "snippet": strip_control(hit.snippet),
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
    from engine.base.errors import ConfigError
    from engine.scoring import rewards_for_prompt as rewarded
    from persyn_tui import answer_view
    from persyn_tui.dataset_view import Datasets
    from storage import browse, datasets, responses, routing
    from storage.store import Store

    opened = Store.open(store, create=False)
    found = browse.get(opened, number)
    if found is None:
        raise ConfigError(
            f"there is no answer {number} in {opened.name}", "list them with `persyn data list`"
        )
    beside: list[ResponseContext] = []
    for other in responses.ids_of_prompt(opened, found.line.response.prompt_id):
        context = found if other == number else browse.get(opened, other)
        if context is not None:
            beside.append(context)
    names = {a.plan_id: routing.plan_teachers(opened, a.plan_id) for a in found.assignments}
    known = Datasets(datasets.newest_first(opened))
    rewards = rewarded.stored(beside, known.all)
    rewards = rewarded.completed(opened, rewards, beside, known.all, lambda job_id: _context(opened, job_id))
    data = answer_view.as_json(found, beside, names, rewards, known)
    emit(data, as_json, lambda: answer_view.show(data))


def _context(opened: "Store", job_id: int) -> "RunContext | None":
    """A stored job's, for reading."""
    from engine.pipeline.run_view import reader, run_of
    from storage import jobs

    job = jobs.get(opened, job_id)
    return None if job is None else reader(opened, run_of(job))


def _check_filters(opened: "Store", teacher: str | None, status: str | None, split: str | None) -> None:
    from engine.base.errors import ConfigError
    from engine.base.suggest import nearest
    from storage.records import Split, Status

    for option, given, known in (("status", status, get_args(Status)), ("split", split, get_args(Split))):
        if given is not None and given not in known:
            guess = nearest(given, known)
            raise ConfigError(
                f"--{option} {given}: unknown" + (f"; did you mean `{guess}`?" if guess else ""),
                f"use one of: {', '.join(known)}",
            )
    if teacher is not None:
        dataset_commands.check_teacher(opened, teacher)


def _print_lines(
    opened: "Store", found: "list[ResponseLine]", within: "Dataset | None", as_json: bool
) -> None:
    from engine.base.sanitize import strip_control
    from persyn_tui.dataset_view import Datasets
    from storage import datasets, listing, scores

    ids = [line.response.id for line in found]
    values = scores.by_kind(opened, ids)
    known = Datasets(datasets.newest_first(opened))
    rewards = listing.rewards(opened, ids, within.id if within else None)
    data: list[dict[str, Any]] = [
        {
            "id": line.response.id,
            "prompt_id": line.response.prompt_id,
            "prompt": strip_control(str(line.prompt.messages[-1]["content"])),
            "source": strip_control(line.prompt.source),
            "teacher": strip_control(line.teacher),
            "status": line.response.status,
            "finish_reason": line.response.finish_reason,
            "prompt_tokens": line.response.prompt_tokens,
            "completion_tokens": line.response.completion_tokens,
            "scores": values.get(line.response.id, {}),
            "reward": rewards[line.response.id][0] if line.response.id in rewards else None,
            "reward_dataset": rewards[line.response.id][1] if line.response.id in rewards else None,
            "text": strip_control(line.response.text),
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
            letter = "" if within else known.letter(row["reward_dataset"])
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
                    "–" if row["reward"] is None else f"{row['reward']:+.2f} {letter}".rstrip(),
                    row["text"][:120],
                )
            )
        columns = (
            "id",
            "no.",
            "prompt",
            "teacher",
            "status",
            "tokens",
            "quality",
            "learn.",
            "reward",
            "answer",
        )
        table(columns, rows, right=("id", "no.", "tokens", "quality", "learn.", "reward"))
        _say_scales(known, within)

    emit(data, as_json, show_lines)


def _say_scales(known: "Datasets", within: "Dataset | None") -> None:
    """Says what the rewards of a list were made with, where that is not the same everywhere in the store."""
    if known.scales < 2:
        return
    if within is not None:
        say(f"reward: {known.reward_words(within.id) or 'none in this dataset'}")
        return
    say(f"rewards of {known.scales} settings, not comparable with each other: {', '.join(known.legend())}")
    say(
        "each row's is that of its newest dataset; --dataset NUMBER shows those of one (`persyn data datasets`)"
    )
