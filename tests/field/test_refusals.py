"""What an error means, from its status, its codes and its words; and what a server that refuses everything leads to."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from field.replies import refused
from teachers.endpoint import Endpoint, Reply, Script, answer

from engine.base.errors import EndpointError
from engine.config.run_file import Run, parse
from engine.registry import models
from engine.teachers import teacher_kinds
from engine.teachers.endpoint.client import REFUSALS
from storage.records import Model, Request, Response, Sampling

ERRORS = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "errors.jsonl").open(encoding="utf-8")
]
"""In the words of each server; a status of null is an error in a reply of status 200."""
PARAMETERS = [(row["name"], row["status"], row["error"]) for row in ERRORS if row["right"] == "parameter"]


@pytest.mark.parametrize("row", [row for row in ERRORS if row["right"] != "parameter"])
def test_what_an_error_says(row: dict[str, Any]) -> None:
    found = refused(row["status"], row["error"])
    by_prompt = row["right"] in ("too_long", "refused")
    assert (found.kind, found.status) == (
        ("rejected", row["right"]) if by_prompt else (row["right"], "error")
    )


WAITS: list[tuple[dict[str, str], Any, float | None]] = [
    ({"retry-after": "7"}, {}, 7),
    ({"retry-after-ms": "1500"}, {}, 1.5),
    ({}, {"error": {"code": 429, "message": "Please try again in 20s."}}, 20),
    ({}, {"error": {"code": 429, "message": "Please try again in 1m2.5s. Visit"}}, 62.5),
    ({}, {"error": {"code": 429, "message": "Please try again in 120ms."}}, 0.12),
    ({}, {"error": {"code": 429, "details": [{"retryDelay": "34s"}]}}, 34),
    (
        {},
        {
            "error": {
                "code": 429,
                "message": "x",
                "metadata": {"headers": {"X-RateLimit-Reset": "1741305600000"}},
            }
        },
        None,
    ),
    ({}, {"error": {"code": 429, "message": "x", "metadata": {"headers": {"Retry-After": "12"}}}}, 12),
    ({"x-ratelimit-reset": "30"}, {}, 30),
    ({"retry-after": "soon"}, {}, None),
]


@pytest.mark.parametrize(("headers", "error", "wait"), WAITS)
def test_how_long_to_wait_is_read_wherever_it_stands(
    headers: dict[str, str], error: Any, wait: float | None
) -> None:
    for status in (429, None):
        found = refused(status, error or {"error": {"code": 429, "message": "x"}}, headers)
        assert (found.kind, found.wait) == ("overload", wait)


@pytest.mark.parametrize(("name", "status", "error"), PARAMETERS)
def test_a_parameter_that_a_server_refuses_is_named(name: str, status: int, error: Any) -> None:
    found = refused(status, error)
    assert (found.kind, found.parameter) == ("rejected", name)


def test_foreign_words_stay_on_one_line() -> None:
    forged = "bad\\n2026-01-01 INFO all is well\\r\\x1b[2J\\u2028x"
    for error in (
        {"error": {"message": forged}},
        {"error": forged},
        {"detail": forged},
        forged,
        {"odd": [forged]},
    ):
        message = refused(400, error).message
        assert message.isprintable(), message
        assert len(message) < 400


# What becomes of a teacher that refuses everything


def teacher(url: str, **more: Any) -> Model:
    options = {"base_url": url, "endpoint": {"retry": {"cooldown": 0.01}, **more}}
    return Model("far", "teacher", "openai", "m", options=options, sampling=Sampling(max_tokens=48))


def requests(count: int) -> Iterator[Request]:
    for key in range(count):
        yield Request(key, ({"role": "user", "content": f"question {key}"},), Sampling(max_tokens=48))


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    opened: list[Endpoint] = []

    def start(script: Script) -> Endpoint:
        opened.append(Endpoint(script))
        return opened[-1]

    yield start
    for server in opened:
        server.close()


def ask(model: Model, count: int) -> tuple[list[Response], EndpointError | None]:
    given: list[Response] = []
    with closing(teacher_kinds.open_backend(model)) as backend:
        try:
            given.extend(backend.generate(requests(count)))
        except EndpointError as problem:
            return given, problem
    return given, None


def sent(status: int, error: Any) -> Reply:
    return Reply(status, json.dumps(error).encode())


@pytest.mark.parametrize(
    ("name", "status", "error"), list({row[0]: row for row in reversed(PARAMETERS)}.values())
)
def test_a_parameter_that_every_request_has_ends_the_teacher_at_once_and_can_be_left_out(
    serve: Callable[..., Endpoint], name: str, status: int, error: Any
) -> None:
    server = serve(lambda body, number: sent(status, error) if name in body else answer())
    model = teacher(server.url, concurrency={"start": 1})
    given, problem = ask(model, 9)
    if name in ("top_p", "top_k", "stop"):  # these are sent only where they are set
        assert (len(given), problem) == (9, None)
        return
    assert problem is not None
    assert (given, len(server.requests)) == ([], 1)
    assert f"HTTP {status}" in problem.message
    renamed = "max_completion_tokens" in json.dumps(error)
    if renamed:
        assert "token_limit: max_completion_tokens" in problem.remedy
        mended = teacher(server.url, token_limit="max_completion_tokens")
    else:
        assert f"sampling: {{{name}: null}}" in problem.remedy
        mended = teacher(server.url, leave_out=[name])
    given, problem = ask(mended, 5)
    assert ([one.status for one in given], problem) == (["ok"] * 5, None)
    assert models.generation_sha(mended) != models.generation_sha(model) or renamed


@pytest.mark.parametrize("status", [400, 422])
def test_what_every_prompt_gets_ends_the_teacher_with_the_servers_words(
    serve: Callable[..., Endpoint], status: int
) -> None:
    server = serve(lambda body, number: sent(status, {"detail": "tier 0 may not use this"}))
    given, problem = ask(teacher(server.url, concurrency={"start": 1}), 100)
    assert problem is not None
    assert "tier 0 may not use this" in problem.message
    assert "null" in problem.remedy
    assert len(server.requests) == REFUSALS
    # Each was refused, and counts as a try: a run that goes on with only such prompts ends.
    assert {one.status for one in given} == {"error"}


def test_a_few_refusals_are_those_prompts_fault(serve: Callable[..., Endpoint]) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        bad = int(body["messages"][0]["content"].split()[1]) % 10 == 9
        return sent(400, {"error": {"message": "'seed' is odd", "param": "seed"}}) if bad else answer()

    given, problem = ask(teacher(serve(script).url, concurrency={"start": 1}), 30)
    assert problem is None
    assert sorted(one.key for one in given if one.status == "error") == [9, 19, 29]
    server = serve(lambda body, number: sent(400, {"detail": "no"}))
    given, problem = ask(teacher(server.url), 2)
    assert ([one.status for one in given], problem) == (["error", "error"], None)


def test_flagged_and_long_prompts_say_nothing_of_the_teacher(serve: Callable[..., Endpoint]) -> None:
    told = [row for row in ERRORS if row["right"] in ("refused", "too_long") and row["status"]][::5]
    server = serve(
        lambda body, number: sent(told[number % len(told)]["status"], told[number % len(told)]["error"])
    )
    given, problem = ask(teacher(server.url), 2 * len(told))
    assert problem is None
    assert {one.status for one in given} == {"refused", "too_long"}


def test_an_error_in_a_200_waits_as_a_429_does(serve: Callable[..., Endpoint]) -> None:
    server = serve(
        lambda body, number: (
            sent(200, {"error": {"code": 429, "message": "slow"}}) if number < 4 else answer()
        )
    )
    given, problem = ask(teacher(server.url, concurrency={"start": 2}), 20)
    assert problem is None
    assert [one.status for one in given] == ["ok"] * 20


RUN = """
student: {{name: s, model: "zoo:student"}}
teachers:
  - {{name: a, backend: openai, model: m, base_url: "http://127.0.0.1:1/v1", sampling: {{{own}}}}}
  - {{name: b, backend: openai, model: n, base_url: "http://127.0.0.1:2/v1"}}
  - {{name: c, model: "zoo:base"}}
prompts: [{{source: jsonl, path: x.jsonl}}]
generation: {{{shared}}}
"""


@pytest.mark.parametrize(
    ("own", "shared", "left"),
    [
        ("", "", [(), ()]),
        ("seed: null", "", [("seed",), ()]),
        ("seed: null, top_p: 0.5", "max_tokens: 9", [("seed",), ()]),
        ("", "seed: null", [("seed",), ("seed",)]),
        ("seed: 3", "seed: null", [(), ("seed",)]),
        ("temperature: null", "seed: null", [("seed", "temperature"), ("seed",)]),
        ("max_tokens: null, stop: null, top_k: null", "", [("max_tokens", "stop", "top_k"), ()]),
    ],
)
def test_a_parameter_is_left_out_by_null(own: str, shared: str, left: list[tuple[str, ...]]) -> None:
    run = parse(RUN.format(own=own, shared=shared))
    assert [teacher.endpoint.leave_out for teacher in run.teachers[:2]] == left
    assert run.generation.seed == 0
    # As it is stored, where every key is named, and read again.
    stored = run.model_dump(mode="json")
    assert ("leave_out" in stored["teachers"][0]["endpoint"]) == bool(left[0])
    assert Run.model_validate(stored) == run
