"""Teachers that are programs: the prompt goes to standard input, the response comes from standard output.

teachers:
  - {name: calc, backend: program, model: calculator-1, command: [bc, -q], timeout_s: 5}
"""

import subprocess
import time
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import Field

from engine.config.kinds import TeacherKind
from engine.config.section import Section
from engine.teachers.response_status import failed, status
from engine.teachers.teacher_kinds import options
from storage.records import Model, Request, Response


class Settings(Section):
    """The run file's keys of such a teacher."""

    command: tuple[str, ...] = Field((), min_length=1, validate_default=True)
    """The program and its arguments."""
    timeout_s: float = Field(60.0, gt=0)
    """Seconds that one response may take."""


KIND = TeacherKind(settings=Settings)


def identity(model: Model) -> dict[str, Any]:
    """Everything that shapes a response, as JSON: the program's name for this purpose, and how it is called."""
    return {"backend": "program", "model": model.model, "command": list(options(model, Settings).command)}


def create(model: Model) -> "Program":
    """The backend."""
    return Program(options(model, Settings))


class Program:
    """Runs the program once a request."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """One response per request, in order."""
        for request in requests:
            began = time.monotonic()
            asked = "\n\n".join(str(turn["content"]) for turn in request.messages)
            try:
                done = subprocess.run(
                    self._settings.command,
                    input=asked,
                    capture_output=True,
                    text=True,
                    timeout=self._settings.timeout_s,
                    check=True,
                )
            except (OSError, subprocess.SubprocessError) as error:
                yield failed(request, "error", str(error))
                continue
            text = done.stdout.strip()
            yield Response(
                key=request.key,
                text=text,
                status=status(text, "stop"),
                finish_reason="stop",
                prompt_tokens=len(asked.split()),
                completion_tokens=len(text.split()),
                latency_s=time.monotonic() - began,
            )

    def close(self) -> None:
        """Nothing stays open."""
