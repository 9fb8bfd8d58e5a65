"""What loads a model works in a process of its own: the app never imports torch.

`ask` runs a tool once. A `RouterProcess` reads the router and encodes its calibration prompts once, then is asked for
one conversation at a time; it ends itself when the app does, for then its standard input is closed.
"""

import asyncio
import json
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

from engine import tools
from engine.pipeline import launch
from storage.errors import PersynError
from storage.records import Messages
from storage.store import Store

IDLE_S = 90.0
"""How long the process is kept without a question: it holds the router's memory."""
LINE = 2**24
"""Bytes that one answer may have."""


class EngineProcessError(PersynError):
    """The process ended without an answer."""

    exit_code = 3


async def ask(store: Store, tool: str, positional: list[str], options: list[str]) -> dict[str, Any]:
    """What a tool of `engine.tools` prints as JSON. Cancelling the wait ends the tool.

    A dash at the beginning of a positional argument means nothing.

    Raises:
        EngineProcessError: the tool failed, in its own words.
        StoreMissingError: the tool would find another store than this one, or none.
    """
    line = tools.command(tool, positional, options, as_json=True)
    process = await _start(store, line, stdin=DEVNULL, stderr=PIPE)
    try:
        out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    with suppress(ValueError):
        if process.returncode == 0:
            answer: dict[str, Any] = json.loads(out)
            return answer
    said = err.decode(errors="replace")
    raise EngineProcessError(
        *reason(said if said.strip() else f"`{tool}` ended with exit code {process.returncode}")
    )


async def _start(store: Store, line: Sequence[str], *, stdin: int, stderr: int | IO[bytes]) -> Process:
    return await asyncio.create_subprocess_exec(
        *line,
        stdin=stdin,
        stdout=PIPE,
        stderr=stderr,
        env=launch.environment(store),
        limit=LINE,
        start_new_session=True,  # ctrl+c in the terminal is the app's
        cwd="/",
    )


class RouterProcess:
    """Asks a stored router, by its number, through `python -m engine route --follow`; one question at a time."""

    def __init__(self, store: Store, router: int) -> None:
        self.router = router
        self._store = store
        self._lock = asyncio.Lock()
        self._process: Process | None = None
        self._said: IO[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, messages: Messages) -> dict[str, Any]:
        """Strengths, choice, margin and nearest calibration prompts, as `persyn route --json` has them.

        Raises:
            EngineProcessError: the process ended; its last words are the reason.
        """
        async with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            process = await self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            question = json.dumps([dict(message) for message in messages]) + "\n"
            try:
                process.stdin.write(question.encode())
                await process.stdin.drain()
                # Libraries may print lines of their own.
                while (line := await process.stdout.readline()) and not line.startswith(b"{"):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                line = b""
            except asyncio.CancelledError:
                self._kill()  # its answer would be taken for that of the next question
                raise
            if not line:
                await process.wait()
                said = b""
                if self._said is not None:
                    self._said.seek(0)
                    said = self._said.read()
                self._forget()
                raise EngineProcessError(*reason(said.decode(errors="replace")))
            self._timer = asyncio.get_running_loop().call_later(IDLE_S, self.close)
            answer: dict[str, Any] = json.loads(line)["prompts"][0]
            return answer

    async def _started(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._forget()
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 — closed with the process
            line = tools.command("route", [], ["--follow", "--router", str(self.router)], as_json=True)
            self._process = await _start(self._store, line, stdin=PIPE, stderr=self._said)
        return self._process

    def close(self) -> None:
        """Ends the process; the next question starts another."""
        self._kill()
        self._forget()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._said is not None:
            self._said.close()
        self._process = self._said = self._timer = None


def reason(said: str) -> tuple[str, str]:
    """(what went wrong, what to do): the engine's last error, else the last line of a traceback."""
    lines = said.strip().splitlines()
    starts = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    told = "\n".join(lines[starts[-1] :]).removeprefix("error: ") if starts else "".join(lines[-1:])
    what, _, remedy = told.partition("\n  → ")
    return what or "the router's process ended", remedy or "ask again, or look at screen 7"
