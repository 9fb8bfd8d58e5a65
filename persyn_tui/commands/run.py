"""`persyn run`, `compare` and `demo`: start a job here or in the background, or only say what it would cost."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from platformdirs import user_data_path
from rich.console import Console

from engine.base.errors import ConfigError
from engine.base.plugins import STRATEGIES
from engine.config.run_file import Run
from engine.job import stage_names
from engine.methods import strategy_kinds
from engine.pipeline import launch, preflight
from engine.registry import run_files
from engine.report import dry_run as dryrun
from engine.report import estimate
from engine.zoo import resolve
from persyn_tui.commands.options import check_word
from persyn_tui.commands.output import JsonOption, StoreOption, emit, say, tell
from storage import jobs
from storage.errors import StoreMissingError
from storage.store import Store

FileArgument = Annotated[Path, typer.Argument(help="Run file (YAML).", show_default=False)]
UntilOption = Annotated[str | None, typer.Option("--until", help="Stop after this stage.")]
DetachOption = Annotated[
    bool, typer.Option("--detach", "-d", help="Run in the background; outlives the terminal.")
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only print generations, tokens, cost and time; exit code 2 where the run would be refused.",
    ),
]


def run(
    file: FileArgument,
    until: UntilOption = None,
    detach: DetachOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run or resume a run file: the same command again goes on where it stopped."""
    check_word("until", until, stage_names.STAGES)
    loaded = run_files.load(file, store)
    if dry_run:
        _estimate(loaded, store, as_json, until or stage_names.STAGES[-1])
        return
    _start(loaded, store, until=until, detach=detach, as_json=as_json)


def compare(
    file: FileArgument,
    detach: DetachOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run every strategy at the same prompt budget, and compare the students prompt by prompt."""
    loaded = run_files.load(file, store)
    usable, names = strategy_kinds.names(), []
    for name in (*usable, *(name for name in STRATEGIES.names() if name not in usable)):
        try:
            strategy_kinds.load(name).loads(loaded.evidence, 1.0)
        except ConfigError as problem:
            say(f"compare: without `{name}`: {problem.message}")
        else:
            names.append(name)
    loaded = loaded.model_copy(update={"strategies": tuple(names)})
    if dry_run:
        _estimate(loaded, store, as_json)
        return
    _start(loaded, store, until=None, detach=detach, as_json=as_json)


def demo(
    models: Annotated[
        str, typer.Option("--models", help="zoo (embedded, minutes) or smollm2 (real, longer).")
    ] = "zoo",
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            envvar="PERSYN_STORE",
            help="Database path or URL.",
            show_default="demo/zoo.db in the data folder",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole pipeline on embedded models and compare all strategies."""
    files = {"zoo": "demo.yaml", "smollm2": "smollm2.yaml"}
    check_word("models", models, list(files))
    loaded = run_files.load(Path(resolve.__file__).parent / files[models])
    _start(loaded, store or _demo_store(models), until=None, detach=False, as_json=as_json)


def _start(loaded: Run, location: str | None, *, until: str | None, detach: bool, as_json: bool) -> None:
    opened = Store.open(location)
    for line in run_files.notes(loaded):
        say(line)
    job, created = launch.submit(opened, loaded, until=until)
    live = jobs.alive(job)
    if live:
        say(
            f"job {job.id} is already running (pid {job.pid} on {job.host}); follow it with `persyn watch {job.id}`"
        )
    elif created:
        say(f"job {job.id}: starting")
    else:
        say(f"resuming job {job.id} ({job.effective_state})")
    if detach or live:
        if not live:
            launch.detach(opened, job)
        data = {
            "job": job.id,
            "state": "running" if live else "started",
            "log": str(jobs.log_path(opened, job.id)),
        }
        emit(data, as_json, lambda: tell(f"job {job.id}  log {data['log']}\npersyn watch {job.id}"))
        opened.close()
        return
    launch.here(opened, job, as_json=as_json)


def _demo_store(models: str) -> str:
    """The demo's own store: resumed when it was interrupted; a finished one is kept under another name."""
    path = user_data_path("persyn") / "demo" / f"{models}.db"
    if path.exists():
        opened = Store.open(path)
        finished = any(job.state == "done" for job in jobs.recent(opened))
        running = any(map(jobs.alive, jobs.recent(opened)))
        folder = opened.folder
        opened.close()
        if finished and not running:
            kept = path.with_stem(f"{models}-{time.strftime('%Y%m%d-%H%M%S')}")
            for suffix in ("-wal", "-shm", ""):
                if (part := path.with_name(path.name + suffix)).exists():
                    part.rename(kept.with_name(kept.name + suffix))
            if folder.exists():
                folder.rename(kept.with_suffix(".files"))
            say(f"the finished demo of before is kept: persyn --store {kept}")
    return str(path)


def _estimate(loaded: Run, location: str | None, as_json: bool, until: str = stage_names.STAGES[-1]) -> None:
    problems, notes = preflight.problems(loaded), run_files.notes(loaded)
    try:
        try:
            with Store.open(location, create=False) as opened:
                found = estimate.from_store(loaded, opened, until)
        except StoreMissingError:
            found = estimate.estimate(loaded, until=until)
    except ConfigError:
        if problems:  # the cause, where a source cannot be read
            raise preflight.together(problems) from None
        raise
    data: dict[str, Any] = estimate.as_json(found)
    data["problems"] = [{"message": problem.message, "remedy": problem.remedy} for problem in problems]
    data["notes"] = notes
    emit(data, as_json, lambda: Console().print(dryrun.render(found)))
    for line in notes:
        say(line)
    if problems:
        say("\nThe run itself would be refused here:")
    for problem in problems:
        say(f"✗ {problem.message}" + (f"\n  → {problem.remedy}" if problem.remedy else ""))
    if problems:
        raise typer.Exit(ConfigError.exit_code)
