"""One token of an endpoint: what came is told, and a server that sends nothing is not waited for."""

import subprocess
import sys
import threading
import time

import pytest
from teachers.endpoint import Endpoint, Reply, answer, error

from engine.base.errors import ModelError
from engine.tools import probe
from storage.records import Messages, Model

ASKED: Messages = ({"role": "user", "content": "What is 2 + 3?"},)


def far(endpoint: Endpoint) -> Model:
    return Model("far", "teacher", "openai", "m", options={"base_url": endpoint.url})


def ask(reply: Reply) -> probe.Probe:
    with Endpoint(lambda body, number: reply) as endpoint:
        return probe.probe(far(endpoint), ASKED)


def test_a_token_and_why_it_ended() -> None:
    found = ask(answer("5", "length"))
    assert (found.token, found.finish_reason) == ("5", "length")


def test_a_server_that_sends_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe.ENDPOINT_S == 60
    monkeypatch.setattr(probe, "ENDPOINT_S", 0.3)
    hold = threading.Event()
    began = time.monotonic()
    try:
        with pytest.raises(ModelError, match=r"no token within 0\.3 s") as given_up:
            ask(Reply(hold=hold))
    finally:
        hold.set()
    assert "127.0.0.1" in str(given_up.value)
    assert time.monotonic() - began < 10


def test_an_answer_that_a_filter_refused_is_told_as_that() -> None:
    with pytest.raises(ModelError, match="content filter refused"):
        ask(answer("", "content_filter"))
    with pytest.raises(ModelError, match="content filter refused the response: not that"):
        ask(answer(None, refusal="not that"))
    with pytest.raises(ModelError, match="content_filter: of the prompt"):
        ask(error(400, "of the prompt", "content_filter"))


def test_an_empty_answer_is_told_as_that() -> None:
    with pytest.raises(ModelError, match="the response is empty, finish_reason stop") as empty:
        ask(answer(""))
    assert "content filter" not in str(empty.value)


def test_a_first_token_of_reasoning_is_one() -> None:
    assert ask(answer("", "length", reasoning_content="Hm")).token == "Hm"
    assert ask(answer("", "length")).token == "", "a server may keep its reasoning to itself"


def test_part_of_an_answer_that_a_filter_cut_is_shown_with_its_end() -> None:
    found = ask(answer("fi", "content_filter"))
    assert (found.token, found.finish_reason) == ("fi", "content_filter")


def test_an_endpoint_is_asked_without_torch() -> None:
    """Several are asked side by side, each by a process of its own."""
    script = (
        "import sys, engine.tools.probe; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
