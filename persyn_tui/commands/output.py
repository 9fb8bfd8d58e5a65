"""Where commands print: data on stdout (a table, or JSON with `--json`), narration on stderr."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from engine.base.sanitize import json_line, strip_control

_ENDLESS = 100_000

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
    try:
        if as_json:
            print(json_line(data))
        else:
            show()
        sys.stdout.flush()
    except BrokenPipeError:
        # `persyn data list | head`: the reader has what it wanted, which is no failure (click would exit with 1).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def say(message: str) -> None:
    """A message on stderr, harmless to the terminal."""
    print(strip_control(message), file=sys.stderr)


def tell(message: str) -> None:
    """A message on stdout, harmless to the terminal."""
    print(strip_control(message))


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = (), empty: str = ""
) -> None:
    """Prints a table on stdout, or says `empty` where it has no rows; cells are plain text, harmless to the terminal.

    Where it is wider than the terminal the widest texts are cut first; the first column and numbers (`right`) never.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if empty and not rows:
        say(empty)
        return

    def line(cell: object) -> Text:
        return Text(strip_control(str(cell)).replace("\n", " "), no_wrap=True, overflow="ellipsis")

    console = Console()
    if not console.is_terminal:
        console = Console(width=_ENDLESS)  # a pipe has no width: nothing is cut
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        whole = name in right or name == columns[0]
        view.add_column(line(name), justify="right" if name in right else "left", no_wrap=whole)
    for row in rows:
        view.add_row(*map(line, row))
    console.print(view)
