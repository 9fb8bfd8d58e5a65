"""The server of `persyn serve`: it answers its own page, and no other page that a browser has open."""

import asyncio
import json
import logging
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("textual_serve", reason="the extra `serve` is not installed")

from aiohttp import ClientResponse, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer

from persyn_tui.web.server import Guarded

ECHO = """
import os
os.write(1, b"__GANGLION__\\n")
while (data := os.read(0, 65536)) and b"quit" not in data:
    os.write(1, b"D" + len(data).to_bytes(4, "big") + data)
"""
"""An app that sends back what it is sent."""


@pytest.fixture(autouse=True)
async def no_app_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The library tells an app to end and does not wait for it."""
    started, start = list[asyncio.subprocess.Process](), asyncio.create_subprocess_shell

    async def kept(*line: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*line, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_shell", kept)
    yield
    for process in started:
        await asyncio.wait_for(process.wait(), 20)


@asynccontextmanager
async def serving(host: str = "127.0.0.1") -> AsyncIterator[TestClient]:
    server = Guarded(f"{sys.executable} -c '{ECHO}'", host=host, port=8000)
    async with TestClient(TestServer(await server._make_app())) as client:
        yield client


async def get(client: TestClient, host: str, path: str = "/", **headers: str) -> ClientResponse:
    answer: ClientResponse = await client.get(path, headers={"Host": host, **headers})
    return answer


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000"])
async def test_loopback_names_are_answered_whatever_the_port(host: str) -> None:
    """`ssh -L 9000:localhost:8000` is another port."""
    async with serving() as client:
        for name in (host, host.replace(":8000", ":9000")):
            answer = await get(client, name)
            assert answer.status == 200
            page = await answer.text()
            assert f"ws://{name}/ws" in page, "the page reaches the server as the browser does"
            assert f"http://{name}/static/" in page
    assert "PerSyn" in page


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "x@127.0.0.1", "0.0.0.0:8000", "", "a b"],
)
@pytest.mark.parametrize("path", ["/", "/ws", "/static/js/textual.js", "/nowhere"])
async def test_a_foreign_name_is_refused_everywhere(host: str, path: str) -> None:
    async with serving() as client:
        answer = await get(client, host, path)
        said = await answer.text()
    assert answer.status == 403
    assert "--public" in said
    assert "textual" not in said


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("gpubox.lab:8000", 200),
        ("GPUBOX.lab", 200),
        ("192.0.2.7:8000", 200),
        ("[2001:db8::7]:8000", 200),
        ("localhost:8000", 200),
        ("other.lab:8000", 403),
        ("evil.example", 403),
    ],
)
async def test_public_answers_its_own_name_and_any_address(host: str, status: int) -> None:
    """An address cannot be rebound; behind a router the machine does not know its own."""
    async with serving("gpubox.lab") as client:
        assert (await get(client, host)).status == status


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://evil.example:8000",
        "https://127.0.0.1.evil.example:8000",
        "http://127.0.0.1:3000",
        "http://127.0.0.1",
        "null",
        "file://",
        "http://127.0.0.1:8000@evil.example",
    ],
)
async def test_a_page_of_another_origin_cannot_drive_the_app(origin: str) -> None:
    async with serving() as client:
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect("/ws", headers={"Host": "127.0.0.1:8000", "Origin": origin})
        assert refused.value.status == 403
        answer = await get(client, "127.0.0.1:8000", Origin=origin)
        assert answer.status == 403
        assert "another page" in await answer.text()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost:9000", "http://LOCALHOST:9000"),
        ("localhost", "http://localhost"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("127.0.0.1:8000", None),
    ],
)
async def test_the_own_page_drives_the_app(host: str, origin: str | None) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    async with serving() as client, client.ws_connect("/ws", headers=headers) as socket:
        await socket.send_str(json.dumps(["stdin", "j"]))
        assert (await socket.receive_bytes(timeout=20)).endswith(b"j")
        await socket.send_str(json.dumps(["ping", "7"]))
        assert await socket.receive_json(timeout=20) == ["pong", "7"]


async def test_the_page_asks_nobody_else_and_stands_in_no_frame() -> None:
    async with serving() as client:
        answer = await get(client, "localhost:8000")
        headers, page = answer.headers, await answer.text()
        named = re.findall(r'(?<!-)\b(?:href=|src=|url\()"([^"]+)', page)
        assert len(named) == 4, named
        for link in (link for link in named if link != "data:,"):
            assert link.startswith("http://localhost:8000/static/")
            assert (
                await get(client, "localhost:8000", link.removeprefix("http://localhost:8000"))
            ).status == 200
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self' ws://localhost:8000 wss://localhost:8000"
    assert "http" not in policy["style-src"] + policy["font-src"] + policy["script-src"]


@pytest.mark.parametrize("sent", ["no JSON", "7", "{}", "[]", "[7]", "[" * 100_000, '"stdin"'])
async def test_a_message_that_is_none_ends_its_connection_quietly(
    sent: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="textual-serve"):
        async with serving() as client, client.ws_connect("/ws", headers={"Host": "localhost"}) as socket:
            await socket.send_str(sent)
            message = await socket.receive(timeout=20)
            assert message.type == WSMsgType.CLOSE
            assert message.data == 1003
    assert "Traceback" not in caplog.text + "".join(capsys.readouterr())
    assert not caplog.records


@pytest.mark.parametrize(
    "sent",
    [
        ["stdin"],
        ["stdin", 7],
        ["resize"],
        ["resize", {"width": "x", "height": 3}],
        ["resize", {"width": 0, "height": 3}],
        ["resize", {"width": 10**9, "height": 3}],
        ["new", {}],
    ],
)
async def test_what_does_not_fit_a_message_is_passed_over(sent: list[object]) -> None:
    async with serving() as client, client.ws_connect("/ws", headers={"Host": "localhost"}) as socket:
        await socket.send_str(json.dumps(sent))
        await socket.send_str(json.dumps(["stdin", "j \ud800"]))
        assert (await socket.receive_bytes(timeout=20)).endswith(b"j ?")
