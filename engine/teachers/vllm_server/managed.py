"""The backend of kind `vllm`: a server of our own, asked by the client that the kind `openai` uses.

The server is started with the first request. When it dies or hangs it is started again, a few times, and what it owed
is asked for again; answers that came are never asked for twice.
"""

import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import Lock

from engine.base.errors import EndpointError
from engine.config.vllm import VllmConfig
from engine.teachers.endpoint.client import EndpointBackend
from engine.teachers.traffic import Traffic
from engine.teachers.vllm_server import command as _command
from engine.teachers.vllm_server import gpus as _gpus
from engine.teachers.vllm_server.server import HOST, Server, free_port, log_file
from engine.teachers.vllm_server.watch import Watch
from engine.zoo import resolve
from storage.records import Model, Request, Response

_STARTS = 5
"""Ports that are tried; what is taken again and again is one that the run file names."""
_PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)


class ManagedBackend:
    """Answers requests through a vLLM server of its own; see `engine.teachers.teacher_kinds.Backend`.

    Args:
        model: the teacher, or the student that is evaluated.
        settings: its options, checked.
        command: what starts a server.
        folder: where log file and note go; None: a temporary one.
        token_ids: what is sent in place of the conversation, which the server would put into a template itself.
        asked: the name that requests are for; empty: the model's own, under which the server offers it.
    """

    def __init__(
        self,
        model: Model,
        settings: VllmConfig,
        command: Sequence[str],
        folder: Path | None = None,
        token_ids: Callable[[Request], Sequence[int]] | None = None,
        asked: str = "",
    ) -> None:
        self._model, self._settings, self._command = model, settings, command
        self._whose = f"{model.role} `{model.name}`"
        self._token_ids, self._asked = token_ids, asked or model.name
        self._scratch = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="persyn-vllm-"))
        self._trouble = False
        """Whether somebody will want to read its log file."""
        self._lock = Lock()
        self._gpus: frozenset[int] = frozenset()
        self._server: Server | None = None
        self._endpoint: EndpointBackend | None = None
        self._most: int | None = None
        """Requests in flight at most, where an operator asked for fewer."""
        self._watch: Watch | None = None
        self._restarts = self._sent_again = 0
        self._starting_since: float | None = None
        self._placed = False
        """Whether the server that starts has its place."""
        self._closed = False

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """One response per request as they finish; see `engine.teachers.teacher_kinds.Backend`.

        Raises:
            EndpointError: the server cannot be started, or dies or hangs again and again.
        """
        source = iter(requests)
        owed: dict[int, Request] = {}
        drained = False

        def noted() -> Iterator[Request]:
            """The requests, as the server can take them, kept until they are answered."""
            nonlocal drained
            for request in source:
                fitting = owed[request.key] = self._fitting(request)
                yield fitting
            drained = True

        while (endpoint := self._ready()) is not None:
            again = list(owed.values())
            self._sent_again += len(again)
            try:
                for response in endpoint.generate(chain(again, noted())):
                    del owed[response.key]
                    self._trouble |= response.status == "error"
                    yield response
            except EndpointError as problem:
                server, watch = self._server, self._watch
                if server is None or watch is None or server.ended():
                    pass
                elif not server.healthy():
                    watch.end(f"is ill: {problem.message}")
                else:
                    self._trouble = True
                    raise EndpointError(
                        problem.message + server.said(),
                        f"{problem.remedy}; the server's log file is {self._log}",
                    ) from None
            if self._closed or (drained and not owed):
                return

    def traffic(self) -> Traffic:
        """Requests in flight, and what is in their way; may be asked from any thread."""
        since, endpoint = self._starting_since, self._endpoint
        if since is not None:
            doing = "vLLM starts" if self._placed else "waits for a free GPU"
            return Traffic(retries=self._sent_again, note=f"{doing}, {time.monotonic() - since:,.0f} s")
        if endpoint is None:
            return Traffic(retries=self._sent_again)
        found = endpoint.traffic()
        return found._replace(retries=found.retries + self._sent_again)

    def pace(self, allowed: int, *, keep: bool) -> None:
        """As `engine.teachers.teacher_kinds.Paced` says; what is kept is so for servers that are started later, too."""
        self._most = allowed if keep else None
        if self._endpoint is not None:
            self._endpoint.pace(allowed, keep=keep)

    def gauges(self) -> Mapping[str, float]:
        """The server's own figures since the last call: tokens per second, share of the KV cache in use."""
        return self._watch.gauges.take() if self._watch is not None else {}

    def close(self) -> None:
        """End the requests and the server; from any thread, and twice is allowed."""
        self._closed = True
        self._down()
        if self._scratch and not self._trouble:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def warm(self) -> bool:
        """Whether the server is well, so that the next request needs no new start."""
        watch, server = self._watch, self._server
        return watch is not None and server is not None and not watch.reason and not server.ended()

    @property
    def gpus(self) -> frozenset[int]:
        """The GPUs that it is on, or was last; none: it is on the CPU."""
        return self._gpus

    @property
    def _log(self) -> Path:
        return log_file(self._folder, self._model.name)

    def _fitting(self, request: Request) -> Request:
        """The request with a bound that the server takes: vLLM refuses one that no answer could reach."""
        limit = self._server.context if self._server is not None else None
        if limit is None or request.sampling.max_tokens <= limit:
            return request
        return replace(request, sampling=replace(request.sampling, max_tokens=limit))

    def _ready(self) -> EndpointBackend | None:
        """The client of a server that answers, started when there is none; None when this was closed."""
        if self.warm:
            return self._endpoint
        if (watch := self._watch) is not None:
            self._trouble = True
            watch.join()
            if self._restarts == self._settings.server.restarts:
                raise EndpointError(
                    f"{self._whose}: its server {watch.reason}",
                    f"it was started {self._restarts + 1} times; its log file is {self._log}",
                )
            self._restarts += 1
            self._down()
        self._placed, self._starting_since = False, time.monotonic()
        try:
            return self._start()
        except EndpointError:
            self._trouble = True
            raise
        finally:
            self._starting_since = None

    def _start(self) -> EndpointBackend | None:
        chosen = self._settings.server
        place = _gpus.place(self._whose, chosen, stopped=lambda: self._closed)
        self._placed = True
        self._gpus = _gpus.numbers(place)
        for left in reversed(range(_STARTS)):
            server = self._launch(place)
            try:
                if server is None or not server.wait_ready(chosen.start_timeout, lambda: self._closed):
                    return None
                break
            except EndpointError as problem:
                self._down()
                if self._closed:
                    return None
                if not left or not _PORT_TAKEN.search(problem.message):
                    raise
        assert server is not None  # the last try has raised
        endpoint = EndpointBackend(
            self._whose, self._asked, [server.url], server.key, self._settings.endpoint, self._token_ids
        )
        if self._most is not None:
            endpoint.pace(self._most, keep=True)
        watch = Watch(server, lambda: endpoint.traffic().in_flight, chosen.stall_timeout, endpoint.close)
        with self._lock:
            if self._closed:
                endpoint.close()
                return None
            self._endpoint, self._watch = endpoint, watch
            watch.start()
        return endpoint

    def _launch(self, place: Mapping[str, str]) -> Server | None:
        """A server that was started just now; None when this was closed."""
        model, chosen, port, key = self._model, self._settings, free_port(), secrets.token_urlsafe(24)
        on_gpu = bool(place)
        options = {
            "served-model-name": model.name,
            "host": HOST,
            "port": port,
            "revision": model.revision or None,
            "dtype": chosen.dtype or "auto",
            "max-model-len": model.context,
            "trust-remote-code": chosen.trust_remote_code or None,
            "enable-prefix-caching": True,
            # A line for each of a million requests says nothing that the store does not.
            "disable-uvicorn-access-log": True,
            # Sampling is the request's, as with every other backend; the model's EOS ids count all the same.
            "generation-config": "vllm",
            "tensor-parallel-size": chosen.server.width if chosen.server.width > 1 else None,
            "gpu-memory-utilization": chosen.server.gpu_memory_utilization if on_gpu else None,
            # Compiling takes minutes there and gains little.
            "enforce-eager": None if on_gpu else True,
        }
        where = resolve.resolve(model.model)
        # The key goes by the environment: a command line can be read by everyone on the machine.
        variables = _command.environment({"VLLM_API_KEY": key, **place, **chosen.server.env})
        with self._lock:
            if self._closed:
                return None
            self._server = Server(
                model,
                _command.arguments(self._command, where, options, chosen.server.args),
                variables,
                port=port,
                key=key,
                folder=self._folder,
            )
            return self._server

    def _down(self) -> None:
        """Ends what runs: watch, client, server."""
        with self._lock:
            watch, endpoint, server = self._watch, self._endpoint, self._server
            self._watch = self._endpoint = self._server = None
        if watch is not None:
            watch.stop()
            watch.join()
        if endpoint is not None:
            endpoint.close()
        if server is not None:
            server.stop()
