"""The terminal itself: its encoding; one that vanishes ends the app, which nobody can see or leave any more.

Textual 8.2 writes in the encoding of the locale, does not notice that nobody can see it, and reads on for ever from a
terminal that is gone, at the cost of a whole core. Each function can go once Textual's Linux driver does the same.
"""

import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable

GRACE_S = 5.0
"""How long the app may take to end by itself."""


def speak_utf8() -> None:
    """Writes UTF-8 whatever the locale says: under another one (`LANG=C` with UTF-8 mode off, Latin-1) bars and
    borders would be spelled out as escapes. Textual reads UTF-8 in any case."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(encoding="utf-8", errors="replace")


def missing() -> str:
    """Why the app cannot be seen or used here; empty where it can. Textual draws on standard error."""
    if "TEXTUAL_DRIVER" in os.environ:
        return ""  # another driver, such as a browser's, draws elsewhere
    if sys.__stderr__ is None or not sys.__stderr__.isatty():
        return "the terminal app draws on standard error, which is not a terminal"
    if sys.__stdin__ is None or sys.__stdin__.closed or not sys.__stdin__.isatty():
        return "the terminal app reads its keys from standard input, which is not a terminal"
    return ""


def watch(gone: Callable[[], object], code: int) -> None:
    """Calls `gone` from a thread when the terminal on standard input is gone, and ends the process if that does not.

    A hang-up signal tells the same, but it can be ignored (`nohup`), or be sent to another session; reading
    would then return nothing at once, for ever.
    """
    poll = select.poll()
    try:
        poll.register(sys.__stdin__.fileno(), 0)  # type: ignore[union-attr]
    except (AttributeError, OSError, ValueError):
        return  # no standard input

    def wait() -> None:
        events = poll.poll()
        if not any(event & (select.POLLHUP | select.POLLERR) for _, event in events):
            return  # a kind of file that cannot be watched
        gone()
        time.sleep(GRACE_S)
        # The event loop may itself wait for the thread that writes to the terminal, which has ended.
        os._exit(code)

    threading.Thread(target=wait, name="terminal", daemon=True).start()
