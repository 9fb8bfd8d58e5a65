"""`persyn data`: stored responses, their scores and where they came from.

Everything that a model or a file wrote passes `strip_control` before it reaches the terminal.
"""

from typing import Annotated, Any, get_args

import typer

from engine.base.errors import ConfigError
from engine.base.sanitize import strip_control
from engine.job.context import RunContext
from engine.pipeline.run_view import reader, run_of
from engine.scoring import rewards_for_prompt as rewarded
from persyn_tui.commands import datasets as dataset_commands
from persyn_tui.commands.options import check_word
from persyn_tui.commands.output import JsonOption, StoreOption, emit, say, table
from persyn_tui.views import response_view
from persyn_tui.views.dataset_view import Datasets
from storage import browse, datasets, jobs, listing, routing, scores
from storage import search as index
from storage.listing import Listing
from storage.records import Dataset, ResponseLine, Split, Status
from storage.store import Store

LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Rows at most.")]
AfterOption = Annotated[int | None, typer.Option("--after", help="The last id of the page before.")]


def list_responses(
    teacher: Annotated[str | None, typer.Option("--teacher", help="Only this teacher's responses.")] = None,
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
    """List stored responses, newest first."""
    opened = Store.open(store, create=False)
    check_word("status", status, get_args(Status))
    check_word("split", split, get_args(Split))
    if teacher is not None:
        dataset_commands.check_teacher(opened, teacher)
    within: Dataset | None = None
    if dataset:
        within = dataset_commands.named(opened, dataset)
    elif strategy:
        within = dataset_commands.of_strategy(opened, strategy)
    wanted = Listing(
        teacher=teacher,
        status=status,  # type: ignore[arg-type]  # checked above
        split=split,  # type: ignore[arg-type]
        dataset_id=within.id if within else None,
    )
    found = browse.browse(opened, wanted, after or 0, limit)
    _print_lines(opened, found, within, as_json)
    if len(found) == limit:
        say(f"more: the same command with --after {found[-1].response.id}")


def search(
    words: Annotated[
        list[str],
        typer.Argument(help="Words, all of them in the response or in its prompt.", show_default=False),
    ],
    limit: LimitOption = 20,
    after: AfterOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find responses that hold every word, or whose prompt does, newest first."""
    opened = Store.open(store, create=False)
    indexed = 0
    while added := index.sync(opened):
        indexed += added
        say(f"indexed {indexed:,} prompts and responses")
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
        rows = [tuple(row.values()) for row in data]
        nothing = "no response and no prompt holds all of these words"
        table(("id", "no.", "teacher", "in", "text"), rows, right=("id", "no."), empty=nothing)

    emit(data, as_json, show_hits)
    if len(hits) == limit:
        say(f"more: the same command with --after {hits[-1].response_id}")


def show(
    number: Annotated[
        int, typer.Argument(help="Id of a response, as `data list` shows it.", show_default=False)
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one response: prompt, scores, every teacher's response to the prompt, and where it came from."""
    opened = Store.open(store, create=False)
    found = browse.get(opened, number)
    if found is None:
        raise ConfigError(
            f"there is no response {number} in {opened.name}", "list them with `persyn data list`"
        )
    beside = browse.of_prompt(opened, found.line.response.prompt_id)
    names = {a.plan_id: routing.plan_teachers(opened, a.plan_id) for a in found.assignments}
    known = Datasets(datasets.newest_first(opened))
    rewards = rewarded.stored(beside, known.all)
    rewards = rewarded.completed(opened, rewards, beside, known.all, lambda job_id: _context(opened, job_id))
    data = response_view.as_json(found, beside, names, rewards, known)
    emit(data, as_json, lambda: response_view.show(data))


def _context(opened: Store, job_id: int) -> RunContext | None:
    """A stored job's, for reading."""
    job = jobs.get(opened, job_id)
    return None if job is None else reader(opened, run_of(job))


def _print_lines(opened: Store, found: list[ResponseLine], within: Dataset | None, as_json: bool) -> None:
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
        rows = []
        for row in data:
            quality, learnability = response_view.halves(row["scores"])
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
        numbers = ("tokens", "quality", "learn.", "reward")
        columns = ("id", "no.", "prompt", "teacher", "status", *numbers, "response")
        nothing = "no responses here; `persyn run FILE.yaml` makes some"
        table(columns, rows, right=("id", "no.", *numbers), empty=nothing)
        if rows:
            _say_scales(known, within)

    emit(data, as_json, show_lines)


def _say_scales(known: Datasets, within: Dataset | None) -> None:
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


group = typer.Typer(no_args_is_help=True)
group.command("list")(list_responses)
group.command("show")(show)
group.command("search")(search)
group.command("datasets")(dataset_commands.list_datasets)
group.command("export")(dataset_commands.export)
group.command("exclude")(dataset_commands.exclude)
group.command("restore")(dataset_commands.restore)
