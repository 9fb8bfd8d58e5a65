"""Becomes a process that does not outlive its engine: `python bound_process.py ENGINE_PID COMMAND …`.

A program of its own, with nothing of the engine in it: what must happen between fork and exec is not safe in a process
with threads.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Asks Linux for SIGTERM when the engine's thread dies, then runs the command in this process."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        return  # it died before the request
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")


if __name__ == "__main__":
    main()
