"""Where commands print: data on stdout (a table, or JSON with `--json`), narration on stderr."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from engine.base.sanitize import json_line, strip_control

_LEAST = 5
"""A narrower column says nothing."""
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
    with _until_the_reader_leaves():
        if as_json:
            print(json_line(data))
        else:
            show()
        sys.stdout.flush()


@contextmanager
def _until_the_reader_leaves() -> Iterator[None]:
    """`persyn data list | head`: the reader has what it wanted, which is no failure (click would exit with 1)."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def say(message: str) -> None:
    """A message on stderr, harmless to the terminal."""
    print(strip_control(message), file=sys.stderr)


def tell(message: str) -> None:
    """A message on stdout, harmless to the terminal."""
    print(strip_control(message))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Prints a table on stdout; cells are shown as plain text, harmless to the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=_ENDLESS)  # a pipe has no width: nothing is cut
    cells = [[Text(strip_control(str(cell)).replace("\n", " ")) for cell in row] for row in rows]
    widths = [max([len(name), *(row[place].cell_len for row in cells)]) for place, name in enumerate(columns)]
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name, width in zip(columns, _fitted(widths, console.width - 2 * len(widths)), strict=True):
        view.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="ellipsis",
            no_wrap=True,
            width=width,
        )
    for row in cells:
        view.add_row(*row)
    console.print(view)


def _fitted(widths: Sequence[int], room: int) -> list[int]:
    """Column widths that fit the room: the widest are cut first, the first column never; so numbers stay whole."""
    first, *others = widths
    while others and first + sum(others) > room and max(others) > _LEAST:
        others[others.index(max(others))] -= 1
    return [first, *others]
