"""The backend `openai` against a real local server that misbehaves in every way that servers do."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import formatdate
from typing import Any

import pytest
from teachers.endpoint import Endpoint, Reply, Script, answer, error

from engine.base import api_keys
from engine.base.errors import ConfigError, EndpointError
from engine.registry import models
from engine.teachers import teacher_kinds
from engine.teachers.endpoint.failure import retry_after
from engine.teachers.kinds import openai
from storage.records import Model, Request, Response, Sampling

QUICK = {"connect_timeout": 2, "read_timeout": 10, "retry": {"cooldown": 0.01, "probes": 3}}

Ask = Callable[..., list[Response]]


def teacher(*urls: str, **options: Any) -> Model:
    endpoint = {**QUICK, **options.pop("endpoint", {})}
    return Model("far", "teacher", "openai", "m", options={"base_url": urls, "endpoint": endpoint, **options})


def requests(count: int, text: str = "question {}", **sampling: Any) -> Iterator[Request]:
    for key in range(count):
        yield Request(key, ({"role": "user", "content": text.format(key)},), Sampling(**sampling))


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    opened: list[Endpoint] = []

    def start(script: Script | None = None, **options: Any) -> Endpoint:
        opened.append(Endpoint(script, **options))
        return opened[-1]

    yield start
    for server in opened:
        server.close()


def ask(model: Model, count: int = 1, **sampling: Any) -> list[Response]:
    with closing(teacher_kinds.open_backend(model)) as backend:
        return sorted(backend.generate(requests(count, **sampling)), key=lambda done: done.key)


def test_every_request_is_answered_once_and_carries_its_sampling(serve) -> None:
    server = serve(lambda body, number: answer(body["messages"][-1]["content"].upper()))
    done = ask(
        teacher(server.url), 200, temperature=0.5, top_p=0.9, top_k=7, seed=3, stop=("END",), max_tokens=9
    )
    assert [completion.text for completion in done] == [f"QUESTION {key}" for key in range(200)]
    assert {(c.status, c.prompt_tokens, c.completion_tokens) for c in done} == {("ok", 10, 5)}
    sent = server.requests[0]
    del sent["messages"]
    assert sent == {
        "model": "m",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "seed": 3,
        "stop": ["END"],
        "max_tokens": 9,
    }
    assert len(server.requests) == 200


def test_no_proxy_is_asked_for_an_address_of_this_machine(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.config.endpoint import EndpointConfig
    from engine.teachers.endpoint.model_list import list_models

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server = serve()
    assert ask(teacher(server.url))[0].status == "ok"
    assert list_models(server.url, None, EndpointConfig()) == ["m"]


def test_completion_mode_sends_one_text_and_extra_keys(serve) -> None:
    server = serve()
    endpoint = {
        "mode": "completion",
        "template": "Question: {prompt}\nAnswer:",
        "token_limit": "max_completion_tokens",
        "extra_body": {"min_p": 0.1},
    }
    with closing(teacher_kinds.open_backend(teacher(server.url, endpoint=endpoint))) as backend:
        turns = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"})
        (done,) = backend.generate([Request(1, turns, Sampling(max_tokens=4))])
    assert done.text == "ok"
    assert server.paths == ["/v1/completions"]
    assert server.requests[0]["prompt"] == "Question: Be brief.\n\nWhy?\nAnswer:"
    assert (server.requests[0]["max_completion_tokens"], server.requests[0]["min_p"]) == (4, 0.1)


@pytest.mark.parametrize(
    ("reply", "status", "finish", "text", "reasoning"),
    [
        (answer("yes"), "ok", "stop", "yes", ""),
        (answer("ye", "length"), "truncated", "length", "ye", ""),
        (answer("", "content_filter"), "refused", "content_filter", "", ""),
        (answer(None, refusal="I cannot."), "refused", "content_filter", "", ""),
        (
            answer("I'm sorry, I can't help with that."),
            "refused",
            "stop",
            "I'm sorry, I can't help with that.",
            "",
        ),
        (answer(None), "empty", "stop", "", ""),
        (answer("  "), "empty", "stop", "  ", ""),
        (answer("4", reasoning_content="2+2"), "ok", "stop", "4", "2+2"),
        (answer("4", reasoning="2+2"), "ok", "stop", "4", "2+2"),
        (answer("<think>2+2</think>\n4"), "ok", "stop", "4", "2+2"),
        (answer(None, "length", reasoning_content="2+"), "truncated", "length", "", "2+"),
        (answer("\x1b[2J"), "ok", "stop", "\x1b[2J", ""),
        (Reply(body=answer("x").body.replace(b'"x"', b'"\\ud800"')), "ok", "stop", "\ud800", ""),
        (error(400, "blocked", "content_filter"), "refused", "content_filter", "", ""),
        (error(400, "maximum context length is 8 tokens"), "too_long", "too_long", "", ""),
        (error(400, "seed is not supported"), "error", "error", "", ""),
        (error(422, "no"), "error", "error", "", ""),
    ],
)
def test_what_becomes_of_an_answer(serve, reply, status, finish, text, reasoning) -> None:
    server = serve(lambda body, number: reply)
    (done,) = ask(teacher(server.url))
    assert (done.status, done.finish_reason, done.text, done.reasoning) == (status, finish, text, reasoning)
    assert len(server.requests) == 1
    assert bool(done.error) == (reply.status >= 400 or b"I cannot." in reply.body)


HUGE = answer("x" * 10 * 2**20)
FAULTS = {
    "HTML": Reply(body=b"<html>gateway</html>", headers={"content-type": "text/html"}),
    "broken JSON": Reply(body=answer().body[:-9]),
    "no choices": Reply(body=b'{"choices": []}'),
    "a list": Reply(body=b"[1, 2]"),
    "deep": Reply(body=b"[" * 100_000),
    "content is a number": Reply(body=answer("x").body.replace(b'"content": "x"', b'"content": 5')),
    "error in a 200": Reply(body=b'{"error": {"message": "worker died"}}'),
    "aborted": answer("x", "abort"),
    "not UTF-8": Reply(body=b'{"choices": "\xff\xfe'),
    "10 MB": HUGE,
    "longer than asked for": answer("x" * 2**20),
    "reset mid-body": Reply(body=answer().body, reset_after=20),
    "HTTP 500": error(500, "worker died"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_bad_reply_is_asked_again_and_three_are_an_error(serve, name: str) -> None:
    def once(body: dict[str, Any], number: int) -> Reply:
        return FAULTS[name] if number == 0 else answer()

    server = serve(once)
    (done,) = ask(teacher(server.url))
    assert (done.status, len(server.requests)) == ("ok", 2)

    def poisoned(body: dict[str, Any], number: int) -> Reply:
        return FAULTS[name] if body["messages"][0]["content"] == "question 3" else answer()

    server = serve(poisoned)
    done = ask(teacher(server.url), 9)
    assert [c.key for c in done if c.status != "ok"] == [3]
    assert (done[3].status, done[3].text) == ("error", "")
    assert done[3].error
    assert len(server.requests) == 9 + 2


def test_slow_tokens_are_waited_for_within_the_limit_and_no_longer(serve) -> None:
    never = threading.Event()
    server = serve(lambda body, number: Reply(body=answer().body, pieces=4, hold=never))
    (done,) = ask(teacher(server.url))
    assert done.status == "ok"
    assert done.latency_s > 0.1
    trickle = serve(lambda body, number: Reply(body=answer().body, pieces=200, hold=never))
    endpoint = {"connect_timeout": 0.1, "read_timeout": 0.2, "retry": {"tries": 2, "cooldown": 0.01}}
    (done,) = ask(teacher(trickle.url, endpoint=endpoint))
    assert done.status == "error"
    assert "no whole answer within" in done.error


def test_a_stalled_server_is_a_timeout(serve) -> None:
    release = threading.Event()
    server = serve(lambda body, number: Reply(body=answer().body, hold=release))
    (done,) = ask(
        teacher(server.url, endpoint={"read_timeout": 0.1, "retry": {"tries": 1, "cooldown": 0.01}})
    )
    release.set()
    assert done.status == "error"


def test_retry_after_is_honoured_and_other_requests_of_the_server_wait_too(serve) -> None:
    at: list[float] = []

    def script(body: dict[str, Any], number: int) -> Reply:
        at.append(time.monotonic())
        return error(429, "slow down", retry_after="1") if number == 0 else answer()

    server = serve(script)
    done = ask(teacher(server.url, endpoint={"concurrency": {"start": 1, "max": 1}}), 3)
    assert {c.status for c in done} == {"ok"}
    assert at[1] - at[0] >= 0.99
    assert len(at) == 4


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1", 1),
        ("300", 300),
        ("2.5", 2.5),
        ("-4", 0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_as_a_number(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, 0.0) == seconds


def test_retry_after_as_a_date() -> None:
    assert retry_after({"retry-after": formatdate(1_000_030, usegmt=True)}, 1_000_000.0) == 30
    assert retry_after({"retry-after": formatdate(1_000_000, usegmt=True)}, 1_000_030.0) == 0


def test_retry_after_300_shows_why_nothing_moves_and_close_ends_the_wait(serve) -> None:
    server = serve(lambda body, number: error(429, "quota", retry_after="300"))
    backend = teacher_kinds.open_backend(teacher(server.url))
    assert isinstance(backend, teacher_kinds.Remote)
    out: list[Response] = []
    thread = threading.Thread(target=lambda: out.extend(backend.generate(requests(1))))
    thread.start()
    until(lambda: backend.traffic().note)
    assert re.fullmatch(r"waits (300|299) s: http://\S+/v1: HTTP 429: quota", backend.traffic().note)
    backend.close()
    thread.join(10)
    assert not thread.is_alive()
    assert out == []


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the condition never came"
        time.sleep(0.005)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_teacher_that_only_fails_is_given_up_after_few_requests(serve, status: int) -> None:
    server = serve(lambda body, number: error(status, "down"))
    given: list[Response] = []
    words = f"teacher `far` cannot be asked.*HTTP {status}"
    with (
        closing(teacher_kinds.open_backend(teacher(server.url))) as backend,
        pytest.raises(EndpointError, match=words) as caught,
    ):
        given.extend(backend.generate(requests(1000)))
    assert "only for what is missing" in caught.value.remedy
    # The first 8 in flight, 4 sent before the fifth failure opened the breaker, and 3 probes.
    assert len(server.requests) <= 15
    # No request is to blame where no server has ever answered one.
    assert not given


def test_a_few_requests_that_always_break_the_server_are_errors_and_the_server_is_not_given_up(serve) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        broken = int(body["messages"][-1]["content"].split()[-1]) % 20 == 0
        return error(500, "boom inside") if broken else answer()

    server = serve(script)
    model = teacher(server.url, endpoint={"retry": {"cooldown": 30}})
    with closing(teacher_kinds.open_backend(model)) as backend:
        for left in (range(140), range(0, 140, 20)):  # the second time nothing else is asked for
            given = list(backend.generate(one for one in requests(140) if one.key in left))
            assert len(given) == len(left)
            assert {done.key for done in given if done.status == "error"} == set(range(0, 140, 20))


def test_a_refused_connection_is_given_up_and_says_where() -> None:
    with Endpoint() as server:
        url = server.url
    with pytest.raises(EndpointError, match="cannot be reached") as caught:
        ask(teacher(url), 5)
    assert url in caught.value.message


@pytest.mark.parametrize(
    "reply",
    [
        error(401, "bad key"),
        error(404, "no such model"),
        error(429, "pay", "insufficient_quota"),
        Reply(307, headers={"location": "http://127.0.0.1:9/v1/chat/completions"}),
    ],
)
def test_what_no_retry_can_mend_ends_at_once(serve, reply: Reply) -> None:
    server = serve(lambda body, number: Reply(reply.status, reply.body, dict(reply.headers)))
    with pytest.raises(EndpointError) as caught:
        ask(teacher(server.url, endpoint={"concurrency": {"start": 1}}), 50)
    assert len(server.requests) == 1
    assert ("api_key_env" in caught.value.remedy) == (reply.status == 401)


def test_a_burst_of_429_only_slows_the_teacher_down(serve) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        return error(429, "busy", retry_after="0") if 20 <= number < 30 else answer()

    server = serve(script)
    done = ask(teacher(server.url), 100)
    assert {c.status for c in done} == {"ok"}
    assert len(server.requests) == 110


def test_a_few_429s_at_random_do_not_slow_a_teacher_down_and_are_said(serve) -> None:
    """Each 50th request is turned away, 2 %: where each refusal halved the limit, 64 became 1."""

    def script(body: dict[str, Any], number: int) -> Reply:
        time.sleep(0.01)  # as long as an answer takes
        return error(429, "busy") if number % 50 == 25 else answer()

    server = serve(script)
    with closing(
        teacher_kinds.open_backend(teacher(server.url, endpoint={"concurrency": {"start": 64}}))
    ) as backend:
        assert isinstance(backend, teacher_kinds.Paced)
        allowed = [backend.traffic().allowed for _ in backend.generate(requests(1000))]
        assert min(allowed) >= 32
        assert backend.traffic().retries == 20
        backend.pace(16, keep=True)
        until(lambda: backend.traffic().allowed == 16)
        assert backend.traffic().held == "as the operator asked"


def test_why_a_limit_is_low_is_said(serve) -> None:
    server = serve(lambda body, number: error(429 if number % 2 else 503, "busy", retry_after="0"))
    with closing(teacher_kinds.open_backend(teacher(server.url))) as backend:
        assert isinstance(backend, teacher_kinds.Paced)
        with pytest.raises(EndpointError):
            list(backend.generate(requests(20)))
    server = serve(
        lambda body, number: error(429, "busy", retry_after="0") if 20 <= number < 28 else answer()
    )
    model = teacher(server.url, endpoint={"concurrency": {"start": 8, "max": 8}})
    with closing(teacher_kinds.open_backend(model)) as backend:
        assert isinstance(backend, teacher_kinds.Paced)
        held = [backend.traffic().held for _ in backend.generate(requests(40))]
        assert held[0] == ""
        assert re.fullmatch(r"[4-8] × 429", next(filter(None, held)))


def test_drained_it_sends_nothing_more_and_gives_what_was_in_flight(serve) -> None:
    release = threading.Event()
    server = serve(
        lambda body, number: (
            Reply(body=answer().body, hold=release) if number < 4 else error(500, retry_after="0")
        )
    )
    model = teacher(server.url, endpoint={"concurrency": {"start": 5, "max": 5}})
    with closing(teacher_kinds.open_backend(model)) as backend:
        assert isinstance(backend, teacher_kinds.Draining)
        out: list[Response] = []
        thread = threading.Thread(target=lambda: out.extend(backend.generate(requests(100))))
        thread.start()
        until(lambda: server.in_flight == 4 and backend.traffic().in_flight == 4)
        backend.drain()
        sent = len(server.requests)
        release.set()
        thread.join(20)
        assert not thread.is_alive()
        assert len(server.requests) == sent
        assert [done.status for done in out] == ["ok"] * 4
        assert list(backend.generate(requests(3))) == []


def test_concurrency_starts_small_grows_and_stays_below_its_bound(serve) -> None:
    together = threading.Barrier(4)

    def script(body: dict[str, Any], number: int) -> Reply:
        together.wait(10)  # every reply needs three more requests in flight
        return answer()

    server = serve(script)
    done = ask(teacher(server.url, endpoint={"concurrency": {"start": 4, "max": 4}}), 40)
    assert len(done) == 40
    assert server.most_in_flight == 4


def test_replicas_share_the_load_and_a_dead_one_costs_little(serve) -> None:
    first, second = serve(), serve()
    assert len(ask(teacher(first.url, second.url), 200)) == 200
    assert len(first.requests) + len(second.requests) == 200
    assert min(len(first.requests), len(second.requests)) > 40
    broken = serve(lambda body, number: error(500))
    done = ask(teacher(second.url, broken.url), 200)
    assert {c.status for c in done} == {"ok"}
    assert len(broken.requests) <= 15


def test_finished_answers_come_while_others_are_still_being_made(serve) -> None:
    release = threading.Event()
    server = serve(
        lambda body, number: Reply(
            body=answer().body, hold=release if body["messages"][0]["content"] == "question 0" else None
        )
    )
    with closing(teacher_kinds.open_backend(teacher(server.url))) as backend:
        done = backend.generate(requests(30))
        early = {next(done).key for _ in range(29)}
        release.set()
        assert {0} == {c.key for c in done}
    assert 0 not in early


def test_requests_are_read_a_bounded_number_ahead(serve) -> None:
    server = serve()
    taken = 0

    def endless() -> Iterator[Request]:
        nonlocal taken
        for request in requests(10**9):
            taken += 1
            yield request

    with closing(
        teacher_kinds.open_backend(teacher(server.url, endpoint={"concurrency": {"start": 2, "max": 3}}))
    ) as b:
        done = b.generate(endless())
        for _ in range(50):
            next(done)
        assert taken <= 50 + 6


def test_the_key_comes_from_the_environment_and_appears_in_no_error(serve, monkeypatch) -> None:
    monkeypatch.setenv("FAR_KEY", "secret-123")
    monkeypatch.setenv("OPENAI_API_KEY", "somebody-elses")
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    server = serve(lambda body, number: error(400, "Incorrect API key: secret-123"))
    (done,) = ask(teacher(server.url, api_key_env="FAR_KEY"))
    assert "***" in done.error
    assert "secret" not in done.error
    assert server.headers[0]["authorization"] == "Bearer secret-123"
    assert not any("org" in name for name in server.headers[0])
    ask(teacher(server.url))
    assert "somebody" not in json.dumps(server.headers)
    monkeypatch.delenv("FAR_KEY")
    with pytest.raises(ConfigError, match="FAR_KEY is not set"):
        teacher_kinds.open_backend(teacher(server.url, api_key_env="FAR_KEY"))


def test_identity_is_the_model_and_its_settings_not_the_place_or_the_key() -> None:
    base = models.generation_sha(teacher("http://127.0.0.1:1/v1"))
    same = [
        teacher("http://127.0.0.1:2/v1", "http://127.0.0.1:3/v1"),
        teacher("http://127.0.0.1:1/v1", api_key_env="OTHER"),
        teacher("http://127.0.0.1:1/v1", endpoint={"concurrency": {"start": 1}, "read_timeout": 5}),
    ]
    assert {models.generation_sha(model) for model in same} == {base}
    other = [
        teacher("http://127.0.0.1:1/v1", endpoint={"mode": "completion"}),
        teacher("http://127.0.0.1:1/v1", endpoint={"mode": "completion", "template": "Q: {prompt}"}),
        teacher("http://127.0.0.1:1/v1", endpoint={"extra_body": {"min_p": 0.1}}),
    ]
    assert len({models.generation_sha(model) for model in other} | {base}) == 4


def test_a_lone_surrogate_in_a_prompt_is_sent_as_text(serve) -> None:
    server = serve()
    (done,) = ask(teacher(server.url), 1, text="bad \ud800 {}")
    assert done.status == "ok"
    assert server.requests[0]["messages"][0]["content"] == "bad � 0"


@pytest.mark.parametrize(
    ("options", "part"),
    [({"dtype": "float32"}, "has no option 'dtype'"), ({"endpoint": {"mode": "chatt"}}, "endpoint.mode")],
)
def test_wrong_options_are_named(options: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        teacher_kinds.identity(teacher("http://127.0.0.1:1/v1", **options))


def test_a_key_is_one_line_of_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model("far", "teacher", "openai", "m", options={"api_key_env": "FAR_KEY"})
    monkeypatch.setenv("FAR_KEY", "secret\r\n")
    assert openai.key(model) == "secret"
    monkeypatch.setenv("FAR_KEY", "sec\nret")
    with pytest.raises(ConfigError, match="no header can carry") as caught:
        openai.key(model)
    assert "sec" not in caught.value.message
    monkeypatch.setenv("FAR_KEY", "")
    with pytest.raises(ConfigError, match="FAR_KEY is empty"):
        openai.key(model)


def test_a_key_is_cut_out_of_a_message_even_where_the_message_was_cut_within_it() -> None:
    assert api_keys.redacted("no such key: sk-0123456789", "sk-0123456789") == "no such key: ***"
    assert api_keys.redacted("no such key: sk-0123456", "sk-0123456789") == "no such key: ***"
    assert api_keys.redacted("no such task: s", "sk-0123456789") == "no such task: s"
