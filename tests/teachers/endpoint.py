"""A scripted HTTP server that answers like an OpenAI-compatible endpoint, or misbehaves as told."""

import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server does with one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    reset_after: int | None = None
    """Bytes of the body after which the connection is reset."""
    pieces: int = 1
    """Parts in which the body is sent, each of them on its own."""
    hold: threading.Event | None = None
    """Waited for before each part but the first; before everything when there is one part."""


def answer(text: str | None = "ok", finish: str = "stop", **message: Any) -> Reply:
    """A good reply: prompt of 10 tokens, answer of 5."""
    choice = {"index": 0, "finish_reason": finish, "text": text}
    choice["message"] = {"role": "assistant", "content": text, **message}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return Reply(body=json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode())


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "code": code, "type": "t", "param": None}}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


Script = Callable[[dict[str, Any], int], Reply]
"""From a request's body and its number, counted from 0, to what is done."""


class Endpoint:
    """A server on a free port of this machine; every request is kept."""

    def __init__(self, script: Script | None = None, models: tuple[str, ...] = ("m",), port: int = 0) -> None:
        self.script: Script = script or (lambda body, number: answer())
        self.models = models
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.most_in_flight = 0
        self.in_flight = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer._send(
                    self, Reply(body=json.dumps({"data": [{"id": m} for m in outer.models]}).encode())
                )

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer._lock:
                    number = len(outer.requests)
                    outer.requests.append(body)
                    outer.headers.append({key.lower(): value for key, value in self.headers.items()})
                    outer.paths.append(self.path)
                    outer.in_flight += 1
                    outer.most_in_flight = max(outer.most_in_flight, outer.in_flight)
                try:
                    reply = outer.script(body, number)
                    if reply.hold is not None and reply.pieces == 1:
                        reply.hold.wait(60)
                finally:
                    with outer._lock:
                        outer.in_flight -= 1
                outer._send(self, reply)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that went away

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.send_response(reply.status)
        handler.send_header("content-length", str(len(reply.body)))
        handler.send_header("content-type", reply.headers.pop("content-type", "application/json"))
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if reply.reset_after is not None:
            handler.wfile.write(reply.body[: reply.reset_after])
            handler.wfile.flush()
            # Closed with nothing lingering: the peer sees a reset, not an end.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            handler.connection.close()
            return
        size = -(-len(reply.body) // reply.pieces) or 1
        for start in range(0, len(reply.body), size):
            if start and reply.hold is not None:
                reply.hold.wait(0.05)
            handler.wfile.write(reply.body[start : start + size])
            handler.wfile.flush()

    def close(self) -> None:
        """Stops listening; the port is refused from now on."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
