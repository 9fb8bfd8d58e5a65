"""How a process ended, in words."""

import signal


def ended(code: int | None) -> str:
    """What `Popen.returncode` says, to follow the process's name: a negative one is the signal that ended it."""
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
