"""One vLLM server as a process of ours: started, asked how it is, stopped for good."""

import contextlib
import http.client
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO

from engine.base import bound_process, exit_code, foreign_json
from engine.base.api_keys import redacted
from engine.base.errors import EndpointError
from engine.base.sanitize import strip_control
from engine.teachers.vllm_server import orphans
from storage.records import Model

HOST = "127.0.0.1"
TAIL_LINES = 12
MAX_LOG_BYTES = 16 * 2**20
"""A log file that has grown beyond is set aside when the next server starts."""

_ASK_S = 5.0
_LOOK_S = 0.25
_TERMINATE_S = 20.0
"""Seconds for the server to end by itself."""
_TAIL_BYTES = 64 * 1024
_REPLY_BYTES = 8 * 2**20
"""Its metrics are less than a tenth of that."""

_STARTER = ThreadPoolExecutor(1, "vllm-starter")
"""Starts every server: Linux takes the end of the thread that did it for the engine's, and this one ends with it."""


def free_port() -> int:
    """A port of this machine that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def log_file(folder: Path, name: str) -> Path:
    """The log file of a model's servers."""
    plain = re.sub(r"[^\w.-]", "-", name)
    return folder / "logs" / f"vllm-{plain}.log"


class Server:
    """A running server process, its log file and its note for the next engine.

    Args:
        model: whose name it offers, for messages too.
        command: its whole command line.
        environment: its whole environment.
        port: where it will listen.
        key: what it will ask for.
        folder: where its log file is, which is appended to, and its note while it runs.

    Raises:
        EndpointError: the log file or the note cannot be written.
    """

    def __init__(
        self,
        model: Model,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        port: int,
        key: str,
        folder: Path,
    ) -> None:
        self.name, self.port, self.key = model.name, port, key
        self._whose = f"{model.role} `{model.name}`"
        self.log = log = log_file(folder, self.name)
        self.url = f"http://{HOST}:{port}/v1"
        self.context: int | None = None
        """Tokens of prompt and answer, as the server says once it is ready."""
        self._notes = notes = folder / orphans.FOLDER
        self._note = orphans.note(self.name, secrets.token_hex(16))
        try:
            with _open_log(log) as output:
                output.write(f"\n== {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(command)}\n".encode())
                output.flush()
                self._log_start = output.tell()
                # Written first: an engine that is killed now leaves a note rather than an unknown process.
                self._note.write(notes)
                # The session is what all its processes have in common.
                self._process = _STARTER.submit(
                    subprocess.Popen,
                    [sys.executable, "-I", "-S", str(bound_process.__file__), str(os.getpid()), *command],
                    env={**environment, orphans.TOKEN: self._note.token},
                    cwd=log.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                ).result()
            try:
                self._note = replace(
                    self._note, pid=self._process.pid, started=orphans.started(self._process.pid)
                )
                self._note.write(notes)
            except BaseException:
                self.stop()
                raise
        except OSError as error:
            self._note.path(notes).unlink(missing_ok=True)
            raise EndpointError(
                f"{self._whose}: its server cannot be started: {error}", "check the folder of the store"
            ) from None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ended(self, within: float = 0.0) -> bool:
        """Whether the process has ended, or does so within these seconds."""
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_ready(self, seconds: float, stopped: Callable[[], bool]) -> bool:
        """True once the server answers and has the model; False when `stopped` says so before.

        Raises:
            EndpointError: it ended, or did not answer in time; with the last lines of its log.
        """
        end = time.monotonic() + seconds
        while not stopped():
            if self.ended(_LOOK_S):
                raise EndpointError(
                    f"{self._whose}: its server {self.exit_text()} before it answered{self.said()}",
                    f"mend what its log file names; the whole of it is in {self.log}",
                )
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                if self.healthy():
                    self.context = self._offered()
                    return True
            if time.monotonic() > end:
                raise EndpointError(
                    f"{self._whose}: its server did not answer within {seconds:,.0f} s{self.said()}",
                    f"raise `server.start_timeout` if it was still loading; its log file is {self.log}",
                )
        return False

    def healthy(self) -> bool:
        """Whether it says that it can answer."""
        try:
            return self.get("/health")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str) -> tuple[int, str]:
        """(status, body) of a GET; never through a proxy.

        Raises:
            OSError: not reached, or no answer within seconds.
            HTTPException: not an HTTP server.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_ASK_S)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.key}"})
            response = connection.getresponse()
            body = response.read(_REPLY_BYTES + 1)
            if len(body) > _REPLY_BYTES:
                raise http.client.HTTPException(f"a reply of more than {_REPLY_BYTES:,} bytes")
            return response.status, body.decode("utf-8", "replace")
        finally:
            connection.close()

    def exit_text(self) -> str:
        """How the process ended."""
        return exit_code.ended(self._process.returncode)

    def said(self) -> str:
        """The last lines of its log file, on lines of their own; empty when it said nothing."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
            last = [line for line in lines if line.strip()][-TAIL_LINES:]
            told = [strip_control(redacted(line, self.key))[:300].rstrip() for line in last]
            return "".join(f"\n  | {line}" for line in told)
        return ""

    def stop(self) -> None:
        """Ends the server and everything it has started; twice is allowed."""
        if self._process.poll() is None:
            # It alone: it ends its workers in order, and what is left after that is ended below.
            self._process.terminate()
            self.ended(_TERMINATE_S)
        orphans.kill(orphans.members(self._note))
        self._process.wait()
        self._note.path(self._notes).unlink(missing_ok=True)

    def _offered(self) -> int | None:
        """Tokens that prompt and answer may take together; asked with our key, so it is our server.

        Raises:
            ValueError: the server has not our model, or does not know our key.
        """
        status, body = self.get("/v1/models")
        if status != 200:
            raise ValueError(f"HTTP {status}")
        for model in foreign_json.parse(body)["data"].list():
            if model["id"].raw == self.name:
                length = model.get("max_model_len")
                return None if length is None else length.integer()
        raise ValueError("it serves another model")


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".old.log"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
