"""`python -m engine`: the process that works on a job."""

from engine.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
