"""`persyn`: the app when called alone, and every command. Errors end as one message with its remedy."""

import os
from importlib import import_module, metadata
from typing import Any

import typer
from typer.core import TyperGroup

from persyn_tui.commands.output import StoreOption, say
from storage.errors import PersynError

HELP = """Router-guided multi-teacher distillation: route each prompt to the teacher that suits this student,
then generate.

Data goes to stdout, narration to stderr. Exit codes: 0 done, 2 usage or configuration, 3 needs attention,
130 cancelled."""

COMMANDS = {
    "init": ("init", "init", "Write a commented run file from the registered models, with every setting."),
    "run": ("run", "run", "Run or resume a run file: the same command again goes on where it stopped."),
    "compare": ("run", "compare", "Run every strategy at the same prompt budget, and compare the students."),
    "demo": ("run", "demo", "Run the whole pipeline on embedded models and compare all strategies."),
    "jobs": ("jobs", "list_jobs", "List jobs, newest first: state, stage, progress, rate, ETA."),
    "watch": ("jobs", "watch", "Follow a job until it ends; leaving (ctrl+c) does not touch the job."),
    "cancel": ("jobs", "cancel", "Ask a job to stop at its next batch; the same run resumes it."),
    "concurrency": ("jobs", "concurrency", "Ask more or less of a teacher's endpoint while a job runs."),
    "route": ("routing", "route", "Say which teacher a trained router chooses for prompts, and why."),
    "relabel": (
        "routing",
        "relabel",
        "Say what another α or normalization would change, from stored scores.",
    ),
    "doctor": ("checks", "doctor", "Check this machine and, with a run file, each of its models."),
    "verify": (
        "verify",
        "verify",
        "Judge answers by their references as a run would, before it is paid for.",
    ),
    "schema": ("checks", "schema", "Print the JSON Schema of a run file, for editors."),
    "serve": ("serve", "serve", "Show the terminal app in a browser, until ctrl+c."),
    "data": ("data", "group", "Stored synthetic data: responses, scores, datasets."),
    "models": ("models", "group", "Registered teachers and students."),
    "zoo": ("zoo", "group", "Small real models: in the package, or to be fetched."),
}
"""Name → (module of `persyn_tui.commands`, function or group of commands in it, its line in the help)."""


class LazyGroup(TyperGroup):
    """Imports a command's module when the command is called: the help of them all imports none."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """(name, command, arguments left), as the base class finds them, with the real command."""
        name, command, left = super().resolve_command(ctx, args)
        return name, command and _load(str(name)), left


def _load(name: str) -> Any:
    """The command or group of this name, its module imported."""
    module, attribute, line = COMMANDS[name]
    target = getattr(import_module(f"persyn_tui.commands.{module}"), attribute)
    holder = typer.Typer()
    if isinstance(target, typer.Typer):
        holder.add_typer(target, name=name, help=line)
    else:
        holder.command(name)(target)
    return typer.main.get_group(holder).commands[name]


app = typer.Typer(
    name="persyn",
    help=HELP,
    cls=LazyGroup,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, (_, _, _help) in COMMANDS.items():
    app.command(_name, help=_help)(lambda: None)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version."),
    store: StoreOption = None,
) -> None:
    """Without a command: the terminal app."""
    if version:
        print(f"persyn {metadata.version('persyn')}")
        raise typer.Exit
    if store is not None:
        os.environ["PERSYN_STORE"] = store  # `persyn --store PATH data list`: the command asks there
    if context.invoked_subcommand is None:
        # Imported here: no command waits for textual, and the collector rests before it is imported.
        from persyn_tui.app.textual_fixes import gc_tuning

        gc_tuning.rest()
        from persyn_tui.app.app import run as run_app

        raise typer.Exit(run_app(store))


def main() -> None:
    """Runs the command line; the process ends with the exit code."""
    try:
        app()
    except PersynError as error:
        say(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        say("cancelled")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
