"""`persyn route` and `relabel`: which teacher for a prompt and why, and what another α would change."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from engine import tools
from engine.base import atomic_write
from engine.base.errors import ConfigError
from engine.config import stages
from engine.config.run_file import Run
from engine.job import scorer_ids
from engine.pipeline import run_view
from engine.pipeline.run_view import run_of
from engine.registry import run_files
from engine.scoring import score_table
from engine.scoring import what_if as relabelling
from engine.scoring.what_if import Relabelled
from persyn_tui.commands.output import JsonOption, StoreOption, emit, say, table, tell
from storage import jobs, prompts
from storage.store import Store


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
    if not prompts and file is None:
        raise ConfigError("there is no prompt to route", "give a prompt in quotes, or --file FILE.jsonl")
    options = ["--file", str(file)] if file else []
    options += ["--router", str(router)] if router is not None else []
    tools.replace("route", prompts or [], options, store=store, as_json=as_json)


def relabel(
    file: Annotated[
        Path | None,
        typer.Argument(help="Run file (YAML) that has been run.", show_default="that of the newest job"),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", help="Weight of learnability to try, 0 to 1.")
    ] = None,
    normalization: Annotated[
        str | None, typer.Option("--normalization", help="zscore, minmax or rank to try.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="New JSONL file: each prompt's scores, rewards and best teachers."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what another α or normalization would change, from stored scores: no generation, no forward pass."""
    loaded = run_files.load(file, store) if file else None
    if alpha is None and normalization is None:
        raise ConfigError("nothing to try", "give --alpha A, --normalization NAME, or both")
    if out is not None:
        atomic_write.refuse(out)
    opened = Store.open(store, create=False)
    loaded = loaded or _newest_run(opened)
    old = loaded.reward
    tried = {"alpha": alpha, "normalization": normalization}
    changes = {key: value for key, value in tried.items() if value is not None}
    try:
        new = stages.RewardConfig.model_validate({**old.model_dump(), **changes})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ConfigError(
            f"--{problem['loc'][0]} {problem['input']}: {problem['msg']}",
            "alpha is a number from 0 to 1; normalization is zscore, minmax or rank",
        ) from None
    context = run_view.reader(opened, loaded)
    known = score_table.gather(context, context.calibration.labelled)
    trained = score_table.gather(context, ("calibration",))
    found = relabelling.compare(known, trained, old, new, loaded.router.targets, loaded.router.ties)
    if not found.prompts:
        raise ConfigError(
            "no prompt of this run has responses with both scores yet",
            f"run `persyn run {file or 'FILE'} --until score` first",
        )
    incomplete = scorer_ids.incomplete(context, context.calibration.labelled)
    for name, (given, usable) in incomplete.items():
        say(
            f"▲ {name} has scored {given:,} of {usable:,} responses, and the others count as unknown here: "
            f"`persyn run {file or 'FILE'} --until score` scores them"
        )
    names = [teacher.name for teacher in context.teachers]
    settings = ", ".join(f"{key}: {getattr(new, key)}" for key in ("alpha", "normalization"))
    advice = (
        f"to keep it, set `reward: {{{settings}}}` in {file or 'its run file'} and run it again; "
        "only the router and what follows from it are made anew"
    )
    data = {
        "from": old.model_dump(),
        "to": new.model_dump(),
        **asdict(found),
        "before": dict(zip(names, found.before, strict=True)),
        "after": dict(zip(names, found.after, strict=True)),
        "advice": advice,
        "incomplete": {name: {"scores": given, "responses": of} for name, (given, of) in incomplete.items()},
    }
    if out is not None:
        _write(out, relabelling.lines(known, old, new, names, prompts.get(opened, known.prompt_ids.tolist())))
        say(f"{out}: {len(known.prompt_ids):,} prompts")
    emit(data, as_json, lambda: _show(found, names, old.alpha, new.alpha, advice))


def _newest_run(opened: Store) -> Run:
    newest = jobs.recent(opened, limit=1)
    if not newest:
        raise ConfigError(f"{opened.name} has no jobs", "name a run file: persyn relabel FILE.yaml --alpha A")
    job = newest[0]
    say(f"job {job.id} ({job.name}), the newest of {opened.name}")
    return run_of(job)


def _write(out: Path, rows: Iterator[dict[str, Any]]) -> None:
    def fill(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    atomic_write.write(out, fill)


def _show(found: Relabelled, names: list[str], old: float, new: float, advice: str) -> None:
    rows = [
        (name, f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else "")
        for name, before, after in zip(names, found.before, found.after, strict=True)
    ]
    tell(
        f"{found.best_changed:,} of {found.prompts:,} prompts get another best teacher; "
        f"{found.pairs_changed:,} of {found.pairs:,} training pairs change"
    )
    table(
        ("best teacher", f"α {old:g}", f"α {new:g}", "change"),
        rows,
        right=(f"α {old:g}", f"α {new:g}", "change"),
    )
    if found.idle:
        tell(found.idle)
    tell(advice)
