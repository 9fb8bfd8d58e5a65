"""The backend of kind `openai`: requests to one or several servers of the same model.

An asyncio loop in a thread of its own sends; `generate` feeds it a bounded number ahead and hands completions on
as they finish. Each server has its own limit and breaker (`engine.teachers.endpoint.pace`); a request goes to the least
loaded one that may be asked. A failed request goes back to the queue, so another server, or a later time, may
answer it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any

import openai

from engine.base.api_keys import redacted
from engine.base.errors import EndpointError
from engine.base.sanitize import one_line
from engine.config.endpoint import EndpointConfig
from engine.models.chat_template import clean
from engine.teachers.endpoint.failure import BUSY, Failure, remedy
from engine.teachers.endpoint.pace import Breaker, Limit
from engine.teachers.endpoint.reply import failure, read
from engine.teachers.endpoint.transport import opened, own_arguments
from engine.teachers.response_status import failed
from engine.teachers.traffic import Traffic
from storage.records import Request, Response

MAX_SENDS = 20
"""Times that one request is sent in all, whatever was the reason each time."""

REFUSALS = 5
"""Requests that are refused, and none answered, after which it is not these that are to blame."""

_SATURATED = "more is no faster"
_LOWERED = "as the operator asked"


class _Unsent:
    """In the place of a request that is not sent any more."""


Result = Response | EndpointError | _Unsent | None
"""What the loop hands to `generate`; None when the backend was closed."""


@dataclass(eq=False, slots=True)
class _Ticket:
    """A request on its way."""

    request: Request
    results: "SimpleQueue[Result]"
    sends: int = 0
    faults: int = 0
    last: str = ""
    """What its last broken reply was."""


class _Server:
    """One address."""

    def __init__(self, url: str, client: openai.AsyncOpenAI, settings: EndpointConfig) -> None:
        retry, now = settings.retry, time.monotonic()
        self.url, self.client, self.in_flight = url, client, 0
        self.limit = Limit(settings.concurrency.start, settings.concurrency.max, now)
        self.breaker = Breaker(retry.failures, retry.probes, retry.cooldown, retry.max_wait)
        self.turned_away = dict.fromkeys(BUSY, 0)
        """HTTP status → requests that it was too busy for."""

    @property
    def load(self) -> float:
        """Share of the limit that is in use."""
        return self.in_flight / self.limit.allowed


class EndpointBackend:
    """Answers requests through OpenAI-compatible servers; see `engine.teachers.teacher_kinds.Backend`.

    Args:
        name: whose requests these are, for messages: "teacher `big`".
        served: the model's name at the servers.
        urls: their addresses; replicas of one model.
        key: None where no key is needed.
        settings: the run file's.
        token_ids: gives what a request is completed from, whatever `settings.mode` says; of vLLM's servers.
    """

    def __init__(
        self,
        name: str,
        served: str,
        urls: Sequence[str],
        key: str | None,
        settings: EndpointConfig,
        token_ids: Callable[[Request], Sequence[int]] | None = None,
    ) -> None:
        self.lenient = False
        """Whether requests that are refused are given back whatever their number."""
        self._name, self._served, self._key, self._settings = name, served, key, settings
        self._token_ids = token_ids
        self._http = opened(urls, key, settings)
        self._servers = [
            _Server(
                url, openai.AsyncOpenAI(base_url=url, http_client=self._http, **own_arguments(key)), settings
            )
            for url in urls
        ]
        self._ahead = 2 * settings.concurrency.max * len(urls)
        self._waiting: deque[_Ticket] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._results: SimpleQueue[Result] = SimpleQueue()
        self._retries = 0
        self._failures: list[_Ticket] = []
        """Requests that have had their tries, until it is known whether they or the servers are to blame."""
        self._faulty: set[int] = set()
        """Hashes of conversations that a server has broken on, whatever became of them: keys are used again."""
        self._refused: list[_Ticket] = []
        """Requests that were refused for good, and why, until it is known whether they or the settings are to blame."""
        self._remedy = ""
        """What helps against the last failure that no retry can mend."""
        self._closed = self._draining = False
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"endpoint {name}", daemon=True)
        self._thread.start()

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """One response per request as they finish; see `engine.teachers.teacher_kinds.Backend`.

        Raises:
            EndpointError: no server of this teacher can be used. Requests that had brought a broken reply were
                given back as errors before, where any server has answered; the others have none.
        """
        source = iter(requests)
        results = self._results = SimpleQueue()
        outstanding, more = 0, True
        try:
            while not self._closed:
                while more and outstanding < self._ahead and not self._draining:
                    request = next(source, None)
                    if request is None:
                        more = False
                        break
                    self._call(self._submit, _Ticket(request, results))
                    outstanding += 1
                if not outstanding:
                    return
                result = results.get()
                if result is None:
                    return
                if isinstance(result, EndpointError):
                    raise result
                outstanding -= 1
                if not isinstance(result, _Unsent):
                    yield result
        finally:
            self._call(self._abandon)

    def traffic(self) -> Traffic:
        """Requests in flight, and what is in their way; may be asked from any thread."""
        now = time.monotonic()
        in_flight, asked = sum(server.in_flight for server in self._servers), self._asked
        return Traffic(
            in_flight,
            allowed=sum(server.limit.allowed for server in asked),
            most=self._settings.concurrency.max * len(asked),
            retries=self._retries,
            note=self._note(now, in_flight),
            held=_held(asked),
        )

    def pace(self, allowed: int, *, keep: bool) -> None:
        """Each server gets its part of what may be in flight; see `engine.teachers.teacher_kinds.Paced`."""
        self._call(self._pace, allowed, keep)

    def drain(self) -> None:
        """Sends nothing more; see `engine.teachers.teacher_kinds.Draining`."""
        self._draining = True
        self._call(self._dispatch)

    @property
    def _asked(self) -> list[_Server]:
        """Those that are not given up."""
        return [server for server in self._servers if not server.breaker.given_up]

    def _note(self, now: float, in_flight: int) -> str:
        """Why nothing moves, and until when; empty while it does."""
        blocked = [server for server in self._servers if server.breaker.blocked(now)]
        reasons = "; ".join(f"{server.url}: {server.breaker.reason}" for server in blocked)
        if len(blocked) < len(self._servers):
            return f"{len(blocked)} of {len(self._servers)} servers fails: {reasons}" if blocked else ""
        wait = min(server.breaker.ready_at for server in self._servers) - now
        if in_flight or wait <= 0:
            return f"asks again: {reasons}"
        return f"waits {wait:,.0f} s: {reasons}" if 1 < wait < float("inf") else ""

    def close(self) -> None:
        """End all requests, those of a `generate` in another thread too."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Has the loop call a function; does nothing once another thread has closed this."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            if not self._closed:
                raise

    # Everything below runs in the loop's thread.

    def _submit(self, ticket: _Ticket) -> None:
        if all(server.breaker.given_up for server in self._servers):
            self._give_up()
            return
        self._waiting.append(ticket)
        self._dispatch()

    def _pace(self, allowed: int, keep: bool) -> None:
        asked = self._asked
        for server in asked:
            server.limit.turn(-(-allowed // len(asked)), time.monotonic(), keep=keep)
        self._dispatch()

    def _dispatch(self) -> None:
        """Sends what may be sent now, and comes back when more may be."""
        if self._draining:
            self._drop()
        now = time.monotonic()
        while self._waiting:
            ready = [
                server
                for server in self._servers
                if server.in_flight < server.limit.allowed and server.breaker.ready_at <= now
            ]
            if not ready:
                break
            server = min(ready, key=lambda server: server.load)
            server.in_flight += 1
            task = self._loop.create_task(
                self._serve(server, self._waiting.popleft(), server.breaker.begin())
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waits = [server.breaker.ready_at for server in self._servers if now < server.breaker.ready_at]
        if self._waiting and waits and min(waits) < float("inf"):
            self._timer = self._loop.call_later(min(waits) - now, self._dispatch)

    def _drop(self) -> None:
        """What waits is not sent any more; nor is it known of a server that has answered nothing what is to blame."""
        dropped = list(self._waiting)
        self._waiting.clear()
        if not any(server.in_flight for server in self._servers):
            dropped += (*self._failures, *self._refused)
            self._failures.clear()
            self._refused.clear()
        for ticket in dropped:
            ticket.results.put(_Unsent())

    async def _serve(self, server: _Server, ticket: _Ticket, probe: bool) -> None:
        """Sends a request once; its answer goes out, its failure back into the queue or out."""
        sent_at = time.monotonic()
        full = server.in_flight >= server.limit.allowed
        ticket.sends += 1
        try:
            response = await self._send(server, ticket.request)
        except Failure as problem:
            self._failed(server, ticket, problem, sent_at, probe)
        except asyncio.CancelledError:
            server.breaker.withdraw()
            raise
        else:
            server.breaker.success()
            server.limit.success(time.monotonic(), response.completion_tokens, full=full)
            ticket.results.put(response)
        finally:
            server.in_flight -= 1
        idle = not self._waiting and not any(server.in_flight for server in self._servers)
        if all(server.breaker.given_up for server in self._servers):
            self._give_up()
            return
        if idle or any(server.breaker.proven for server in self._servers):
            self._give_back()
        self._dispatch()

    def _give_back(self) -> None:
        for ticket in (*self._failures, *self._refused):
            ticket.results.put(failed(ticket.request, "error", ticket.last))
        self._failures.clear()
        self._refused.clear()

    def _failed(
        self, server: _Server, ticket: _Ticket, problem: Failure, sent_at: float, probe: bool
    ) -> None:
        now, retry = time.monotonic(), self._settings.retry
        reason = redacted(problem.message, self._key)
        if problem.kind == "rejected":
            self._reject(server, ticket, problem, reason)
            return
        wait = problem.wait
        if problem.kind == "overload":
            server.limit.overload(now, sent_at)
            server.turned_away[problem.code] += 1
            # One that turns a request away now and then is not left alone by all the others for it.
            wait = retry.cooldown * server.limit.refused if wait is None else wait
        asked = hash(tuple(turn["content"] for turn in ticket.request.messages))
        again = problem.kind == "fault" and asked in self._faulty
        server.breaker.failure(now, reason, probe=probe, wait=wait, again=again)
        if problem.kind == "overload" and server.breaker.given_up:
            self._remedy = (
                "it is busy: try later, or raise `endpoint: {retry: {max_wait: SECONDS}}` to wait for it"
            )
        if problem.kind == "unusable":
            server.breaker.give_up(reason)
            self._remedy = problem.remedy
        if problem.kind == "fault":
            ticket.faults, ticket.last = ticket.faults + 1, reason
            self._faulty.add(asked)
        if ticket.faults >= retry.tries or ticket.sends >= MAX_SENDS:
            ticket.last = reason
            self._failures.append(ticket)
            return
        self._retries += not self._draining
        self._waiting.append(ticket)

    def _reject(self, server: _Server, ticket: _Ticket, problem: Failure, reason: str) -> None:
        """Takes a refusal: of this prompt, by a server that is well, or of whatever is sent with every prompt."""
        if problem.status != "error":  # it is about the prompt
            server.breaker.success()
            ticket.results.put(failed(ticket.request, problem.status, reason))
            return
        server.breaker.alive()
        ticket.last = reason
        self._refused.append(ticket)
        if any(each.breaker.proven for each in self._servers):
            return
        if problem.parameter:
            self._remedy = remedy(problem.parameter, problem.message)
            self._refused.clear()
        elif self.lenient or len(self._refused) < REFUSALS:
            return
        else:
            self._remedy = (
                f"the first {REFUSALS} requests were refused and none answered: mend what the server's words name, or, "
                "if it is a parameter, leave it out with `sampling: {PARAMETER: null}`"
            )
        for each in self._servers:
            each.breaker.give_up(reason)

    async def _send(self, server: _Server, request: Request) -> Response:
        """The answer to one request, sent once.

        Raises:
            Failure: there is none.
        """
        began = time.monotonic()
        settings = self._settings
        try:
            # The transport's timeout starts anew with every byte; this one does not.
            async with asyncio.timeout(settings.connect_timeout + settings.read_timeout):
                body, headers = await self._post(server.client, request)
        except TimeoutError:
            raise Failure("fault", f"no whole answer within {settings.read_timeout:,.0f} s") from None
        except openai.APIError as error:
            raise failure(error, time.time()) from None
        except Failure:
            raise
        except Exception as error:  # a body that breaks off: the transport's own errors, which vary with it
            raise Failure("fault", one_line(f"{type(error).__name__}: {error}")) from None
        return read(body, headers, request, settings, time.monotonic() - began)

    async def _post(self, client: openai.AsyncOpenAI, request: Request) -> tuple[bytes, Mapping[str, str]]:
        messages = [{"role": turn["role"], "content": clean(turn["content"])} for turn in request.messages]
        body = _sampling(request, self._settings)
        resource: Any
        if self._token_ids is not None:
            resource, body["prompt"] = client.completions, list(self._token_ids(request))
        elif self._settings.mode == "chat":
            resource, body["messages"] = client.chat.completions, messages
        else:
            text = "\n\n".join(turn["content"] for turn in messages)
            resource, body["prompt"] = client.completions, self._settings.template.replace("{prompt}", text)
        # As a stream the reply is not parsed by the client, whatever type it says to be.
        async with resource.with_streaming_response.create(model=self._served, **body) as response:
            return await response.read(), response.headers

    def _give_up(self) -> None:
        """No server is left: what had a broken reply is an error, the rest stays unasked.

        Where no server has answered anything, no request is to blame, and none is an error.
        """
        told = {ticket.results for ticket in (*self._waiting, *self._failures)} | {self._results}
        if any(server.breaker.proven for server in self._servers):
            self._failures += [ticket for ticket in self._waiting if ticket.faults]
            self._give_back()
        self._failures.clear()
        for ticket in self._refused:  # the server has said so of each
            ticket.results.put(failed(ticket.request, "error", ticket.last))
        self._refused.clear()
        self._waiting.clear()
        reasons = "; ".join(f"{server.url}: {server.breaker.reason}" for server in self._servers)
        for results in told:
            results.put(
                EndpointError(
                    f"{self._name} cannot be asked: {reasons}",
                    f"{self._remedy or 'mend the server, its address or its key'}; "
                    "the same command then asks only for what is missing",
                )
            )

    def _abandon(self) -> None:
        """Ends what a `generate` that is no longer read has begun."""
        self._waiting.clear()
        self._failures.clear()
        self._refused.clear()
        for task in self._tasks:
            task.cancel()

    async def _shut(self) -> None:
        self._abandon()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()
        self._results.put(None)


def _held(servers: Sequence[_Server]) -> str:
    """Why fewer requests are in flight than the run file allows: what was turned away, else the next best reason."""
    causes = {server.limit.cause for server in servers}
    if "overload" in causes:
        counts = {code: sum(server.turned_away[code] for server in servers) for code in BUSY}
        return ", ".join(f"{count:,} × {code}" for code, count in counts.items() if count)
    return _LOWERED if "operator" in causes else _SATURATED if "saturation" in causes else ""


def _sampling(request: Request, settings: EndpointConfig) -> dict[str, Any]:
    """The request's sampling as the API's parameters; what would change nothing is not sent."""
    sampling = request.sampling
    given: dict[str, Any] = {
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        **({"top_p": sampling.top_p} if sampling.top_p < 1 else {}),
        **({"stop": list(sampling.stop)} if sampling.stop else {}),
        **({"top_k": sampling.top_k} if sampling.top_k else {}),
        "max_tokens": sampling.max_tokens,
    }
    body = {name: value for name, value in given.items() if name not in settings.leave_out}
    # What the client's own parameters have not got, or not in both modes; `top_k` is vLLM's and others'.
    names = {"max_tokens": settings.token_limit, "top_k": "top_k"}
    extra = {names[name]: body.pop(name) for name in names if name in body}
    body["extra_body"] = {**extra, **settings.extra_body}
    return body
