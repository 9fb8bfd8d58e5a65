"""`python -m engine`: the process that works on a job."""

import atexit
import os
import sys

from engine.cli import main

if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as ending:  # argparse's
        code = int(ending.code or 0)
    # Python takes apart torch and the model for seconds, for which an operator who has stopped the job would wait.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
