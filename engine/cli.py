"""`python -m engine`: processes that load models. People use `persyn`, which starts these.

The store is the one that PERSYN_STORE names. Data goes to stdout, narration to stderr; exit codes are
those of `engine.base.errors`.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence

from engine import tools
from engine.base.errors import PersynError
from engine.base.sanitize import json_line, strip_control


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command."""
    parser = argparse.ArgumentParser(prog="python -m engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    work = commands.add_parser("work", help="work on a job of the store until it ends")
    work.add_argument("job", type=int)
    work.add_argument(
        "--foreground", action="store_true", help="show progress on stderr and results on stdout"
    )
    work.add_argument("--json", action="store_true", help="print the results as one JSON object")
    tools.register(commands)
    options = parser.parse_args(arguments)
    try:
        if options.command != "work":
            return int(options.tool(options))
        return _work(options.job, foreground=options.foreground, as_json=options.json)
    except PersynError as error:
        print(f"error: {strip_control(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _work(job_id: int, *, foreground: bool, as_json: bool) -> int:
    # Imported here: sqlalchemy and pydantic take a second, and a wrong option must not wait for them.
    from rich.console import Console

    from engine.pipeline import display, runner
    from engine.report import summary
    from storage.store import Store

    if not foreground:  # its output is the job's log file
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("engine").setLevel(logging.INFO)

    began = time.monotonic()
    store = Store.open(create=False)
    screen = display.choose(quiet=not foreground)
    try:
        outcome = runner.work(store, job_id, screen)
    finally:
        screen.close()
    if outcome.context is None or outcome.code != 0:
        if as_json:
            print(json_line(summary.unfinished(store, job_id, outcome.context)), flush=True)
    else:
        found = summary.build(outcome.context, time.monotonic() - began)
        if as_json:
            print(json_line({"job": job_id, "state": "done", **summary.as_json(found)}), flush=True)
        elif foreground and not found.empty:
            Console().print(summary.render(found))
    store.close()
    return outcome.code
