"""Tools that load a model: `python -m engine TOOL …`. `persyn` starts them in place of itself.

Nothing here imports anything heavy; a tool's own module is imported when it runs. Like every engine process
they find the store through PERSYN_STORE.
"""

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the tools to the engine's command line; `options.tool(options)` runs one and gives its exit code."""
    route = commands.add_parser("route", help="which teacher a router chooses for prompts, and why")
    route.add_argument("prompts", nargs="*")
    route.add_argument("--file", help="JSONL, one prompt a line (`prompt` or `messages`)")
    route.add_argument(
        "--follow",
        action="store_true",
        help="answer each line of stdin (a JSON conversation) by a line of JSON",
    )
    route.add_argument("--router", type=int, help="router number; the newest one by default")
    route.add_argument("--neighbours", type=int, default=3, help="calibration prompts shown as the reason")
    probe = commands.add_parser("probe", help="one real token from a registered model")
    probe.add_argument("model", type=int, help="number of a registered model")
    probe.add_argument("--prompt", default="What is 2 + 3?")
    doctor = commands.add_parser("doctor", help="this machine, and every model of a run file")
    doctor.add_argument("run_file", nargs="?")
    fetch = commands.add_parser("fetch", help="download small real models and convert them")
    fetch.add_argument("names", nargs="+")
    for name, parser in (("route", route), ("probe", probe), ("doctor", doctor), ("fetch", fetch)):
        parser.add_argument("--json", action="store_true", help="print JSON on stdout")
        parser.set_defaults(tool=_late(name))


def command(tool: str, positional: list[str], options: list[str], *, as_json: bool = False) -> list[str]:
    """The process that runs a tool, as an argument list."""
    # -P: a folder named `engine` in the working directory must not be taken for this package.
    line = [sys.executable, "-P", "-m", "engine", tool, *options]
    line += ["--json"] if as_json else []
    # After `--`, a prompt that begins with a dash is a prompt.
    return line + (["--", *positional] if positional else [])


def replace(
    tool: str, positional: list[str], options: list[str], *, store: str | None = None, as_json: bool = False
) -> NoReturn:
    """Replaces this process by a tool; never returns.

    One process rather than two: ctrl+c, kill and exit code mean the tool itself.
    """
    line = command(tool, positional, options, as_json=as_json)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(line[0], line, {**os.environ, **({"PERSYN_STORE": store} if store else {})})


def _late(name: str) -> Callable[[argparse.Namespace], int]:
    def call(options: argparse.Namespace) -> int:
        tool: Any = import_module(f"{__name__}.{name}")
        code: int = tool.main(options)
        return code

    return call
