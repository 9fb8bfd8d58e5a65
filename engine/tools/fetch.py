"""`python -m engine fetch NAME…`: downloads small real models and converts them."""

import argparse
import sys

from engine.base.sanitize import json_line
from engine.models.zoo_fetch import fetch


def main(options: argparse.Namespace) -> int:
    """Exit code 0 once every model is here; prints the folders."""
    found = {
        name: str(fetch(name, lambda line: print(line, file=sys.stderr, flush=True)))
        for name in options.names
    }
    print(
        json_line(found) if options.json else "\n".join(f"{name}: {folder}" for name, folder in found.items())
    )
    return 0
