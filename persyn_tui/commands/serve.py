"""`persyn serve`: the app in a browser, through textual-serve."""

import os
import shlex
import socket
import sys
from typing import Annotated

import typer

from engine.base.errors import ConfigError, NotAvailable
from persyn_tui.commands.output import StoreOption, say

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8000,
    public: Annotated[
        bool,
        typer.Option("--public", help="Allow another host than loopback: anyone who reaches it can act."),
    ] = False,
    store: StoreOption = None,
) -> None:
    """Show the terminal app in a browser; one app process for each visitor, until ctrl+c."""
    if host not in LOOPBACK and not public:
        raise ConfigError(
            f"--host {host}: whoever reaches that address could start and cancel jobs, without a password",
            "keep 127.0.0.1 and use `ssh -L 8000:localhost:8000 HOST`, or add --public",
        )
    try:
        from persyn_tui.web.server import Guarded
    except ImportError:
        raise NotAvailable(
            "serving needs the package textual-serve", "install it with: pip install 'persyn[serve]'"
        ) from None
    if store is not None:
        # A URL's password must not show in the list of processes.
        os.environ["PERSYN_STORE"] = store
    place = f"[{host}]" if ":" in host else host
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass  # only to say at once, and without a traceback, why the server could not listen there
    except (OSError, UnicodeError) as problem:
        why = str(getattr(problem, "strerror", None) or problem).partition(" (while")[0]
        raise ConfigError(f"http://{place}:{port}: {why}", "name a free --port, or another --host") from None
    say(f"serving on http://{place}:{port}; ctrl+c ends it, jobs go on")
    command = f"{shlex.quote(sys.executable)} -P -m persyn_tui.cli"
    Guarded(command, host=host, port=port).serve()
