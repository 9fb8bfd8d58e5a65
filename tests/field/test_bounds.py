"""Limits and redaction stand at the mouth: of every status, decompressed, before anything is parsed, cut or quoted."""

import base64
import gzip
import html
import json
import socket
import threading
import time
import tracemalloc
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from field.replies import answered, body

from engine.base import api_keys
from engine.base.errors import EndpointError
from engine.config.endpoint import EndpointConfig
from engine.teachers import teacher_kinds
from engine.teachers.endpoint.failure import Failure, meaning
from engine.teachers.endpoint.model_list import list_models
from storage.records import Model, Request, Response, Sampling

KEY = "sk-canary/0123456789+ABCDEFGHIJ&klm=nopqrstuvwx"
MIB = 2**20
Pieces = Iterator[bytes]


class Mouth:
    """A server that answers every request with the bytes that it is told to, for as long as it is listened to."""

    def __init__(self, head: bytes, pieces: Callable[[], Pieces]) -> None:
        self.sent = 0
        self._head, self._pieces = head, pieces
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            read = b""
            while b"\r\n\r\n" not in read:
                read += connection.recv(65536)
            connection.sendall(self._head)
            for piece in self._pieces():
                connection.sendall(piece)
                self.sent += len(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def close(self) -> None:
        self._socket.close()


def ask(
    url: str, monkeypatch: pytest.MonkeyPatch | None = None, **endpoint: Any
) -> tuple[list[Response], str]:
    """The responses to two requests, and what the operator is told."""
    if monkeypatch is not None:
        monkeypatch.setenv("CANARY", KEY)
    retry = {"tries": 1, "failures": 2, "probes": 1, "cooldown": 0.01, "max_wait": 1}
    options = {
        "base_url": url,
        "endpoint": {"read_timeout": 20, "concurrency": {"start": 1, "max": 1}, "retry": retry, **endpoint},
    }
    options |= {} if monkeypatch is None else {"api_key_env": "CANARY"}
    model = Model("far", "teacher", "openai", "m", options=options)
    asked = [
        Request(key, ({"role": "user", "content": f"q {key}"},), Sampling(max_tokens=48)) for key in range(2)
    ]
    given: list[Response] = []
    with closing(teacher_kinds.open_backend(model)) as backend:
        try:
            given.extend(backend.generate(asked))
        except EndpointError as problem:
            return given, str(problem)
    return given, ""


def head(status: int, *headers: str) -> bytes:
    return "\r\n".join(
        [f"HTTP/1.1 {status} Whatever", "content-type: application/json", *headers, "", ""]
    ).encode()


def endless() -> Pieces:
    while True:
        yield b" " * 65536


def endless_chunks() -> Pieces:
    while True:
        yield b"10000\r\n" + b" " * 65536 + b"\r\n"


def endless_chunk() -> Pieces:
    yield b"fffffffffff\r\n"
    yield from endless()


def endless_size() -> Pieces:
    while True:
        yield b"0" * 65536


def endless_members() -> Pieces:
    member = gzip.compress(b" " * MIB)
    while True:
        yield member


def bomb() -> Pieces:
    squeezed = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * MIB
    for _ in range(128):
        yield squeezed.compress(block)
    yield squeezed.flush()


ENDLESS: dict[str, tuple[tuple[str, ...], Callable[[], Pieces]]] = {
    "body": ((), endless),
    "chunks": (("transfer-encoding: chunked",), endless_chunks),
    "one chunk": (("transfer-encoding: chunked",), endless_chunk),
    "a chunk's size": (("transfer-encoding: chunked",), endless_size),
    "a long length": ((f"content-length: {10**12}",), endless),
    "gzip's members": (("content-encoding: gzip",), endless_members),
    "a gzip bomb": (("content-encoding: gzip",), bomb),
}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        *((name, 200 + 300 * (place % 2)) for place, name in enumerate(ENDLESS)),
        ("body", 404),
        ("a gzip bomb", 429),
    ],
)
def test_no_body_of_any_status_is_read_without_a_bound(name: str, status: int) -> None:
    headers, pieces = ENDLESS[name]
    with closing(Mouth(head(status, *headers), pieces)) as server:
        began = time.monotonic()
        tracemalloc.start()
        try:
            given, told = ask(server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert time.monotonic() - began < 15
        assert peak < 64 * MIB
        assert server.sent < 64 * MIB
        assert {one.status for one in given} <= {"error"}
        assert told or given
        if status != 200 and name != "a chunk's size":
            assert f"HTTP {status}" in told + "".join(one.error for one in given)
        before = server.sent
        with pytest.raises(EndpointError):
            list_models(server.url, None, EndpointConfig())
        assert server.sent - before < 64 * MIB


@pytest.mark.parametrize("name", ["gzip", "deflate", "x-gzip", "identity", "gzip in two members"])
def test_a_body_that_is_compressed_unasked_is_read(name: str) -> None:
    whole = body("The sum is 4. " + "0" * 9000, usage={"completion_tokens": 4})
    packed = {
        "gzip": gzip.compress(whole),
        "x-gzip": gzip.compress(whole),
        "deflate": zlib.compress(whole),
        "identity": whole,
        "gzip in two members": gzip.compress(whole[:99]) + gzip.compress(whole[99:]),
    }[name]
    sent = head(200, f"content-encoding: {name.split()[0]}", f"content-length: {len(packed)}")
    with closing(Mouth(sent, lambda: iter([packed]))) as server:
        given, told = ask(server.url)
    assert (told, [one.text[:13] for one in given]) == ("", ["The sum is 4."] * 2)
    assert len(given[0].text) == 9014


@pytest.mark.parametrize(
    ("encoding", "packed"), [("br", b"x"), ("zstd", b"x"), ("gzip", b"no gzip"), ("gzip, gzip", b"x")]
)
def test_what_cannot_be_decompressed_is_a_fault(encoding: str, packed: bytes) -> None:
    with closing(Mouth(head(200, f"content-encoding: {encoding}"), lambda: iter([packed]))) as server:
        given, told = ask(server.url)
    assert "compressed" in told + "".join(one.error for one in given)


def test_a_list_of_models_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.teachers.endpoint.model_list.LIST_S", 0.3)

    def drops() -> Pieces:
        while True:
            time.sleep(0.05)
            yield b" "

    with (
        closing(Mouth(head(200), drops)) as server,
        pytest.raises(EndpointError, match=r"no whole list of models"),
    ):
        list_models(server.url, None, EndpointConfig())


WRITTEN: dict[str, Callable[[str], str]] = {
    "plainly": str,
    "in JSON": lambda key: json.dumps(key)[1:-1],
    "in JSON with slashes": lambda key: key.replace("/", "\\/"),
    "in JSON, every sign": lambda key: "".join(f"\\u{ord(sign):04x}" for sign in key),
    "in JSON, every sign, in capitals": lambda key: "".join(f"\\u{ord(sign):04X}" for sign in key),
    "in JSON, some signs": lambda key: (
        key.replace("&", "\\u0026").replace("=", "\\u003d").replace("+", "\\u002B")
    ),
    "in JSON within JSON": lambda key: json.dumps("".join(f"\\u{ord(sign):04x}" for sign in key))[1:-1],
    "in Python": lambda key: "".join(f"\\\\x{ord(sign):02x}" for sign in key),
    "in a URL": lambda key: urllib.parse.quote(key, safe=""),
    "in a URL, twice": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
    "in a URL, every sign": lambda key: "".join(f"%{ord(sign):02x}" for sign in key),
    "in HTML": html.escape,
    "in HTML, every sign": lambda key: "".join(f"&#{ord(sign)};" for sign in key),
    "in HTML, in hexadecimal": lambda key: "".join(f"&#x{ord(sign):X};" for sign in key),
    "in base64": lambda key: base64.b64encode(key.encode()).decode(),
    "in base64 of a header": lambda key: base64.b64encode(f"Bearer {key}\n".encode()).decode(),
    "in base64 of a user's name": lambda key: base64.urlsafe_b64encode(f"user:{key}".encode()).decode(),
    "cut at its end": lambda key: key[:30] + "...",
    "cut at its beginning": lambda key: "..." + key[-30:],
}


def leaks(text: str) -> bool:
    """Whether eight signs of the key, or of its base64, can be read in a text, whatever wrote it."""
    plain = text
    for _ in range(3):
        plain = urllib.parse.unquote(html.unescape(plain))
        with suppress(UnicodeDecodeError):
            plain = plain.encode("latin-1", "replace").decode("unicode_escape")
    coded = [base64.b64encode(b"x" * shift + KEY.encode()).decode()[4:-4] for shift in range(3)]
    parts = {whole[place : place + 12] for whole in (KEY, *coded) for place in range(len(whole) - 12)}
    return any(line[place : place + 12] in parts for line in (text, plain) for place in range(len(line)))


PLACES: dict[str, Callable[[str], tuple[int, str]]] = {
    "an error's message": lambda key: (400, f'{{"error": {{"message": "no such key: {key}", "code": "x"}}}}'),
    "after 290 signs": lambda key: (400, f'{{"error": {{"message": "{"x" * 290}{key} and more"}}}}'),
    "after 70 signs of no JSON": lambda key: (200, "x" * 60 + key + " and more"),
    "a page": lambda key: (500, f"<html><title>{key}</title><body>{key}</body></html>"),
    "an unknown error": lambda key: (422, f'{{"odd": ["{key}"]}}'),
    "a validation error": lambda key: (
        422,
        f'{{"detail": [{{"loc": ["header", "{key}"], "msg": "bad {key}"}}]}}',
    ),
    "an upstream's body": lambda key: (
        400,
        f'{{"error": {{"message": "x", "metadata": {{"raw": "said {key}"}}}}}}',
    ),
    "an error in a 200": lambda key: (200, f'{{"error": {{"message": "{key}", "code": 429}}}}'),
    "a response": lambda key: (200, body("KEY").decode().replace("KEY", key)),
    "its reasoning": lambda key: (200, body("4", reasoning_content="KEY").decode().replace("KEY", key)),
    "a refusal": lambda key: (200, body(None, refusal="KEY").decode().replace("KEY", key)),
    "a finish_reason": lambda key: (200, body("4", finish="KEY").decode().replace("KEY", key)),
    "a wrong key": lambda key: (200, f'{{"choices": [{{"{key}": 1}}]}}'),
}


def seen(status: int, raw: bytes) -> list[str]:
    """What is kept, and told, of a reply, by the steps of the client."""
    least = api_keys.MIN_PART if status >= 400 else api_keys.MIN_SECRET
    raw = api_keys.redacted_body(raw, KEY, least)
    try:
        if status >= 400:
            raise meaning(status, raw, {}, time.time())
        found = answered(raw)
    except Failure as problem:
        return [api_keys.redacted(problem.message, KEY)]
    return [found.text, found.reasoning, found.error, found.finish_reason]


@pytest.mark.parametrize("written", WRITTEN)
def test_the_key_comes_back_in_nothing_however_it_is_written(written: str) -> None:
    for place, made in PLACES.items():
        if written.startswith("cut") and made("")[0] == 200 and "error" not in place:
            continue  # a part of a key within a response is a text like any other
        status, sent = made(WRITTEN[written](KEY))
        found = seen(status, sent.encode())
        assert any(found), place
        assert not any(map(leaks, found)), (place, found)


@pytest.mark.parametrize("place", PLACES)
def test_the_client_takes_these_steps(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, sent = PLACES[place](KEY)
    raw = sent.encode()
    with closing(Mouth(head(status, f"content-length: {len(raw)}"), lambda: iter([raw]))) as server:
        given, told = ask(server.url, monkeypatch)
    found = [
        told,
        *(part for one in given for part in (one.text, one.reasoning, one.error, one.finish_reason)),
    ]
    assert any(found)
    assert not any(map(leaks, found)), found


def test_the_key_comes_back_in_no_other_encoding_and_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-16", "utf-16-be", "utf-32-le", "utf-8-sig"):
        raw = json.dumps({"error": {"message": f"bad {KEY}"}}).encode(encoding)
        with closing(Mouth(head(400, f"content-length: {len(raw)}"), lambda raw=raw: iter([raw]))) as server:  # type: ignore[misc]
            given, told = ask(server.url, monkeypatch)
        assert not leaks(told + "".join(one.error for one in given).replace("\0", "")), encoding
    for line in (
        f"HTTP/1.1 401 {KEY}",
        f"HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:9/{KEY}",
        f"HTTP/1.1 429 x\r\nretry-after: {KEY}",
    ):
        with closing(Mouth(f"{line}\r\ncontent-length: 0\r\n\r\n".encode(), lambda: iter([]))) as server:
            given, told = ask(server.url, monkeypatch)
        assert not leaks(told + "".join(one.error for one in given)), line
    raw = json.dumps({"data": [{"id": KEY}]}).encode()
    with closing(Mouth(head(200, f"content-length: {len(raw)}"), lambda: iter([raw]))) as server:
        assert not any(map(leaks, list_models(server.url, KEY, EndpointConfig())))


def test_what_is_no_secret_stays() -> None:
    assert api_keys.redacted("HTTP 400: use sk-… at http://h/v1", KEY) == "HTTP 400: use sk-… at http://h/v1"
    assert api_keys.redacted("proxy http://u:p4ss@h:1 fails", None) == "proxy http://u:***@h:1 fails"
    said = b'{"content": "ask lm-studio"}'
    assert api_keys.redacted_body(said, "lm-studio", api_keys.MIN_SECRET) == said
