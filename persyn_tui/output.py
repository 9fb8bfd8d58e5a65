"""Where commands print: data on stdout (a table, or JSON with `--json`), narration on stderr."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="PERSYN_STORE",
        help="Database path or URL.",
        show_default="persyn.db in the data folder",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def emit(data: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Prints `data` as JSON, or lets `show` print it for people."""
    if as_json:
        from engine.printing import json_line

        print(json_line(data))
    else:
        show()


def say(message: str) -> None:
    """A message on stderr, harmless to the terminal."""
    from engine.printing import printable

    print(printable(message), file=sys.stderr)


def tell(message: str) -> None:
    """A message on stdout, harmless to the terminal."""
    from engine.printing import printable

    print(printable(message))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Prints a table on stdout; cells are shown as plain text, harmless to the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from engine.printing import printable

    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        view.add_column(
            column, justify="right" if column in right else "left", overflow="ellipsis", no_wrap=True
        )
    for row in rows:
        view.add_row(*(Text(printable(str(cell)).replace("\n", " ")) for cell in row))
    console = Console()
    if not console.is_terminal:
        # A pipe has no width; cutting cells to 80 columns would lose data.
        console = Console(width=max(200, console.width))
    console.print(view)
