"""`persyn`: the app when called alone, and every command. Errors end as one message with its remedy."""

import os

import typer

from persyn_tui.commands import data, init, jobs, models, routing, run, serve, zoo
from persyn_tui.output import StoreOption, say

HELP = """Router-guided multi-teacher distillation: route each prompt to the teacher that suits this student,
then generate.

Data goes to stdout, narration to stderr. Exit codes: 0 done, 2 usage or configuration, 3 needs attention,
130 cancelled."""

app = typer.Typer(
    name="persyn",
    help=HELP,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (init, run, jobs, data, models, routing, zoo, serve):
    module.register(app)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version."),
    store: StoreOption = None,
) -> None:
    """Without a command: the terminal app."""
    if version:
        from importlib.metadata import version as installed

        print(f"persyn {installed('persyn')}")
        raise typer.Exit
    if store is not None:
        os.environ["PERSYN_STORE"] = store  # `persyn --store PATH data list`: the command asks there
    if context.invoked_subcommand is None:
        from persyn_tui.app.textual_fixes import gc_tuning

        gc_tuning.rest()
        from persyn_tui.app.app import run as run_app

        raise typer.Exit(run_app(store))


def main() -> None:
    """Runs the command line; the process ends with the exit code."""
    from storage.errors import PersynError

    try:
        app()
    except PersynError as error:
        say(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
