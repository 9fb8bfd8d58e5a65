"""One worker process that judges answers, with a hard limit on each: parent's side and worker's side.

math-verify and the tasks of reasoning-gym run foreign code on model output: they can hang, and math-verify
returns less off the main thread. So they run on the main thread of a fresh interpreter, which speaks JSON
lines over its standard streams. An answer that takes too long costs the worker its life; the next answer gets
a new one. The worker ends with its parent, however that ends: it watches its input and its parent's id, and a
limit on processor time, which the kernel enforces, ends even code that never lets another thread run.
"""

import json
import os
import queue
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from select import POLLIN, poll
from typing import IO, Any

from engine.base.errors import ScoreError
from engine.verifiers import verify

START_LIMIT_S = 120.0
"""For the start of the worker and its imports; a busy machine needs most of it."""

_MEMORY_BYTES = 8 * 2**30
_GRACE_S = 1


class Worker:
    """A worker process, started when first needed and again after it had to be killed.

    Args:
        timeout_s: seconds that one answer may take.

    May be called from any thread, by one at a time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._warm: set[str] = set()
        self._received = b""
        self._lock = threading.Lock()
        self._finalizer: weakref.finalize[Any, Any] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while a worker runs."""
        return self._process.pid if self._process is not None else None

    def judge(self, verifier: Mapping[str, Any], reference: str | None, text: str) -> dict[str, Any]:
        """The outcome of `engine.verifiers.verify.verify`, or one with status `timeout` or `error`.

        Raises:
            ScoreError: the worker cannot be started.
        """
        kind = str(verifier.get("kind"))
        with self._lock:
            if self._process is None:
                self._start()
            if kind not in self._warm:
                if "done" not in self._ask({"warm_up": kind}, START_LIMIT_S):
                    raise ScoreError(
                        f"the scorer's worker cannot load what {kind!r} needs: {self._last_words()}"
                    )
                self._warm.add(kind)
            job = {"verifier": verifier, "reference": reference, "text": text, "limit_s": self._timeout_s}
            outcome = self._ask(job, self._timeout_s)
            if "died" in outcome:
                reason = f"the judging process ended: {self._last_words()}"
                return {"value": None, "status": "error", "detail": {"reason": reason}}
            if "late" in outcome:
                return {"value": None, "status": "timeout", "detail": {"limit_s": self._timeout_s}}
            return outcome

    def close(self) -> None:
        """End the worker. Closing twice is allowed."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        root = str(Path(__file__).parents[2])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        if self._errors is not None:
            self._errors.close()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 — lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.scorers.verify_process", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # ctrl+c is for the parent, while this one starts, too
        )
        self._finalizer = weakref.finalize(self, _kill, self._process)
        self._warm = set()
        self._received = b""

    def _ask(self, job: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        """The worker's reply; `{"late": …}` or `{"died": …}` after which there is no worker any more."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ScoreError("the scorer's worker is not running")
        deadline = time.monotonic() + limit_s
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            poller = poll()
            poller.register(process.stdout, POLLIN)
            while b"\n" not in self._received:
                left = deadline - time.monotonic()
                if left <= 0 or not poller.poll(left * 1000):
                    if time.monotonic() >= deadline:
                        self._end()
                        return {"late": True}
                    continue
                received = os.read(process.stdout.fileno(), 1 << 16)
                if not received:
                    raise BrokenPipeError
                self._received += received
        except BrokenPipeError:
            late = process.wait() == -signal.SIGXCPU
            self._end(keep_errors=True)
            return {"late": True} if late else {"died": True}
        line, _, self._received = self._received.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _end(self, *, keep_errors: bool = False) -> None:
        if self._finalizer is not None:
            self._finalizer()
            self._finalizer = None
        self._process = None
        if self._errors is not None and not keep_errors:
            self._errors.close()
            self._errors = None

    def _last_words(self) -> str:
        """The last line that the worker wrote to its standard error."""
        if self._errors is None or self._errors.closed:
            return "no message"
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:  # unsent input of a process that is gone
                continue


def _serve(parent: int) -> None:
    """Answer jobs until the input ends or the parent is gone."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What libraries print must not get between the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    while True:
        try:
            line = jobs.get(timeout=1.0)
        except queue.Empty:
            if os.getppid() != parent:
                return
            continue
        job = json.loads(line)
        if "warm_up" in job:
            _limit_processor_time(START_LIMIT_S)
            verify.prepare(job["warm_up"])
            reply: dict[str, Any] = {"done": True}
        else:
            _limit_processor_time(job["limit_s"])
            reply = _judge(job)
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


def _judge(job: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return verify.verify(job["verifier"], job["reference"], job["text"])
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        return {"value": None, "status": "error", "detail": {"reason": reason}}


def _read(jobs: "queue.SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        jobs.put(line)
    os._exit(0)


def _limit_processor_time(limit_s: float) -> None:
    """Let the kernel end this process when the parent is no longer there to do it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(usage.ru_utime + usage.ru_stime + limit_s + _GRACE_S) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
