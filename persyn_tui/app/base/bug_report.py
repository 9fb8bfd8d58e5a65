"""The bug report and the crash report: versions, store, last events, with whatever looks like a secret taken out."""

import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from platformdirs import user_state_path
from textual.worker import WorkerFailed

PACKAGES = ("persyn", "textual", "rich", "sqlalchemy", "pysqlite3", "torch", "transformers", "peft", "vllm")
TERMINAL = ("TERM", "COLORTERM", "TERM_PROGRAM", "NO_COLOR", "LANG")
_SECRETS = (
    (re.compile(r"(://[^/\s:@]+:)[^@\s/]+@"), r"\1***@"),
    (re.compile(r"\b(?:sk|pk|hf|gh[pousr]|glpat|xox[abp]|AKIA)[-_]?[A-Za-z0-9_-]{12,}"), "***"),
    (
        re.compile(r"(?i)\b(bearer|authorization:|api[-_ ]?key[=:]|token[=:]|password[=:])(\s*)\S+"),
        r"\1\2***",
    ),
)


def redacted(text: str, values: Iterable[str] = ()) -> str:
    """The text without secrets: known `values`, what looks like a key, passwords in URLs, the home folder."""
    for value in values:
        if len(value) >= 6:
            text = text.replace(value, "***")
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def secrets(specs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Values of the environment variables that run files name as `api_key_env`."""
    names = {
        teacher.get("options", teacher).get("api_key_env")
        for spec in specs
        for teacher in spec.get("teachers", ())
    }
    return [os.environ[name] for name in names if name and name in os.environ]


def machine() -> list[tuple[str, str]]:
    """(what, value): versions and terminal, for the screen and for the report."""
    found = [("python", sys.version.split()[0]), ("system", f"{platform.system()} {platform.release()}")]
    for package in PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            found.append((package, "not installed"))
    found += [(name, os.environ[name]) for name in TERMINAL if name in os.environ]
    found.append(
        ("multiplexer", "tmux" if "TMUX" in os.environ else "screen" if "STY" in os.environ else "none")
    )
    found.append(("connection", "ssh" if "SSH_CONNECTION" in os.environ else "local"))
    return found


def write(facts: Iterable[tuple[str, str]], events: Iterable[str], values: Iterable[str] = ()) -> str:
    """The whole report as text: facts, the last events, and no secret, also none of these known values."""
    known = list(values)
    lines = ["PerSyn bug report", *(f"{name}: {value}" for name, value in facts), "", "last events:"]
    return "\n".join(redacted(line, known) for line in [*lines, *events]) + "\n"


def crash(error: BaseException | None) -> str:
    """Where the report of an unhandled exception was written: calls and message, no variables.

    The message is redacted; text of prompts and responses can only be in it where a library quotes them.
    """
    # A worker's failure has no calls of its own: they are those of the error within.
    inner = error.error if isinstance(error, WorkerFailed) else error
    lines = traceback.format_exception(inner) if inner is not None else ["no exception is known"]
    text = write(machine(), (line.rstrip("\n") for line in lines)).replace("last events:", "what happened:")
    return keep(text, "crash")


def keep(text: str, what: str) -> str:
    """Where a report was written, for its owner alone; why it was not."""
    path = user_state_path("persyn") / f"{what}-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
    except OSError as problem:
        return f"could not be written ({problem})"
    return str(path)
